"""Files, in the shapes of OpenAI's API ("The file object")."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from schemas.json_schema import described

A_FILE = "file-019ac0de7b1f0c526d4e8a309c112f8e"


class Purpose(StrEnum):
    """What a file is for: only a label, by which lists can be filtered."""

    ASSISTANTS = "assistants"
    BATCH = "batch"
    EVALS = "evals"
    FINE_TUNE = "fine-tune"
    USER_DATA = "user_data"
    VISION = "vision"


def _absent(value: object) -> bool:
    return value is None


class FileObject(BaseModel):
    """A file. Its bytes are at `/v1/files/{id}/content`."""

    id: Annotated[str, described("The file's id.", A_FILE)]
    object: Annotated[Literal["file"], described("Always `file`.")] = "file"
    bytes: Annotated[int, described("Its length in bytes.", 120000)]
    created_at: Annotated[int, described("When it was uploaded, in seconds since 1970.", 1769860798)]
    expires_at: Annotated[int, described("When it expires, in seconds since 1970.", 1772452798)]
    filename: Annotated[str, described("The name that it was uploaded with.", "report.pdf")]
    purpose: Annotated[Purpose, described("What it is for.")]
    status: Annotated[Literal["processed"], described("Always `processed`: it can be used at once.")] = "processed"
    owner: Annotated[str | None, described("The owner; only for admins. Empty: the tenant itself.", "key:nightly")] = (
        Field(None, exclude_if=_absent)
    )


class FileList(BaseModel):
    """One page of files."""

    object: Annotated[Literal["list"], described("Always `list`.")] = "list"
    data: Annotated[list[FileObject], described("The files of the page.")]
    has_more: Annotated[bool, described("Whether there are more files after these.", False)]
    first_id: Annotated[str | None, described("Id of the first file; absent if the page is empty.", A_FILE)] = Field(
        None, exclude_if=_absent
    )
    last_id: Annotated[
        str | None, described("Id of the last file, the `after` of the next page; absent if the page is empty.", A_FILE)
    ] = Field(None, exclude_if=_absent)


class DeletedFile(BaseModel):
    """Response to `DELETE /v1/files/{id}`."""

    id: Annotated[str, described("The file's id.", A_FILE)]
    object: Annotated[Literal["file"], described("Always `file`.")] = "file"
    deleted: Annotated[Literal[True], described("Always true.")] = True

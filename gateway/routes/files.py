"""Files: upload, list, get, download, delete. Shapes and paths are those of OpenAI's API."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from gateway.files import Files
from gateway.http import openapi
from gateway.http.ranges import read_range
from gateway.http.responses import json_answer
from gateway.http.route import Call, Route
from gateway.http.uploads import Upload
from gateway.people.principal import Principal
from gateway.people.standing import Standing
from orchestra.http.hot_routes import NOT_KEPT
from orchestra.store import files
from orchestra.store.database import Database
from orchestra.store.files import StoredFile, is_id
from schemas import fields
from schemas.api.audit import Action
from schemas.api.files import A_FILE, DeletedFile, FileList, FileObject, Purpose
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError

# OpenAI's clients may ask for 10,000. A page is no longer than this; `has_more` says so.
_MAX_PAGE = 1000
_RANGE = openapi.header("Range", "One range of bytes: the answer is a 206 with this part.", "bytes=0-1023")
_IF_RANGE = openapi.header(
    "If-Range", "The `ETag` of an earlier answer. If the file has another one, the whole file is sent.", '"9f86d0"'
)
_BYTES = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}

Limit = Annotated[int, Query(ge=1, le=10_000, description=fields.LIMIT.description, examples=fields.LIMIT.examples)]
After = Annotated[
    str | None, Query(max_length=64, description="Return the files after the one with this id.", examples=[A_FILE])
]
Order = Annotated[Literal["asc", "desc"], Query(description="By time of upload: oldest first, or newest first.")]
OfPurpose = Annotated[Purpose | None, Query(description="Only files for this purpose.")]


class FileRoutes:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, kept: Files) -> None:
        self._database = database
        self._files = kept

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one = "/v1/files", "/v1/files/{file_id}"
        file = {"model": FileObject, "description": "The file"}
        page = {"model": FileList, "description": "One page"}
        gone = {"model": DeletedFile, "description": "Deleted"}
        content: openapi.Responses = {
            200: {"description": "The whole file, with its own content type", **_BYTES},
            206: {"description": "The part that `Range` names", **_BYTES},
        }
        refused = (
            ErrorCode.FILE_TOO_LARGE, ErrorCode.QUOTA_EXCEEDED, ErrorCode.NOT_SUPPORTED, ErrorCode.TOO_SLOW,
            ErrorCode.OWNER_ERASED,
        )  # fmt: skip
        missing = (ErrorCode.FILE_NOT_FOUND,)
        return [
            Route("POST", path, self.create_file, Scope.WRITE, {200: file}, also=refused, upload=True),
            Route("GET", path, self.list_files, Scope.READ, {200: page}, lists=True),
            Route("GET", one, self.get_file, Scope.READ, {200: file}, also=missing),
            Route(
                "GET", f"{one}/content", self.get_file_content, Scope.READ, content,
                also=(*missing, ErrorCode.NOT_SUPPORTED), headers=[_RANGE, _IF_RANGE],
            ),
            Route("DELETE", one, self.delete_file, Scope.WRITE, {200: gone}, also=missing, action=Action.FILE_DELETE),
        ]  # fmt: skip

    async def create_file(self, call: Call[None]) -> Response:
        """Upload a file.

        The fields of the form may be in any order. The file expires at `expires_at`, by default 30 days after its
        upload.
        """
        kept = await self._files.receive(call.caller, Upload(call.request))
        return json_answer(_shown(kept, call.caller))

    async def list_files(
        self,
        call: Call[None],
        limit: Limit = 100,
        after: After = None,
        order: Order = "desc",
        purpose: OfPurpose = None,
    ) -> Response:
        """List the caller's files.

        Admins see those of all owners of the tenant. A page has at most 1,000 files, even if `limit` is higher.
        """
        if after is not None and not is_id(after):
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "after: not the id of a file")
        caller, most = call.caller, min(limit, _MAX_PAGE)
        found = await files.page(
            self._database, caller.tenant, caller.only, purpose=purpose, place=after, oldest_first=order == "asc",
            limit=most + 1,
        )  # fmt: skip
        data = [_shown(each, caller) for each in found[:most]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return json_answer(FileList(data=data, has_more=len(found) > most, first_id=first, last_id=last))

    async def get_file(self, call: Call[None], file_id: str) -> Response:
        """Get a file, without its bytes."""
        return json_answer(_shown(await self._find(call.caller, file_id), call.caller))

    async def get_file_content(self, call: Call[None], file_id: str) -> Response:
        """Get the bytes of a file.

        The content type is derived from the first bytes of the file, not from what its uploader claimed.
        """
        file = await self._find(call.caller, file_id)
        etag = f'"{file.sha256}"'
        part = read_range(call.request, file.bytes, etag)
        start, stop = part or (0, file.bytes)
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
            "Content-Length": str(stop - start),
            "ETag": etag,
            **{name.decode(): value.decode() for name, value in NOT_KEPT},
        }
        if part:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.bytes}"
        chunks = _while_allowed(await self._files.content(file, start, stop), call.standing())
        return StreamingResponse(chunks, 206 if part else 200, headers, media_type=file.media_type)

    async def delete_file(self, call: Call[None], file_id: str) -> Response:
        """Delete a file."""
        caller = call.caller
        tenant, only = caller.tenant, caller.only
        if not is_id(file_id) or not await files.mark_deleted(self._database, tenant, file_id, only, call.by):
            raise OrchestraError(ErrorCode.FILE_NOT_FOUND)
        return json_answer(DeletedFile(id=file_id))

    async def _find(self, caller: Principal, id: str) -> StoredFile:
        found = await files.find(self._database, caller.tenant, id, caller.only) if is_id(id) else None
        if found is None:
            raise OrchestraError(ErrorCode.FILE_NOT_FOUND)
        return found


def _shown(file: StoredFile, caller: Principal) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at.timestamp()),
        expires_at=int(file.expires_at.timestamp()),
        filename=file.filename,
        purpose=Purpose(file.purpose),
        owner=file.owner if caller.admin else None,
    )


async def _while_allowed(chunks: AsyncIterator[bytes], standing: Standing) -> AsyncIterator[bytes]:
    """The chunks, until the caller loses access."""
    async for chunk in chunks:
        await standing.check()
        yield chunk

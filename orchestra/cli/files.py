"""``orchestra files``: upload, list, download and delete files, over HTTP."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from orchestra.cli.calls import calling, delete_each, failing
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key, fail
from orchestra.cli.terminal import bytes_out, echo, hand_over, print_list
from schemas.api.files import FileObject, Purpose
from schemas.errors import ErrorCode

if TYPE_CHECKING:
    from orchestra.client import Client

_MAX_PAGE = 1000

Id = Annotated[str, typer.Argument(help="Id of the file.")]


def build() -> typer.Typer:
    """The verbs of ``orchestra files``."""
    group = typer.Typer(
        help="Files that a gateway keeps: upload, list, show, download, delete. Exit code 1 if something failed.",
        no_args_is_help=True,
    )
    for verb in (list_, upload, show, download, delete):
        group.command(name=verb.__name__.rstrip("_"))(verb)
    return group


def list_(
    *,
    purpose: Annotated[Purpose | None, typer.Option(help="Only files for this purpose.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")] = 20,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """List files, newest first. Admins see those of all owners."""
    with calling(gateway_of(gateway, data), key) as client:
        found = list(islice(client.files.list(purpose=purpose, page_size=min(limit, _MAX_PAGE)), limit))
    if as_json:
        hand_over(json.dumps([each.model_dump(mode="json") for each in found], indent=2))
        return
    if not found:
        echo("no such files" if purpose else "no files")
        return
    print_list(_table(found))


def upload(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="File to upload.")],
    *,
    purpose: Annotated[Purpose, typer.Option(help="What the file is for.")] = Purpose.USER_DATA,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Upload a file, and print its id alone on stdout."""
    with calling(gateway_of(gateway, data), key) as client:
        kept = _store(client, path, purpose)
    echo(kept.id)
    echo(f"{kept.bytes} bytes, expires {_moment(kept.expires_at)}", err=True)


def show(
    file_id: Id, *, as_json: AsJson = False, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA
) -> None:
    """Show a file's name, length, purpose and times."""
    with calling(gateway_of(gateway, data), key) as client:
        found = client.files.get(file_id)
    if as_json:
        hand_over(found.model_dump_json(indent=2))
        return
    lines = {
        "file": found.id,
        "name": found.filename,
        "bytes": str(found.bytes),
        "purpose": found.purpose,
        "uploaded": _moment(found.created_at),
        "expires": _moment(found.expires_at),
    }
    if found.owner is not None:
        lines["owner"] = found.owner or "the tenant"
    for name, text in lines.items():
        echo(f"{name:<9} {text}")


def download(
    file_id: Id,
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write it; `-`: standard output. Default: its own name, in the current folder.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Download a file. It gets its final name once it is complete."""  # fmt: skip
    with calling(gateway_of(gateway, data), key) as client:
        if output == "-":
            if (out := bytes_out()) is None:
                raise fail("standard output is a terminal: redirect it, or name a file with --output")
            client.files.download(file_id, out)
            return
        target = Path(output or _safe_name(client.files.get(file_id).filename))
        if target.exists() and not force:
            raise fail(f"{target} exists: choose another name with --output, or replace it with --force")
        with _named(target):
            client.files.download(file_id, target)
    echo(str(target), err=True)


def delete(
    file_ids: Annotated[list[str], typer.Argument(help="Ids of the files.")],
    *,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Delete files."""
    delete_each(gateway_of(gateway, data), key, file_ids, lambda client, id: client.files.delete(id))


def upload_for_message(gateway: str, key: str | None, path: Path) -> str | None:
    """Upload a file that is too large for a message. Its id; None if the gateway keeps no files.

    If it fails otherwise, exit code 1 with the reason.
    """
    from orchestra.client import ClientError

    with calling(gateway, key) as client, failing(f"{path}: "):
        try:
            kept = _store(client, path, Purpose.USER_DATA)
        except ClientError as error:
            if error.code == ErrorCode.NOT_SUPPORTED or error.status == HTTPStatus.NOT_FOUND:
                return None  # An older gateway has no such route.
            raise
    echo(f"{path} uploaded as {kept.id}", err=True)
    return kept.id


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Exit with code 1 and the reason if this path cannot be used."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise fail(f"{path}: {getattr(error, 'strerror', None) or 'is not a file name'}") from None


def _store(client: "Client", path: Path, purpose: Purpose) -> FileObject:
    with _named(path):
        return client.files.upload(path, purpose=purpose)


def _table(found: Sequence[FileObject]) -> Table:
    table = Table(Column("file", overflow="fold"), "what")
    for each in found:
        lines = [f"{each.bytes} bytes, {each.purpose}"]
        lines += [f"uploaded {_moment(each.created_at)}, expires {_moment(each.expires_at)}"]
        lines += [f"of {each.owner}"] if each.owner else []
        table.add_row(f"{each.id}\n{each.filename}", "\n".join(lines))
    return table


def _safe_name(text: str) -> str:
    """The name that a gateway gives, unless it leads to another folder."""
    if text in {"", ".", ".."} or "/" in text or "\0" in text:
        raise fail("the name of this file cannot be used here: choose one with --output")
    return text


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")

"""``orchestra files``: upload, list, download and delete files, over HTTP."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.table import Column, Table

from orchestra.cli.calls import answer_of, calling, name_of, refused
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, Data, GatewayUrl, Key, fail
from orchestra.cli.terminal import Terminal, bytes_out, echo, hand_over
from schemas.api.files import Purpose

if TYPE_CHECKING:
    import httpx

_PATH = "/v1/files"
_MAX_PAGE = 1000
_SHOWN = {"id", "bytes", "created_at", "expires_at", "filename", "purpose"}

Id = Annotated[str, typer.Argument(help="Id of the file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
    found: list[dict[str, Any]] = []
    asked = {"purpose": purpose.value} if purpose else {}
    with calling(gateway_of(gateway, data), key) as client:
        more = True
        while more and len(found) < limit:
            place = {"after": found[-1]["id"]} if found else {}
            params = {**asked, **place, "limit": min(limit - len(found), _MAX_PAGE)}
            page = _ask(client, "GET", "", params=params)
            found, more = found + page["data"], page["has_more"]
    if as_json:
        hand_over(json.dumps(found, indent=2))
        return
    if not found:
        echo("no such files" if asked else "no files")
        return
    # A file or a pipe has no width to fit a line into.
    Terminal(width=None if sys.stdout.isatty() else 200).print(_table(found))


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
    echo(kept["id"])
    echo(f"{kept['bytes']} bytes, expires {_moment(kept['expires_at'])}", err=True)


def show(
    file_id: Id, *, as_json: AsJson = False, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA
) -> None:
    """Show a file's name, length, purpose and times."""
    with calling(gateway_of(gateway, data), key) as client:
        found = _ask(client, "GET", f"/{_segment(file_id)}")
    if as_json:
        hand_over(json.dumps(found, indent=2))
        return
    lines = {
        "file": found["id"],
        "name": found["filename"],
        "bytes": str(found["bytes"]),
        "purpose": found["purpose"],
        "uploaded": _moment(found["created_at"]),
        "expires": _moment(found["expires_at"]),
    }
    if "owner" in found:
        lines["owner"] = found["owner"] or "the tenant"
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
    """Download a file. It appears under its name when all of it has arrived."""  # fmt: skip
    with calling(gateway_of(gateway, data), key) as client:
        if output == "-":
            if (out := bytes_out()) is None:
                raise fail("standard output is a terminal: redirect it, or name a file with --output")
            _fetch(client, file_id, out)
            return
        target = Path(output or _safe_name(_ask(client, "GET", f"/{_segment(file_id)}")["filename"]))
        if target.exists() and not force:
            raise fail(f"{target} exists: choose another name with --output, or replace it with --force")
        with _appearing(target) as file:
            _fetch(client, file_id, file)
    echo(str(target), err=True)


def delete(
    file_ids: Annotated[list[str], typer.Argument(help="Ids of the files.")],
    *,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Delete files."""
    failed = 0
    with calling(gateway_of(gateway, data), key) as client:
        for each in file_ids:
            try:
                _ask(client, "DELETE", f"/{_segment(each)}", about=f"{each}: ")
            except typer.Exit:
                failed += 1  # The error is shown; the others are deleted all the same.
    echo(f"{len(file_ids) - failed} deleted, {failed} not", err=True)
    if failed:
        raise typer.Exit(1)


def upload_for_message(gateway: str, key: str | None, path: Path) -> str | None:
    """Upload a file that is too large for a message. Its id; None if the gateway keeps no files.

    If it fails otherwise, exit code 1 with the reason.
    """
    with calling(gateway, key) as client:
        if _keeps_none(client):
            return None
        kept = _store(client, path, Purpose.USER_DATA, about=f"{path}: ")
    echo(f"{path} uploaded as {kept['id']}", err=True)
    return str(kept["id"])


def _keeps_none(client: "httpx.Client") -> bool:
    """Whether the gateway keeps no files: it is an older one, or it refuses even an empty upload for that reason."""
    import httpx

    try:
        response = client.post(_PATH, data={}, files={"purpose": (None, Purpose.USER_DATA.value)})
    except (httpx.HTTPError, httpx.InvalidURL):
        return False  # The upload itself says what is wrong.
    return response.status_code == HTTPStatus.NOT_FOUND or '"not_supported"' in response.text


def _store(client: "httpx.Client", path: Path, purpose: Purpose, about: str = "") -> Any:
    with _reading(path) as file:
        form = {"file": (path.name, file, "application/octet-stream")}
        return _ask(client, "POST", "", about=about, data={"purpose": purpose.value}, files=form)


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(Column("id", no_wrap=True), Column("name", overflow="fold"), "what")
    for each in found:
        lines = [f"{each['bytes']} bytes, {each['purpose']}"]
        lines += [f"uploaded {_moment(each['created_at'])}, expires {_moment(each['expires_at'])}"]
        lines += [f"of {each['owner']}"] if each.get("owner") else []
        table.add_row(each["id"], each["filename"], "\n".join(lines))
    return table


def _ask(client: "httpx.Client", method: str, path: str, *, about: str = "", **more: Any) -> Any:
    return answer_of(client, method, f"{_PATH}{path}", _is_answer, about, **more)


def _is_answer(answer: Any) -> bool:
    match answer:
        case {"data": list(), "has_more": bool()} | {"deleted": True}:
            return True
    return isinstance(answer, dict) and answer.keys() >= _SHOWN


def _fetch(client: "httpx.Client", file_id: str, file: BinaryIO) -> None:
    import httpx

    try:
        with client.stream("GET", f"{_PATH}/{_segment(file_id)}/content") as response:
            if not response.is_success:
                response.read()
                raise refused(client, response)
            file.writelines(response.iter_bytes())
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise fail(f"{name_of(client)} did not send all of it ({type(error).__name__})") from None


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise fail(f"{path}: {getattr(error, 'strerror', None) or 'is not a file name'}") from None
    with file:
        yield file


@contextmanager
def _appearing(target: Path) -> Iterator[BinaryIO]:
    """A new file beside the target, which becomes the target at the end."""
    try:
        number, name = tempfile.mkstemp(dir=target.parent, prefix=".orchestra-")
    except OSError as error:
        raise fail(f"{target}: {error.strerror}") from None
    unfinished = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        unfinished.replace(target)
    except OSError as error:
        raise fail(f"{target}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _segment(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="") or "-"


def _safe_name(text: str) -> str:
    """The name that a gateway gives, unless it leads to another folder."""
    if text in {"", ".", ".."} or "/" in text or "\0" in text:
        raise fail("the name of this file cannot be used here: choose one with --output")
    return text


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")

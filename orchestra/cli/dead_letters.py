"""``orchestra dead-letters``: list, edit and replay the records that could not be taken in, over HTTP."""

import base64
import json
import os
import shlex
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from orchestra.cli.calls import answer_of, calling, failing
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key, fail
from orchestra.cli.terminal import echo, hand_over, print_list
from schemas.errors import ErrorCode

if TYPE_CHECKING:
    from orchestra.client import Client

_PATH = "/v1/dead-letters"

Reason = Annotated[ErrorCode | None, typer.Option(metavar="CODE", help="Only letters refused with this code.")]
TopicOption = Annotated[str | None, typer.Option(help="Only letters from this topic.")]
After = Annotated[
    str | None, typer.Option("--after", help="Only letters kept at or after this time, as 2026-01-31T12:00:00Z.")
]
Before = Annotated[str | None, typer.Option("--before", help="Only letters kept before this time.")]
Id = Annotated[int, typer.Argument(min=0, help="Number of the dead letter.")]


def build() -> typer.Typer:
    """The verbs of ``orchestra dead-letters``."""
    group = typer.Typer(
        help="Records that could not be taken in: list, show, edit, replay. Exit code 1 if something failed.",
        no_args_is_help=True,
    )
    for verb in (list_, show, edit, replay):
        group.command(name=verb.__name__.rstrip("_"))(verb)
    return group


def list_(
    *,
    reason: Reason = None,
    topic: TopicOption = None,
    created_after: After = None,
    created_before: Before = None,
    replayed: Annotated[
        bool | None, typer.Option("--replayed/--not-replayed", help="Only letters that were, or were not, replayed.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")] = 20,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """List dead letters, newest first."""
    asked = {
        **_filter(reason, topic, created_after, created_before),
        **({} if replayed is None else {"replayed": str(replayed).lower()}),
    }
    found: list[dict[str, Any]] = []
    with calling(gateway_of(gateway, data), key) as client:
        cursor = None
        while len(found) < limit:
            page = _ask(client, "GET", "", params={**asked, "limit": min(limit - len(found), 100)} | _cursor(cursor))
            found, cursor = found + page["data"], page["next"]
            if cursor is None:
                break
    if as_json:
        hand_over(json.dumps(found, indent=2))
        return
    if not found:
        echo("no such dead letters" if asked else "no dead letters")
        return
    print_list(_table(found))


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(Column("id", no_wrap=True), Column("reason", no_wrap=True), "record")
    for each in found:
        size = "no value" if each["value_bytes"] is None else f"{each['value_bytes']} bytes"
        place = f"{each['topic']}/{each['partition']}/{each['offset']}, {size}"
        times = {"kept": "created_at", "edited": "edited_at", "replayed": "replayed_at"}
        told = [f"{what} {_moment(each[name])}" for what, name in times.items() if each[name]]
        table.add_row(str(each["id"]), each["reason"], f"{place}, {', '.join(told)}\n{_plain(each['detail'])}")
    return table


def show(
    letter: Id, *, as_json: AsJson = False, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA
) -> None:
    """Show a whole dead letter: why it was refused, and what a replay would send."""
    with calling(gateway_of(gateway, data), key) as client:
        found = _ask(client, "GET", f"/{letter}")
    if as_json:
        hand_over(json.dumps(found, indent=2))
        return
    obstacle = found["obstacle"]
    lines = {
        "letter": str(found["id"]),
        "request": found["request_id"] or "-",
        "refused": f"{found['reason']}: {found['detail']}",
        "record": f"{found['topic']}/{found['partition']}/{found['offset']}",
        "kept": _moment(found["created_at"]),
        "edited": _moment(found["edited_at"]),
        "replayed": _moment(found["replayed_at"]),
        "replay": f"would be refused again, {obstacle['code']}: {obstacle['detail']}" if obstacle else "possible",
        "key": _text(found, "key"),
    }
    for name, text in lines.items():
        echo(f"{name:<9} {_plain(text)}")
    for header in found["headers"]:
        echo(f"{'header':<9} {_plain(header['name'])}: {_plain(_text(header, 'value'))}")
    echo(f"\n{_plain(_text(found, 'value'), lines=True)}")


def edit(
    letter: Id,
    *,
    value: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="File with the new value, used as it is; `-` reads standard input. Default: opens $EDITOR.",
        ),
    ] = None,
    headers: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="Set a header; without VALUE, remove it.")
    ] = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Change what a replay of a dead letter sends. The original record is kept unchanged."""
    with calling(gateway_of(gateway, data), key) as client:
        found = _ask(client, "GET", f"/{letter}")
        change: dict[str, Any] = {}
        if headers:
            change["headers"] = _headers(found["headers"], headers)
        if value is not None:
            change["value_base64"] = base64.b64encode(_read(value)).decode()
        elif not headers:
            change["value"] = _in_editor(found)
        edited = _ask(client, "PUT", f"/{letter}", body=change)
    obstacle = edited["obstacle"]
    if obstacle:
        echo(f"edited; a replay would still be refused, {obstacle['code']}: {obstacle['detail']}", err=True)
    else:
        echo("edited", err=True)


def replay(
    letters: Annotated[list[int] | None, typer.Argument(min=0, help="Numbers of the dead letters.")] = None,
    *,
    reason: Reason = None,
    topic: TopicOption = None,
    created_after: After = None,
    created_before: Before = None,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Replay dead letters: the numbered ones, or all that match the filters and were not replayed before.

    Exit code 1 if some were not replayed.
    """
    wanted = _filter(reason, topic, created_after, created_before)
    if bool(letters) == bool(wanted):
        raise typer.BadParameter("give the numbers of letters, or at least one of --reason, --topic, --after, --before")
    with calling(gateway_of(gateway, data), key) as client:
        told = _replay_each(client, letters) if letters else _replay_all(client, wanted)
    if as_json:
        hand_over(json.dumps(told, indent=2))
    else:
        echo(f"{told['replayed']} replayed, {told['skipped']} not")
    if told["skipped"]:
        raise typer.Exit(1)


def _replay_each(client: "Client", letters: list[int]) -> dict[str, Any]:
    requests: dict[int, str] = {}
    for letter in letters:
        try:
            with failing(f"letter {letter}: "):
                requests[letter] = _ask(client, "POST", f"/{letter}/replay")["replayed_as"]
        except typer.Exit:
            continue  # The error is shown; the others are replayed all the same.
    return {"replayed": len(requests), "skipped": len(letters) - len(requests), "requests": requests}


def _replay_all(client: "Client", wanted: dict[str, str]) -> dict[str, Any]:
    told, cursor, more = {"replayed": 0, "skipped": 0}, None, True
    while more:
        answer = _ask(client, "POST", "/replay", body={**wanted, **_cursor(cursor)})
        told = {name: told[name] + answer[name] for name in told}
        cursor = answer["next"]
        more = cursor is not None
    return told


def _ask(client: "Client", method: str, path: str, **more: Any) -> Any:
    return answer_of(client, method, f"{_PATH}{path}", _is_answer, **more)


def _is_answer(answer: Any) -> bool:
    match answer:
        case {"data": list(), "next": _} | {"replayed": int(), "skipped": int()}:
            return True
        case {"id": _, "obstacle": _, "replayed_as": _}:
            return True
    return False


def _filter(reason: ErrorCode | None, topic: str | None, after: str | None, before: str | None) -> dict[str, str]:
    named = {"reason": reason and reason.value, "topic": topic, "created_after": after, "created_before": before}
    return {name: text for name, text in named.items() if text}


def _cursor(cursor: str | None) -> dict[str, str]:
    return {"cursor": cursor} if cursor else {}


def _read(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        told = f"{source}: {error.strerror}. It takes a file name; `-` reads standard input"
        raise typer.BadParameter(told, param_hint="--value") from None


def _in_editor(found: dict[str, Any]) -> str:
    if found["value_base64"] is not None:
        raise fail("the value is not text: replace it with --value FILE")
    changed = _edited(found["value"] or "")
    if changed == found["value"]:
        raise fail("no changes were made")
    return changed


def _edited(text: str) -> str:
    try:
        editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    except ValueError as error:
        raise fail(f"EDITOR is not a command ({error}); set it, or give --value FILE") from None
    if not editor:
        raise fail("EDITOR is not a command; set it, or give --value FILE")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "value.json"
        file.write_bytes(text.encode())
        try:
            status = subprocess.run([*editor, str(file)], check=False).returncode
        except OSError as error:
            raise fail(f"{editor[0]}: {error.strerror}; set EDITOR, or give --value FILE") from None
        if status:
            raise fail(f"{editor[0]} ended with {status}; no changes were made")
        try:
            changed = file.read_bytes().decode()
        except UnicodeDecodeError:
            raise fail("the edited value is not text: pass it with --value FILE") from None
    # Editors add a final line break.
    return changed if text.endswith("\n") else changed.removesuffix("\n")


def _headers(present: list[dict[str, Any]], changes: list[str]) -> list[dict[str, Any]]:
    for change in changes:
        name, equals, text = change.partition("=")
        if not name or not equals:
            raise typer.BadParameter("say NAME=VALUE", param_hint="--header")
        present = [each for each in present if each["name"] != name]
        if text:
            present = [*present, {"name": name, "value": text}]
    return present


def _text(holder: dict[str, Any], name: str) -> str:
    if holder[f"{name}_base64"] is not None:
        return f"base64 {holder[f'{name}_base64']}"
    return "-" if holder[name] is None else str(holder[name])


def _plain(text: str, *, lines: bool = False) -> str:
    # The producer of the record must not control this terminal.
    kept = "\n\t" if lines else ""
    return "".join(each if each in kept or each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _moment(text: str | None) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else "-"

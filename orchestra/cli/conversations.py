"""``orchestra conversations``: list, show, branch, copy and delete conversations, over HTTP."""

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.table import Column, Table

from orchestra.cli.calls import answer_of, calling
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, Data, GatewayUrl, Key, fail
from orchestra.cli.terminal import Terminal, echo, hand_over

if TYPE_CHECKING:
    import httpx

_PATH = "/v1/conversations"
_MAX_PAGE = 100
_SHOWN = {"id", "created_at", "metadata", "open_requests"}

Id = Annotated[UUID, typer.Argument(help="Id of the conversation.")]
NewId = Annotated[UUID | None, typer.Option("--id", help="Id of the new conversation; default: one that is chosen.")]
Metadata = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata", metavar="NAME=VALUE", help="Metadata of the new conversation; default: as the original."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def build() -> typer.Typer:
    """The verbs of ``orchestra conversations``."""
    group = typer.Typer(
        help="Conversations: list, show, branch, copy, delete. Exit code 1 if something failed.",
        no_args_is_help=True,
    )
    for verb in (list_, show, branch, copy, delete):
        group.command(name=verb.__name__.rstrip("_"))(verb)
    return group


def list_(
    *,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")] = 20,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """List conversations, newest first. Admins see those of all owners."""
    with calling(gateway_of(gateway, data), key) as client:
        found = _pages(client, "", limit)
    if as_json:
        hand_over(json.dumps(found, indent=2))
        return
    if not found:
        echo("no conversations")
        return
    # A file or a pipe has no width to fit a line into.
    Terminal(width=None if sys.stdout.isatty() else 200).print(_table(found))


def show(
    conversation: Id,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of messages, oldest first.")] = 1000,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show a conversation and its messages, each with its id."""
    with calling(gateway_of(gateway, data), key) as client:
        found = _ask(client, "GET", f"/{conversation}")
        messages = _pages(client, f"/{conversation}/messages", limit)
    if as_json:
        hand_over(json.dumps({**found, "messages": messages}, indent=2))
        return
    for line in _about(found):
        echo(line)
    for each in messages:
        echo(f"[{each['id']}] {each['role']}: {each['content']}")


def branch(
    conversation: Id,
    *,
    after_request: Annotated[
        UUID | None, typer.Option(help="The branch begins with all up to the answer of this request.")
    ] = None,
    after_message: Annotated[
        int | None, typer.Option(min=1, help="The branch begins with all up to this message.")
    ] = None,
    new_id: NewId = None,
    metadata: Metadata = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Branch a conversation, and print the id of the new one alone on stdout."""
    place = {"after_request": after_request and str(after_request), "after_message": after_message}
    _make(f"/{conversation}/branch", place, new_id, metadata, gateway_of(gateway, data), key)


def copy(
    conversation: Id,
    *,
    new_id: NewId = None,
    metadata: Metadata = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Copy a conversation with all its messages, and print the id of the new one alone on stdout."""
    _make(f"/{conversation}/copy", {}, new_id, metadata, gateway_of(gateway, data), key)


def delete(
    conversations: Annotated[list[UUID], typer.Argument(help="Ids of the conversations.")],
    *,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Delete conversations with their messages, and cancel their open requests."""
    failed = 0
    with calling(gateway_of(gateway, data), key) as client:
        for each in conversations:
            try:
                answer_of(client, "DELETE", f"{_PATH}/{each}", lambda answer: answer is None, f"{each}: ")
            except typer.Exit:
                failed += 1  # The error is shown; the others are deleted all the same.
    echo(f"{len(conversations) - failed} deleted, {failed} not", err=True)
    if failed:
        raise typer.Exit(1)


def _make(
    path: str, body: dict[str, Any], id: UUID | None, metadata: list[str] | None, gateway: str, key: str | None
) -> None:
    pairs = [each.partition("=") for each in metadata or ()]
    if any(not name or not sign for name, sign, _ in pairs):
        raise fail("--metadata takes NAME=VALUE")
    body |= {"id": id and str(id), "metadata": {name: value for name, _, value in pairs} if metadata else None}
    with calling(gateway, key) as client:
        made = _ask(client, "POST", path, json={name: value for name, value in body.items() if value is not None})
    echo(made["id"])


def _pages(client: "httpx.Client", path: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] | None = {}
    while cursor is not None and len(found) < limit:
        page = _ask(client, "GET", path, params={**cursor, "limit": min(limit - len(found), _MAX_PAGE)})
        found, cursor = found + page["data"], {"cursor": page["next"]} if page["next"] else None
    return found


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(Column("id", no_wrap=True), "what")
    for each in found:
        table.add_row(each["id"], "\n".join(_about(each)[1:]))
    return table


def _about(found: dict[str, Any]) -> list[str]:
    moment = datetime.fromisoformat(found["created_at"]).astimezone().strftime("%Y-%m-%d %H:%M")
    lines = [f"conversation {found['id']}", f"created {moment}, {len(found['open_requests'])} open requests"]
    lines += [f"branch of {found['branch_of']}"] if "branch_of" in found else []
    return lines + [f"{name}: {value}" for name, value in found["metadata"].items()]


def _ask(client: "httpx.Client", method: str, path: str, **more: Any) -> Any:
    return answer_of(client, method, f"{_PATH}{path}", _is_answer, **more)


def _is_answer(answer: Any) -> bool:
    match answer:
        case {"data": list(), "next": _}:
            return True
    return isinstance(answer, dict) and answer.keys() >= _SHOWN

"""``orchestra conversations``: list, show, branch, copy and delete conversations, over HTTP."""

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Column, Table

from orchestra.cli.calls import calling, delete_each
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key
from orchestra.cli.terminal import echo, hand_over, print_list
from schemas.api.conversations import ConversationResource

_MAX_PAGE = 100

Id = Annotated[UUID, typer.Argument(help="Id of the conversation.")]
NewId = Annotated[UUID | None, typer.Option("--id", help="Id of the new conversation. Default: a generated one.")]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="NAME=VALUE", help="Metadata of the new conversation. Default: the original's."),
]


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
        found = list(islice(client.conversations.list(page_size=min(limit, _MAX_PAGE)), limit))
    if as_json:
        hand_over(json.dumps([each.model_dump(mode="json") for each in found], indent=2))
        return
    if not found:
        echo("no conversations")
        return
    print_list(_table(found))


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
        found = client.conversations.get(conversation)
        messages = list(islice(client.conversations.messages(conversation, page_size=min(limit, _MAX_PAGE)), limit))
    if as_json:
        said = [each.model_dump(mode="json", warnings=False) for each in messages]
        hand_over(json.dumps({**found.model_dump(mode="json"), "messages": said}, indent=2))
        return
    for line in _about(found):
        echo(line)
    for each in messages:
        echo(f"[{each.id}] {each.role}: {each.content}")


def branch(
    conversation: Id,
    *,
    after_request: Annotated[
        UUID | None, typer.Option(help="Copy everything up to and including the answer to this request.")
    ] = None,
    after_message: Annotated[
        int | None, typer.Option(min=1, help="Copy everything up to and including this message.")
    ] = None,
    id: NewId = None,
    metadata: Metadata = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Branch a conversation, and print the id of the new one alone on stdout."""
    pairs = _pairs(metadata)
    with calling(gateway_of(gateway, data), key) as client:
        made = client.conversations.branch(
            conversation, after_request=after_request, after_message=after_message, id=id, metadata=pairs
        )
    echo(str(made.id))


def copy(
    conversation: Id,
    *,
    id: NewId = None,
    metadata: Metadata = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Copy a conversation with all its messages, and print the id of the new one alone on stdout."""
    pairs = _pairs(metadata)
    with calling(gateway_of(gateway, data), key) as client:
        made = client.conversations.copy(conversation, id=id, metadata=pairs)
    echo(str(made.id))


def delete(
    conversations: Annotated[list[UUID], typer.Argument(help="Ids of the conversations.")],
    *,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Delete conversations with their messages, and cancel their open requests."""
    delete_each(gateway_of(gateway, data), key, conversations, lambda client, id: client.conversations.delete(id))


def _pairs(metadata: Sequence[str] | None) -> Mapping[str, str] | None:
    pairs = [each.partition("=") for each in metadata or ()]
    if any(not name or not sign for name, sign, _ in pairs):
        raise typer.BadParameter("it takes NAME=VALUE", param_hint="--metadata")
    return {name: value for name, _, value in pairs} if metadata else None


def _table(found: Sequence[ConversationResource]) -> Table:
    table = Table(Column("id", no_wrap=True), "what")
    for each in found:
        table.add_row(str(each.id), "\n".join(_about(each)[1:]))
    return table


def _about(found: ConversationResource) -> list[str]:
    moment = found.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
    lines = [f"conversation {found.id}", f"created {moment}, {len(found.open_requests)} open requests"]
    lines += [f"branch of {found.branch_of}"] if found.branch_of else []
    return lines + [f"{name}: {value}" for name, value in found.metadata.items()]

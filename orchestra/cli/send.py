"""``orchestra send``: send one message and show its reply as it arrives."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from orchestra.cli.calls import check_value
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, ConversationId, Data, GatewayUrl, Key, ModelName, fail
from orchestra.cli.terminal import LiveScreen, SilentScreen, echo, hand_over, remark
from orchestra.transcript import Piece, items_of

UNREACHABLE = 3
_INTERRUPTED = 130


def send(
    text: Annotated[str, typer.Argument(help="Text of the message; `-` reads standard input.")],
    *,
    model: ModelName = None,
    conversation_id: ConversationId = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the request id and do not wait.")] = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Send one message and show its reply: on a terminal as it arrives, elsewhere whole, alone on standard output.

    Tool calls and refusals are part of the reply on a terminal; elsewhere they are on standard error.

    Exit codes: 0 answered; 1 not answered (standard error says why); 2 wrong usage; 3 no gateway could be reached; 130
    interrupted, while the request stays open.
    """
    from orchestra.cli.ask import Where
    from orchestra.client import ClientError, UnreachableError

    body = body_of(_read(text), model, conversation_id)
    where = Where(gateway_of(gateway, data, UNREACHABLE), key)
    try:
        if no_wait:
            with where.client() as client:
                echo(str(client.messages.submit(**body).id))
        else:
            _reply(where, body)
    except ClientError as error:
        told = f"no reply: {error}"
        check_value(error, told)
        raise fail(told, UNREACHABLE if isinstance(error, UnreachableError) else 1) from None


def body_of(text: str, model: str | None, conversation: UUID | str | None) -> dict[str, Any]:
    """The body of a message."""
    chosen = {"model": model, "conversation_id": conversation and str(conversation)}
    body = {"messages": [{"role": "user", "content": text}]}
    return {**body, **{name: value for name, value in chosen.items() if value}}


def _read(text: str) -> str:
    if text != "-":
        return text
    try:
        # Read as bytes: in an ASCII locale Python would turn bytes that are not UTF-8 into surrogates.
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter("standard input is not UTF-8") from None


def _reply(where: Any, body: dict[str, Any]) -> None:
    from orchestra.cli.ask import ReplyWaiter

    live = LiveScreen() if sys.stdout.isatty() else None
    waiter = ReplyWaiter(where, body, live or SilentScreen())
    try:
        reply = asyncio.run(waiter.reply())
    except KeyboardInterrupt:
        known = (
            f"request {waiter.request_id} is still open" if waiter.request_id else "the message may have been accepted"
        )
        echo(f"interrupted; {known}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    if live:
        live.end()
    else:
        hand_over(reply)
        for line in _beside(waiter.pieces):
            remark(line)


def _beside(pieces: Sequence[Piece]) -> Iterator[str]:
    """What a reply has beside its text: tool calls and refusals."""
    for item in items_of(pieces) or ():
        if item["type"] == "function_call":
            yield f"call {item['name']} {item['arguments']}".rstrip()
    if refusal := "".join(piece.text for piece in pieces if piece.kind == "refusal"):
        yield f"refused: {refusal}"

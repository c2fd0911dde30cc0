"""``orchestra send``: one message, its reply as it arrives."""

import asyncio
import sys
from typing import Annotated, Any

import typer

from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, ConversationId, Data, GatewayUrl, Key, ModelName
from orchestra.cli.terminal import LiveScreen, SilentScreen, echo, hand_over

UNREACHABLE = 3
_INTERRUPTED = 130


def send(
    text: Annotated[str, typer.Argument(help="What to say; `-` reads it from standard input.")],
    *,
    model: ModelName = None,
    conversation: ConversationId = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the request's id, and do not wait.")] = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Send one message and show its reply: as it arrives on a terminal, whole and alone on standard output elsewhere.

    Exit codes: 0 answered, 1 not answered (why is on standard error), 2 wrong usage, 3 no gateway could be reached,
    130 interrupted; the request goes on then.
    """
    from orchestra.cli.ask import LostGatewayError, NoReplyError, Where, submit

    body = body_of(_read(text), model, conversation)
    where = Where(gateway_of(gateway, data, UNREACHABLE), key)
    try:
        if no_wait:
            echo(asyncio.run(submit(where, body)))
        else:
            _reply(where, body)
    except NoReplyError as error:
        echo(f"no reply: {error}", err=True)
        raise typer.Exit(UNREACHABLE if isinstance(error, LostGatewayError) else 1) from None


def body_of(text: str, model: str | None, conversation: str | None) -> dict[str, Any]:
    """The body of a message."""
    chosen = {"model": model, "conversation_id": conversation}
    body = {"messages": [{"role": "user", "content": text}]}
    return {**body, **{name: value for name, value in chosen.items() if value}}


def _read(text: str) -> str:
    if text != "-":
        return text
    try:
        # As bytes: in a locale of plain ASCII Python would let what is no UTF-8 through, as half surrogate pairs.
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter("standard input is not UTF-8") from None


def _reply(where: Any, body: dict[str, Any]) -> None:
    from orchestra.cli.ask import Asking

    live = LiveScreen() if sys.stdout.isatty() else None
    asking = Asking(where, body, live or SilentScreen())
    try:
        reply = asyncio.run(asking.reply())
    except KeyboardInterrupt:
        known = f"request {asking.request_id} goes on" if asking.request_id else "it is not known if it was accepted"
        echo(f"interrupted; {known}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    if live:
        live.end()
    else:
        hand_over(reply)

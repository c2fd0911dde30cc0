"""``orchestra chat``: one conversation on a terminal."""

import asyncio
import io
import signal
import sys
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli.attach import UnusableFileError, attach_all, with_files
from orchestra.cli.environment import gateway_of
from orchestra.cli.files import upload_for_message
from orchestra.cli.options import DEFAULT_DATA, ConversationId, Data, GatewayUrl, Key, ModelName, command, fail
from orchestra.cli.send import UNREACHABLE, body_of
from orchestra.cli.terminal import LiveScreen, echo, remark

if TYPE_CHECKING:
    from orchestra.cli.ask import Where

_PROMPT = "> "


class TurnResult(Enum):
    """What happened to a message. ``LEFT``: the user stopped waiting for its reply."""

    ANSWERED = auto()
    UNANSWERED = auto()
    LOST = auto()
    LEFT = auto()


def chat(
    *,
    conversation_id: ConversationId = None,
    model: ModelName = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image, recording (MP3, WAV), PDF or text to send with the first message; repeatable. "
            "What is too large for the message is uploaded."
        ),
    ] = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Chat with a model: one conversation, with each reply shown as it arrives, even if the connection breaks.

    Ctrl-C cancels the running answer; a second Ctrl-C, Ctrl-D or /quit ends the chat. The conversation is kept:
    --conversation continues it. Exit code 3 if no gateway could be reached for the last message. When standard input is
    not a terminal, a lost gateway ends the chat, and the exit code is 1 if any message got no reply.
    """
    from orchestra.cli.ask import Where

    where = Where(gateway_of(gateway, data), key)
    try:
        files = attach_all(file or (), partial(upload_for_message, where.url, key))
    except UnusableFileError as error:
        raise typer.BadParameter(str(error)) from None
    conversation = str(conversation_id) if conversation_id else None
    if conversation:
        _check(where, conversation)
    echo(f"{where.url}. Ctrl-C cancels an answer; /quit or Ctrl-D ends.", err=True)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # So that a line that is not UTF-8 is refused alone, and not everything that came with it.
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    script = not sys.stdin.isatty()
    lost = unanswered = False
    try:
        while (line := _next_line()) is not None:
            if not line:
                continue
            if not _is_text(line):
                echo("this line is not UTF-8 and was not sent", err=True)
                unanswered = True
                continue
            body = body_of(line, model, conversation)
            try:
                body = with_files(body, files) if files else body
            except UnusableFileError as error:
                echo(f"not sent: {error}", err=True)
                unanswered = True
                continue
            files = []
            conversation, outcome = asyncio.run(_turn(where, body, conversation))
            lost = outcome is TurnResult.LOST
            unanswered |= outcome in {TurnResult.LOST, TurnResult.UNANSWERED}
            if outcome is TurnResult.LEFT or (lost and script):
                break
    finally:
        if conversation:
            there = ("--gateway", gateway) if gateway else ()
            echo(f"\nTo continue: {command('chat', '--conversation', conversation, *there, data=data)}", err=True)
    if lost:
        raise typer.Exit(UNREACHABLE)
    if unanswered and script:
        raise typer.Exit(1)


def _check(where: "Where", conversation: str) -> None:
    """Exit if there is no such conversation: a wrong id would silently start a new one."""
    from orchestra.client import ClientError

    try:
        with where.client() as client:
            client.conversations.get(conversation)
    except ClientError as error:
        raise fail(str(error)) from None


def _next_line() -> str | None:
    """The next message; empty for a blank line, None at the end."""
    with suppress(ImportError):
        import readline  # noqa: F401  lets `input` edit a line and remember earlier ones
    try:
        said = input(_PROMPT if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return None
    return None if said == "/quit" else said


def _is_text(said: str) -> bool:
    try:
        said.encode()
    except UnicodeError:
        return False
    return True


async def _turn(where: "Where", body: dict[str, Any], conversation: str | None) -> tuple[str | None, TurnResult]:
    """Send a message and show the reply. Returns the conversation's id and what happened to the message."""
    from orchestra.cli.ask import PATIENCE_SECONDS, ReplyWaiter
    from orchestra.client import ClientError, UnreachableError
    from schemas.errors import ErrorCode

    screen = LiveScreen()
    waiter = ReplyWaiter(where, body, screen, at_first=PATIENCE_SECONDS)
    waiter.conversation_id = conversation
    replying = asyncio.ensure_future(waiter.reply())
    interrupts = 0

    def interrupt() -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            screen.note("cancelling; Ctrl-C again ends the chat")
            waiter.cancel()
        else:
            replying.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
    outcome = TurnResult.ANSWERED
    try:
        await replying
        screen.end()
    except ClientError as error:
        if error.code == ErrorCode.CANCELLED:
            remark("cancelled")
        else:
            echo(f"\nno reply: {error}", err=True)
            outcome = TurnResult.LOST if isinstance(error, UnreachableError) else TurnResult.UNANSWERED
    except asyncio.CancelledError:
        outcome = TurnResult.LEFT
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    return waiter.conversation_id, outcome

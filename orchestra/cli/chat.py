"""``orchestra chat``: one conversation on a terminal."""

import asyncio
import io
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, ConversationId, Data, GatewayUrl, Key, ModelName, command, fail
from orchestra.cli.send import body_of
from orchestra.cli.terminal import LiveScreen, echo, remark

if TYPE_CHECKING:
    from orchestra.cli.ask import Where

_PROMPT = "> "


def chat(
    *,
    conversation: ConversationId = None,
    model: ModelName = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Talk with a model: one conversation, each reply as it arrives, however often the connection breaks.

    Ctrl-C cancels the running answer; a second one, Ctrl-D or /quit ends. What was said is kept: --conversation goes
    on with it.
    """
    from orchestra.cli.ask import Where

    where = Where(gateway_of(gateway, data), key)
    if conversation:
        asyncio.run(_check(where, conversation))
    echo(f"{where.url}. Ctrl-C cancels an answer; /quit or Ctrl-D ends.", err=True)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # So that a line that is no UTF-8 is one line that is refused, and not all that came with it.
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        while (line := _next_line()) is not None:
            if line:
                conversation, leave = asyncio.run(_turn(where, line, model, conversation))
                if leave:
                    break
    finally:
        if conversation:
            there = ("--gateway", gateway) if gateway else ()
            echo(f"\nTo go on: {command('chat', '--conversation', conversation, *there, data=data)}", err=True)


async def _check(where: "Where", conversation: str) -> None:
    """End where there is no such conversation: a wrong id would quietly begin another."""
    import httpx

    from orchestra.cli.ask import NoReplyError, problem

    try:
        async with where.client() as client:
            response = await client.get(f"/v1/conversations/{quote(conversation, safe='')}")
            if response.is_error:
                raise fail(await problem(response))
    except NoReplyError as error:
        raise fail(str(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise fail(f"{where.url}: {error or type(error).__name__}") from None


def _next_line() -> str | None:
    """What is said next; empty where nothing is, None at the end."""
    with suppress(ImportError):
        import readline  # noqa: F401  lets `input` edit a line and remember earlier ones
    try:
        said = input(_PROMPT if sys.stdin.isatty() else "").strip()
        said.encode()
    except (EOFError, KeyboardInterrupt):
        return None
    except UnicodeError:
        echo("that line is not UTF-8; it was not sent", err=True)
        return ""
    return None if said == "/quit" else said


async def _turn(where: "Where", text: str, model: str | None, conversation: str | None) -> tuple[str | None, bool]:
    """Ask and show the reply. The conversation, and whether to end."""
    from orchestra.cli.ask import PATIENCE_SECONDS, Asking, CancelledTurnError, NoReplyError

    screen = LiveScreen()
    asking = Asking(where, body_of(text, model, conversation), screen, at_first=PATIENCE_SECONDS)
    asking.conversation_id = conversation
    replying = asyncio.ensure_future(asking.reply())
    interrupts = 0

    def interrupt() -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            screen.note("cancelling; Ctrl-C again ends")
            asking.cancel()
        else:
            replying.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
    try:
        await replying
        screen.end()
    except CancelledTurnError:
        remark("cancelled")
    except NoReplyError as error:
        echo(f"\nno reply: {error}", err=True)
    except asyncio.CancelledError:
        return asking.conversation_id, True
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    return asking.conversation_id, False

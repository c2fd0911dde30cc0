"""``orchestra send``: one message, its reply as it arrives."""

import asyncio
from typing import Annotated

import typer

from orchestra.cli.options import fail


def send(
    text: Annotated[str, typer.Argument(help="What to say.")],
    model: Annotated[str | None, typer.Option(help="Which model shall answer; the gateway's default without.")] = None,
    gateway: Annotated[str, typer.Option(help="Base URL of the gateway.")] = "http://127.0.0.1:8080",
) -> None:
    """Send one message and show its reply as it arrives."""
    from orchestra.cli.ask import NoReplyError, ask

    chosen = {"model": model} if model else {}
    try:
        asyncio.run(ask(gateway, text, lambda piece: typer.echo(piece, nl=False), **chosen))
    except NoReplyError as error:
        raise fail(f"no reply: {error}") from None
    typer.echo()

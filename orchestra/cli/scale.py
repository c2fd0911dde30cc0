"""``orchestra scale``: change the number of workers."""

import asyncio
from typing import Annotated

import typer

from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.cli.render import Progressing
from orchestra.cli.terminal import Terminal, echo
from orchestra.devstack.control import ask
from orchestra.devstack.errors import StackError
from orchestra.devstack.folder import DataFolder


def _scalable(text: str) -> str:
    if text not in ("worker", "workers"):
        raise typer.BadParameter(f"{text!r} cannot be scaled; only workers can")
    return "workers"


def scale(
    what: Annotated[str, typer.Argument(metavar="workers", parser=_scalable, help="What to scale: workers.")],
    number: Annotated[int, typer.Argument(min=0, max=100, help="Target number.")],
    data: Data = DEFAULT_DATA,
) -> None:
    """Start more workers, or stop the newest ones once their calls are done."""
    socket = DataFolder.at(data).socket
    progressing = Progressing(Terminal())
    try:
        asyncio.run(ask(socket, {"do": "scale", what: number}, progressing.report))
        workers = asyncio.run(ask(socket, {"do": "status"}, progressing.report))["status"]["workers"]
    except StackError as error:
        raise fail(str(error)) from None
    finally:
        progressing.close()
    running = len(workers["pids"])
    if running != number:
        raise fail(f"{running} of {number} workers are running")
    echo(f"{number} worker{'' if number == 1 else 's'} running")

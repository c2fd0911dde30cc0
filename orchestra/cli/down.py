"""``orchestra down``: stop the stack."""

import asyncio
import time
from typing import Annotated

import typer
from rich.console import Console

from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.cli.render import Progressing
from orchestra.devstack.control import ask
from orchestra.devstack.errors import AlreadyRunningError, NotRunningError
from orchestra.devstack.folder import DataFolder

_GONE_LIMIT_SECONDS = 10.0


def down(
    *,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the data folder too: every message, for good.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Stop the stack: gateways first, workers when their calls are done (60 s at most), Kafka and Postgres last."""
    folder = DataFolder.at(data)
    console = Console()
    progressing = Progressing(console)
    try:
        asyncio.run(ask(folder.socket, {"do": "down"}, progressing.report))
    except NotRunningError as error:
        if not wipe:
            raise fail(str(error)) from None
    finally:
        progressing.close()
    if not folder.path.exists():
        return
    _until_gone(folder)
    if wipe:
        folder.wipe()
        console.print(f"{data} is removed", highlight=False)


def _until_gone(folder: DataFolder) -> None:
    limit = time.monotonic() + _GONE_LIMIT_SECONDS
    while True:
        try:
            with folder.held():
                return
        except AlreadyRunningError:
            if time.monotonic() > limit:
                raise fail(f"the supervisor still holds {folder.path}") from None
            time.sleep(0.1)

"""``orchestra scale``: more workers, or fewer."""

import asyncio
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.cli.render import Progressing
from orchestra.devstack.control import ask
from orchestra.devstack.errors import NotRunningError, RefusedError
from orchestra.devstack.folder import DataFolder


class Scalable(StrEnum):
    """What there can be more of."""

    WORKERS = "workers"


def scale(
    what: Annotated[Scalable, typer.Argument(help="What there shall be more or fewer of.")],
    number: Annotated[int, typer.Argument(min=0, max=100, help="How many there shall be.")],
    data: Data = DEFAULT_DATA,
) -> None:
    """Start more workers, or end the newest ones once their calls are done."""
    progressing = Progressing(Console())
    try:
        asyncio.run(ask(DataFolder.at(data).socket, {"do": "scale", what: number}, progressing.report))
    except (NotRunningError, RefusedError) as error:
        raise fail(str(error)) from None
    finally:
        progressing.close()

"""``orchestra down``: stop the stack."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.cli.render import Progressing
from orchestra.cli.terminal import Terminal, echo
from orchestra.devstack.control import ask
from orchestra.devstack.errors import (
    AlreadyRunningError,
    FolderRefusedError,
    NotRunningError,
    RefusedError,
    UnreachableError,
)
from orchestra.devstack.folder import DataFolder

_GONE_LIMIT_SECONDS = 10.0


def down(
    *,
    wipe: Annotated[
        bool, typer.Option("--wipe", help="Also remove what `up` put into the data folder: every message, for good.")
    ] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Stop the stack: gateways first, workers when their calls are done (60 s at most), Kafka and Postgres last.

    Where no stack runs there is nothing to stop: that is said, and the exit code is 0. A folder that `up` did not make
    is refused, and --wipe leaves what others put into one that it did. Exit code 1 when the stack still runs, when
    that cannot be told, or when something is left.
    """
    folder = DataFolder.at(data)
    progressing = Progressing(Terminal())
    said = "the stack is stopped"
    try:
        asyncio.run(ask(folder.socket, {"do": "down"}, progressing.report))
    except (UnreachableError, RefusedError) as error:
        raise fail(str(error)) from None
    except NotRunningError as error:
        said = str(error)
    finally:
        progressing.close()
    try:
        if wipe:
            _wipe(folder)
        elif folder.path.exists():
            with _held_as_a_stack(folder):
                echo(f"{said}; its data stay in {folder.path}")
        else:
            echo(f"{said}: there is no such folder")
    except (FolderRefusedError, OSError) as error:
        raise fail(str(error)) from None


def _wipe(folder: DataFolder) -> None:
    if not folder.path.exists():
        echo(f"there is no folder {folder.path}: nothing to remove")
        return
    with _held_as_a_stack(folder):
        left = folder.wipe()
    if left:
        raise fail("\n".join((*left, f"{folder.path} is not removed as a whole")))
    echo(f"{folder.path} is removed")


@contextmanager
def _held_as_a_stack(folder: DataFolder) -> Iterator[None]:
    """Hold the folder as soon as its supervisor has let go of it. Raises ``FolderRefusedError``."""
    # Before the lock is touched, which would put a file into whatever folder this is.
    if not folder.is_stack():
        raise FolderRefusedError(f"`orchestra up` did not make {folder.path}: nothing is stopped, and nothing removed")
    limit = time.monotonic() + _GONE_LIMIT_SECONDS
    while True:
        try:
            with folder.held():
                yield
                return
        except AlreadyRunningError:
            if time.monotonic() > limit:
                raise fail(f"the supervisor still holds {folder.path}") from None
            time.sleep(0.1)

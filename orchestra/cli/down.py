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
from orchestra.devstack.errors import AlreadyRunningError, FolderRefusedError, NotRunningError, RefusedError
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

    --wipe refuses a folder that `up` did not make, and leaves what others put into it. Exit code 1 when the stack still
    runs, or when something is left.
    """
    folder = DataFolder.at(data)
    progressing = Progressing(Terminal())
    try:
        asyncio.run(ask(folder.socket, {"do": "down"}, progressing.report))
    except NotRunningError as error:
        if not wipe:
            raise fail(str(error)) from None
    except RefusedError as error:
        raise fail(str(error)) from None
    finally:
        progressing.close()
    try:
        if wipe:
            _wipe(folder)
        else:
            with _held(folder):
                echo(f"the stack is stopped; its data stay in {folder.path}")
    except (FolderRefusedError, OSError) as error:
        raise fail(str(error)) from None


def _wipe(folder: DataFolder) -> None:
    if not folder.path.exists():
        echo(f"there is no folder {folder.path}: nothing to remove")
        return
    # Before the lock is touched, which would put a file into whatever folder this is.
    if not folder.is_stack():
        raise FolderRefusedError(f"`orchestra up` did not make {folder.path}: nothing is removed")
    with _held(folder):
        left = folder.wipe()
    if left:
        raise fail("\n".join((*left, f"{folder.path} is not removed as a whole")))
    echo(f"{folder.path} is removed")


@contextmanager
def _held(folder: DataFolder) -> Iterator[None]:
    """Hold the folder as soon as its supervisor has let go of it."""
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

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
        bool, typer.Option("--wipe", help="Also delete what `up` put into the data folder, all messages included.")
    ] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Stop the stack: first gateways, then workers once their calls are done (at most 60 s), then Kafka and Postgres.

    If no stack is running, the command says so and exits with 0. A folder that `up` did not create is refused, and
    --wipe keeps files that others put into the folder. Exit code 1 if the stack still runs, if its state is unknown, or
    if something could not be deleted.
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
                echo(f"{said}; its data is kept in {folder.path}")
        else:
            echo(f"{said}: the folder does not exist")
    except (FolderRefusedError, OSError) as error:
        raise fail(str(error)) from None


def _wipe(folder: DataFolder) -> None:
    if not folder.path.exists():
        echo(f"{folder.path} does not exist: nothing to delete")
        return
    with _held_as_a_stack(folder):
        left = folder.wipe()
    if left:
        raise fail("\n".join((*left, f"{folder.path} was not deleted completely")))
    echo(f"{folder.path} was deleted")


@contextmanager
def _held_as_a_stack(folder: DataFolder) -> Iterator[None]:
    """Hold the folder's lock once its supervisor has released it. Raises ``FolderRefusedError``."""
    # Checked before the lock, which would create a file in whatever folder this is.
    if not folder.is_stack():
        raise FolderRefusedError(f"`orchestra up` did not create {folder.path}: nothing was stopped or deleted")
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

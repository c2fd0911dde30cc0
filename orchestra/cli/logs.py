"""``orchestra logs``: what the parts have logged."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.devstack.folder import DataFolder

_LINES = 200
_POLL_SECONDS = 0.2


def logs(
    part: Annotated[
        str | None, typer.Argument(help="kafka, postgres, model, llm, worker-1, gateway-1, … Without: all of them.")
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is logged, until Ctrl-C.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show the last lines that the parts have logged."""
    folder = DataFolder.at(data)
    present = sorted(path.stem for path in folder.logs.glob("*.log"))
    if not present:
        raise fail(f"there are no logs in {folder.logs}")
    if part and part not in present:
        raise fail(f"there is no part {part}; there are {', '.join(present)}")
    followers = [_Follower(folder.log(name), "" if part else f"{name:<12} ") for name in ([part] if part else present)]
    for follower in followers:
        _print(follower.new_lines()[-_LINES:])
    while follow:
        time.sleep(_POLL_SECONDS)
        for follower in followers:
            _print(follower.new_lines())


class _Follower:
    """Reads a log file on from where it was."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._offset = 0

    def new_lines(self) -> list[str]:
        if self._path.stat().st_size < self._offset:  # It was rotated.
            self._offset = 0
        with self._path.open("rb") as log:
            log.seek(self._offset)
            whole = log.read().rpartition(b"\n")[0]
            self._offset += len(whole) + 1 if whole else 0
        return [self._prefix + line for line in whole.decode(errors="replace").splitlines()]


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)

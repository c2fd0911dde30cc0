"""``python -m benchmarks.guard``: count the cost of the hot paths and compare it with the committed figures."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar
from unittest.mock import patch

import uvloop

from benchmarks.guard import figures
from benchmarks.guard.figures import HOW_TO_ACCEPT, PYTHON, Figures
from benchmarks.guard.path import Path
from benchmarks.guard.paths import PATHS
from benchmarks.guard.postgres import own_postgres
from orchestra.telemetry.logging import configure_logging

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
_Result = TypeVar("_Result")


def main(words: Sequence[str] | None = None) -> int:
    """0: all as committed. 1: something differs. 2: the figures are those of another version of Python."""
    told = _arguments().parse_args(words)
    paths = {name: PATHS[name] for name in (told.only.split(",") if told.only else PATHS)}
    version, known = figures.committed() if figures.FILE.exists() else (PYTHON, {})
    if version != PYTHON and not told.write:
        print(f"the figures are for Python {version}, and this is {PYTHON}")
        return 2
    # A developer's settings for their own services must not affect the figures.
    with patch.dict(os.environ, {name: os.environ[name] for name in _KEPT if name in os.environ}, clear=True):
        configure_logging("guard", "error")
        measured = measure(paths, told.database)
    _show(measured)
    if told.write:
        figures.write({**known, **measured})
        return 0
    found = figures.differences(known, measured)
    print("\n".join([*found, HOW_TO_ACCEPT] if found else ["all as committed"]))
    return 1 if found else 0


def measure(paths: Mapping[str, Path], database: str | None = None) -> Figures:
    """The cost of each path. ``database``: URL of one that may be filled; None starts a Postgres."""
    plain = {name: _alone(path.measure) for name, path in paths.items() if not path.database}
    stored = {name: path for name, path in paths.items() if path.database}
    return {**plain, **(_on_postgres(stored, database) if stored else {})}


def _on_postgres(paths: Mapping[str, Path], database: str | None) -> Figures:
    async def all_of_them(url: str) -> Figures:
        with patch.dict(os.environ, {"DATABASE_URL": url}):
            return {name: await path.measure() for name, path in paths.items()}

    async def on_our_own() -> Figures:
        async with own_postgres() as url:
            return await all_of_them(url)

    return _alone(on_our_own if database is None else lambda: all_of_them(database))


def _alone(work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Run it in a new event loop of the services' kind."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


def _show(measured: Figures) -> None:
    print(f"{'':17}instructions  codecs  statements  records  bytes")
    for name, cost in measured.items():
        print(f"{name:17}{cost.instructions:12,}{cost.codecs:8}{cost.statements:12}{cost.records:9}{cost.bytes:7,}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="accept the present figures")
    parser.add_argument("--only", help=f"comma-separated paths: {','.join(PATHS)}")
    parser.add_argument("--database", metavar="URL", help="an empty database to use instead of a new Postgres")
    return parser


if __name__ == "__main__":
    sys.exit(main())

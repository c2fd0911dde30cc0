"""Keeps child processes running: one that dies is restarted, with a back-off if it dies at once.

Only ``remove`` ends this. A start may fail in any way, and reports may be lost: the disk may be full.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from orchestra.devstack.child import Child, State
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.part import Part
from orchestra.devstack.progress import Report, StartProgress

_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 15.0
_STEADY_SECONDS = 10.0

_log = structlog.get_logger()


class Supervisor:
    """The children by name, in order of start."""

    def __init__(self, logs: Path, report: Report) -> None:
        self.children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._logs = logs
        self._tell = report

    async def add(self, part: Part) -> None:
        """Start a part, and restart it whenever it dies. Raises ``PartFailedError``."""
        began = time.monotonic()
        child = self.children[part.name] = Child(part, self._logs / f"{part.name}.log")
        self._report(StartProgress(part.name, "starting"))
        try:
            await child.start()
        except Exception as error:
            del self.children[part.name]
            self._report(StartProgress(part.name, "failed", _reason(error)))
            raise
        self._report(StartProgress(part.name, "ready", f"in {time.monotonic() - began:.1f} s"))
        self._keepers[part.name] = asyncio.create_task(self._keep(child), name=f"keep {part.name}")

    async def remove(self, *names: str) -> None:
        """Stop these parts concurrently, and forget them."""
        await asyncio.gather(*(self._remove(name) for name in names))

    def kill(self, names: Iterable[str]) -> None:
        """Kill these parts without a report, and do not wait."""
        for name in names:
            if child := self.children.get(name):
                child.kill_now()

    async def _remove(self, name: str) -> None:
        if keeper := self._keepers.pop(name, None):
            keeper.cancel()
            await asyncio.wait([keeper])
        child = self.children[name]
        child.state = State.STOPPING
        self._report(StartProgress(name, "stopping"))
        await child.stop()
        del self.children[name]
        self._report(StartProgress(name, "stopped"))

    async def _keep(self, child: Child) -> None:
        delay = _FIRST_DELAY_SECONDS
        while True:
            began = time.monotonic()
            code = await child.ended()
            if time.monotonic() - began > _STEADY_SECONDS:
                delay = _FIRST_DELAY_SECONDS
            child.state = State.RESTARTING
            how = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
            self._report(StartProgress(child.part.name, "restarting", f"{how}; restarting it"))
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
            try:
                await child.start()
                self._report(StartProgress(child.part.name, "ready", "again"))
            except Exception as error:  # noqa: BLE001 - whatever the error, the next try may succeed
                self._report(StartProgress(child.part.name, "failed", _reason(error)))

    def _report(self, progress: StartProgress) -> None:
        try:
            self._tell(progress)
        except Exception as error:  # noqa: BLE001 - parts are kept alive even if no report arrives
            with suppress(Exception):
                _log.warning("progress_not_told", part=progress.part, state=progress.step, error=type(error).__name__)


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, PartFailedError) else f"could not be started: {error}"

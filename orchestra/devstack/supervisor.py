"""Keeps children alive: one that dies is started again, later and later when it dies at once."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

from orchestra.devstack.child import Child, State
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.part import Part
from orchestra.devstack.progress import Progress, Report

_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 15.0
_STEADY_SECONDS = 10.0


class Supervisor:
    """The children by name, in the order of their start."""

    def __init__(self, logs: Path, report: Report) -> None:
        self.children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._logs = logs
        self._report = report

    async def add(self, part: Part) -> None:
        """Start a part and keep it alive from then on. Raises ``PartFailedError``."""
        began = time.monotonic()
        child = self.children[part.name] = Child(part, self._logs / f"{part.name}.log")
        self._report(Progress(part.name, "starting"))
        try:
            await child.start()
        except PartFailedError as error:
            del self.children[part.name]
            self._report(Progress(part.name, "failed", error.reason))
            raise
        self._report(Progress(part.name, "ready", f"in {time.monotonic() - began:.1f} s"))
        self._keepers[part.name] = asyncio.create_task(self._keep(child), name=f"keep {part.name}")

    async def remove(self, *names: str) -> None:
        """Stop these parts, all at the same time, and forget them."""
        await asyncio.gather(*(self._remove(name) for name in names))

    def kill(self, names: Iterable[str]) -> None:
        """Kill these parts without a word and without waiting."""
        for name in names:
            if child := self.children.get(name):
                child.kill_now()

    async def _remove(self, name: str) -> None:
        if keeper := self._keepers.pop(name, None):
            keeper.cancel()
            await asyncio.wait([keeper])
        child = self.children[name]
        child.state = State.STOPPING
        self._report(Progress(name, "stopping"))
        await child.stop()
        del self.children[name]
        self._report(Progress(name, "stopped"))

    async def _keep(self, child: Child) -> None:
        delay = _FIRST_DELAY_SECONDS
        while True:
            began = time.monotonic()
            code = await child.ended()
            if time.monotonic() - began > _STEADY_SECONDS:
                delay = _FIRST_DELAY_SECONDS
            child.state = State.RESTARTING
            how = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
            self._report(Progress(child.part.name, "restarting", f"{how}; starting it again"))
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
            try:
                await child.start()
                self._report(Progress(child.part.name, "ready", "again"))
            except PartFailedError as error:
                self._report(Progress(child.part.name, "failed", error.reason))

"""Processes that are meant to die: each is restarted a moment after it ends, for whatever reason."""

import asyncio
import dataclasses
import re
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from orchestra.devstack.child import Child
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.part import Part

RESTART_SECONDS = 0.2
_WORKER_ID = re.compile(rb'"worker_id": ?"([0-9a-f-]{36})"')


class Process:
    """One process and its keeper. ``more`` gives each start extra environment on top of the part's own."""

    def __init__(self, part: Part, folder: Path, more: Callable[[], Mapping[str, str]] = dict) -> None:
        self.part = part
        self.name = part.name
        self.url = part.address
        self.log = folder / f"{part.name}.log"
        self.deaths: list[int] = []
        self._child = Child(part, self.log)
        self._more = more
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The pid while the process is alive."""
        return self._child.pid

    @property
    def ready(self) -> bool:
        """True while the process is alive and has reported that it is ready."""
        return self._ready.is_set()

    async def start(self) -> None:
        """Start it and keep it running. Raises ``PartFailedError``."""
        await self._start()
        self._keeper = asyncio.create_task(self._keep())

    @property
    def frozen(self) -> bool:
        """True while it is stopped by SIGSTOP."""
        try:
            return self.pid is not None and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False if there is no process."""
        alive = self.pid is not None
        self._child.signal(number)
        return alive

    async def until_ready(self) -> None:
        """Wait until it is ready."""
        await self._ready.wait()

    async def until_death(self, number: int) -> None:
        """Wait until it has died this many times."""
        while len(self.deaths) < number:
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Stop it for good, gracefully if it does so in time."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self.signal(signal.SIGCONT)
        await self._child.stop()
        self._ready.clear()

    async def kill(self) -> None:
        """Kill it for good, at once."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self._child.kill()
        self._ready.clear()

    def worker_id(self) -> str | None:
        """The worker's newest id, from its log."""
        found = _WORKER_ID.findall(self.log.read_bytes()) if self.log.exists() else []
        return found[-1].decode() if found else None

    async def _start(self) -> None:
        self._child.part = dataclasses.replace(self.part, env={**self.part.env, **self._more()})
        await self._child.start()
        self._ready.set()

    async def _keep(self) -> None:
        while True:
            self.deaths.append(await self._child.ended())
            self._ready.clear()
            await asyncio.sleep(RESTART_SECONDS)
            with suppress(PartFailedError):  # It was killed before it was ready: try again.
                await self._start()

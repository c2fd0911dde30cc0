"""Runs an embedded stack from start to stop, in the caller's process."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from orchestra.devstack.control import ControlServer
from orchestra.devstack.errors import RefusedError
from orchestra.devstack.folder import DataFolder
from orchestra.devstack.options import StackOptions
from orchestra.devstack.place import make_folder
from orchestra.devstack.progress import Report, StartProgress
from orchestra.devstack.stack import Stack

_MAX_WORKERS = 100


async def run_stack(
    options: StackOptions, report: Report, when_ready: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """Start the stack, call ``when_ready`` with its status, and stop it on a signal or by `orchestra down`.

    Raises a ``StackError`` or ``OSError`` if it cannot be started, with nothing left running. A second signal
    kills every part at once.
    """
    folder = await make_folder(options)
    with folder.held():
        await _Run(options, folder, report, when_ready).run()


class _Run:
    def __init__(
        self,
        options: StackOptions,
        folder: DataFolder,
        report: Report,
        when_ready: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._folder = folder
        self._report = report
        self._when_ready = when_ready
        self._stop = asyncio.Event()
        self._stopped = asyncio.Event()
        self._control = ControlServer(self._handle)
        self._stack = Stack(options, folder, self._tell)

    async def run(self) -> None:
        self._listen_to_signals()
        async with self._control.listening(self._folder.socket):
            try:
                await self._start_and_wait()
            finally:
                await self._stack.stop()
                self._stopped.set()

    async def _start_and_wait(self) -> None:
        """Return when a stop is requested, even during the start."""
        stop = asyncio.create_task(self._stop.wait())
        start = asyncio.create_task(self._start())
        await asyncio.wait([start, stop], return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            start.cancel()
            await asyncio.wait([start])
        if not start.cancelled():
            start.result()
        await stop

    async def _start(self) -> None:
        await self._stack.start()
        await self._when_ready(self._stack.status())

    async def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        match request:
            case {"do": "status"}:
                await self._stack.look()
                return {"status": self._stack.status(), "parts": self._stack.parts()}
            case {"do": "scale", "workers": int(workers)} if 0 <= workers <= _MAX_WORKERS:
                await self._stack.scale(workers)
                return {}
            case {"do": "down"}:
                self._stop.set()
                await self._stopped.wait()
                return {}
        raise RefusedError(f"not understood: {request}")

    def _tell(self, progress: StartProgress) -> None:
        self._report(progress)
        self._control.report(progress)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._stack.kill()
            os._exit(128 + number)
        self._stop.set()

"""One process of a part: start it, wait until it is ready, stop it. It never outlives the process that started it."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.folder import open_private
from orchestra.devstack.part import Account, Part

_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 3.0
_TAIL_LINES = 20
_TAIL_BYTES = 64 * 1024
_ROTATE_BYTES = 10 * 1024 * 1024


class State(StrEnum):
    """State of a part's process."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    SILENT = "silent"
    RESTARTING = "restarting"
    STOPPING = "stopping"


class Child:
    """One process and its log file."""

    def __init__(self, part: Part, log: Path) -> None:
        self.part = part
        self.log = log
        self.state = State.STOPPED
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The pid while the process is alive."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process; return once it is ready. Raises ``PartFailedError`` or ``OSError``: no process is left."""
        self.state = State.STARTING
        try:
            await self._spawn()
            await self._until_ready()
        except Exception:
            await self.kill()
            raise
        self.state = State.READY

    async def look(self) -> None:
        """Check whether a ready process still answers; a frozen one is alive but does not."""
        if self.state not in (State.READY, State.SILENT):
            return
        try:
            answers = await asyncio.wait_for(self.part.ready(), _ANSWER_SECONDS)
        except TimeoutError:
            answers = False
        if self.state in (State.READY, State.SILENT):  # It may have ended, or been asked to stop, in the meantime.
            self.state = State.READY if answers else State.SILENT

    async def ended(self) -> int:
        """Wait for the process to end. Returns its exit code, negative for a signal."""
        return await self._process.wait() if self._process else 0

    async def stop(self) -> None:
        """Ask the process to stop, wait for as long as the part allows, then kill it."""
        if self.pid is None:
            self.state = State.STOPPED
            return
        self.state = State.STOPPING
        self.signal(self.part.stop_signal)
        try:
            await asyncio.wait_for(self.ended(), self.part.stop_limit)
        except TimeoutError:
            await self.kill()
        self.state = State.STOPPED

    async def kill(self) -> None:
        """Kill the process, as a crash would."""
        self.kill_now()
        await self.ended()
        self.state = State.STOPPED

    def kill_now(self) -> None:
        """Like ``kill``, but does not wait for the process to end."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still alive."""
        if self.pid is not None and self._process:
            self._process.send_signal(number)

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines that the process has logged since its start, at most 64 KiB."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").rstrip("\n").split("\n")[-lines:])

    async def _spawn(self) -> None:
        self.part.before_start()
        rotate(self.log)
        with open_private(self.log) as log:
            self._log_start = log.tell()
            # A new session: Ctrl-C in the terminal goes to the supervisor only, which stops its parts in order.
            self._process = await asyncio.create_subprocess_exec(
                *launched(self.part.command, self.part.orphan_signal, self.part.account),
                env=dict(self.part.env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _until_ready(self) -> None:
        limit = time.monotonic() + self.part.start_limit
        while not await self.part.ready():
            if self.pid is None:
                code = await self.ended()
                how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                raise PartFailedError(self.part.name, f"{how} before it was ready", self.tail())
            if time.monotonic() > limit:
                reason = f"was not ready within {self.part.start_limit:.0f} s"
                raise PartFailedError(self.part.name, reason, self.tail())
            await asyncio.sleep(_POLL_SECONDS)


def rotate(log: Path) -> None:
    """Move a large log aside, over the previous one. A log that cannot be moved stays."""
    with suppress(OSError):
        if log.stat().st_size > _ROTATE_BYTES:
            log.replace(log.with_suffix(".log.1"))


def launched(
    command: Sequence[str], orphan_signal: signal.Signals = signal.SIGKILL, account: Account | None = None
) -> list[str]:
    """The command, run through the launcher. The main thread starts it: the kernel ties a child to a thread."""
    user = f"{account.uid}:{account.gid}" if account else ""
    launcher = Path(__file__).with_name("launch.py")
    return [sys.executable, "-I", "-S", str(launcher), str(os.getpid()), str(int(orphan_signal)), user, *command]

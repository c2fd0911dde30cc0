"""Our services as child processes of a test: started, killed, paused, drained, and read when the test fails."""

import asyncio
import dataclasses
import signal
from pathlib import Path

from orchestra.devstack.child import Child
from orchestra.devstack.part import Part
from orchestra.devstack.ports import Ports
from orchestra.devstack.services import gateway_part, llm_part, worker_part
from tests.support.ports import free_port
from tests.support.previous_release import Release

_CLOSE_SECONDS = 5.0


class Service:
    """One process."""

    def __init__(self, part: Part, folder: Path) -> None:
        self.name = part.name
        self.url = part.address
        self._child = Child(part, folder / f"{part.name}.log")

    @property
    def pid(self) -> int:
        """The pid; an assertion fails when the process has ended."""
        assert self._child.pid is not None, f"{self.name} has ended:\n{self.tail()}"
        return self._child.pid

    @property
    def alive(self) -> bool:
        """True until the process has ended."""
        return self._child.pid is not None

    @property
    def log(self) -> str:
        """All that the process has logged."""
        return self._child.log.read_text(errors="replace")

    async def start(self) -> None:
        """Start it, or start it again; return when it is ready."""
        await self._child.start()

    async def kill(self) -> None:
        """End it as `kill -9` does; return when it is gone."""
        await self._child.kill()

    async def stop(self) -> None:
        """Send SIGTERM and wait for as long as a drain may take; then kill."""
        self.resume()
        await self._child.stop()

    async def end(self, limit: float) -> None:
        """Send SIGTERM, and kill it after ``limit`` seconds."""
        self.resume()
        self.terminate()
        try:
            await asyncio.wait_for(self.ended(), limit)
        except TimeoutError:
            await self.kill()

    def terminate(self) -> None:
        """Send SIGTERM and do not wait."""
        self._child.signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end. Its exit code; negative for a signal."""
        return await self._child.ended()

    async def restart(self) -> None:
        """Stop it in good order and start it again, on the same port."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Freeze it, as a machine that hangs."""
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        self._child.signal(signal.SIGCONT)

    def tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.splitlines()[-lines:]) if self._child.log.exists() else ""


class Services:
    """The processes of one test. ``env`` is given to each; what is given at a start adds to it.

    ``release``: whose code they run, if it is not the present one.
    """

    def __init__(self, env: dict[str, str], folder: Path, release: Release | None = None) -> None:
        self.env = dict(env)
        self._release = release
        self.started: list[Service] = []
        self._folder = folder

    async def llm(self, **env: str) -> Service:
        """An LLM service; the workers and gateways started after it use it."""
        service = await self._start(llm_part(self.env, free_port()), env)
        self.env["LLM_SERVICE_URL"] = service.url
        return service

    async def worker(self, **env: str) -> Service:
        """A worker."""
        number = self._next("worker")
        return await self._start(worker_part(self.env, number, self._folder / f"worker-{number}.ready", Ports()), env)

    async def gateway(self, **env: str) -> Service:
        """A gateway."""
        return await self._start(gateway_part(self.env, self._next("gateway"), free_port(), free_port()), env)

    async def close(self) -> None:
        """End what still runs. In good order if it is quick: a killed worker keeps its partitions for a while."""
        await asyncio.gather(*(service.end(_CLOSE_SECONDS) for service in self.started))

    def _next(self, kind: str) -> int:
        return sum(f"{kind}-" in service.name for service in self.started) + 1

    async def _start(self, part: Part, env: dict[str, str]) -> Service:
        part = self._release.run(part) if self._release else part
        count = sum(service.name.split(".")[0] == part.name for service in self.started)
        name = f"{part.name}.{count + 1}" if count else part.name
        service = Service(dataclasses.replace(part, name=name, env={**part.env, **env}), self._folder)
        self.started.append(service)
        await service.start()
        return service

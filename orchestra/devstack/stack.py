"""The embedded stack as a whole: order of the start, configuration of the parts, and their state."""

import asyncio
import os
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError

from orchestra.devstack.child import Child, State
from orchestra.devstack.choice import Choice, choose
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.folder import DataFolder, open_private
from orchestra.devstack.kafka import kafka_part
from orchestra.devstack.model import MODEL_NAME, model_part
from orchestra.devstack.options import StackOptions
from orchestra.devstack.part import python_module
from orchestra.devstack.ports import HOST, until_free
from orchestra.devstack.postgres import postgres_part
from orchestra.devstack.progress import Report, StartProgress
from orchestra.devstack.services import (
    gateway_part,
    llm_part,
    shared_environment,
    worker_part,
)
from orchestra.devstack.step import run_step
from orchestra.devstack.supervisor import Supervisor
from orchestra.kafka.topics import ensure_topics
from orchestra.settings import KafkaSettings
from schemas.topics import TOPICS, Topic

_PORT_PATIENCE_SECONDS = 5.0


class Stack:
    """One embedded stack on one data folder, whose lock the caller holds."""

    def __init__(
        self, options: StackOptions, folder: DataFolder, report: Report, topics: Sequence[Topic] = TOPICS
    ) -> None:
        self._options = options
        self._ports = options.ports
        self._folder = folder
        self._tell = report
        self._topics = topics
        self._scaling = asyncio.Lock()
        self._overall = State.STARTING
        self._env: dict[str, str] = {}
        self._choice: Choice | None = None
        self._supervisor = Supervisor(folder.logs, self._report)

    async def start(self) -> None:
        """Start every part and return once all are ready. Raises ``PortTakenError`` or ``PartFailedError``."""
        self._choice = choice = await choose()
        await self._check_ports()
        await _together(self._start_kafka(), self._start_postgres(choice), self._start_model())
        await _together(self._migrate(), self._make_topics())
        await self._supervisor.add(llm_part(self._env, self._ports.llm))
        # At the same time: a new worker waits for a gateway to mark the folder of files.
        await _together(
            *(self._start_worker(number) for number in range(1, self._options.workers + 1)),
            *(self._start_gateway(number) for number in range(1, self._options.gateways + 1)),
        )
        self._overall = State.READY
        self._save()

    async def scale(self, workers: int) -> None:
        """Start more workers or drain the newest ones until there are this many. Raises ``PartFailedError``."""
        async with self._scaling:
            present = sorted(self._numbers("worker"))
            await self._supervisor.remove(*(f"worker-{number}" for number in present[workers:]))
            first = max(present, default=0) + 1
            await _together(*(self._start_worker(first + more) for more in range(workers - len(present))))
            self._save()

    async def stop(self) -> None:
        """Stop every part in reverse order of start, and give each the time that it may take."""
        self._overall = State.STOPPING
        for names in (self._named("gateway"), self._named("worker"), self._named("llm"), list(self._children)):
            await self._supervisor.remove(*(name for name in names if name in self._children))
        self._overall = State.STOPPED
        with suppress(OSError):
            self._folder.state.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill every part at once."""
        self._supervisor.kill(self._children)

    def status(self) -> dict[str, Any]:
        """The state of the stack, in the shape of `orchestra status --json`."""
        ports, group = self._ports, self._group
        return {
            "state": self._state(),
            "gateway": {"state": group("gateway")[0], "url": _url(ports.gateway), "pids": group("gateway")[1]},
            "tasks": {"state": group("gateway")[0], "url": _url(ports.tasks)},
            "llm_service": {"state": group("llm")[0], "url": _url(ports.llm), "pids": group("llm")[1]},
            "workers": {"state": group("worker")[0], "pids": group("worker")[1]},
            "kafka": {
                "state": group("kafka")[0],
                "bootstrap": f"{HOST}:{ports.kafka}",
                "pids": group("kafka")[1],
            },
            "database": {
                "state": group("postgres")[0],
                "url": self._env.get("DATABASE_URL"),
                "pids": group("postgres")[1],
            },
            "model": {
                "state": group("model")[0] if self._model else "off",
                "url": f"{_url(ports.model)}/v1" if self._model else None,
                "pids": group("model")[1],
            },
            "env": self._env,
        }

    async def look(self) -> None:
        """Check whether ready parts still answer, for the next ``status``."""
        await asyncio.gather(*(child.look() for child in self._children.values()))

    def parts(self) -> list[dict[str, Any]]:
        """Every process, for people to read."""
        return [
            {"name": name, "state": child.state, "pid": child.pid, "address": child.part.address}
            for name, child in self._children.items()
        ]

    @property
    def _model(self) -> bool:
        """Whether the small model is a part of this stack."""
        return self._choice is not None and self._choice.provider == "embedded"

    @property
    def _children(self) -> dict[str, Child]:
        return self._supervisor.children

    def _named(self, kind: str) -> list[str]:
        return [name for name in self._children if name.split("-")[0] == kind]

    def _numbers(self, kind: str) -> list[int]:
        return [int(name.split("-")[1]) for name in self._named(kind)]

    def _group(self, kind: str) -> tuple[str, list[int]]:
        """State and pids of all processes of one kind; the state is the worst of theirs."""
        children = [self._children[name] for name in self._named(kind)]
        unready = [child.state for child in children if child.state is not State.READY]
        state = unready[0] if unready else State.READY if children else State.STOPPED
        return state, [child.pid for child in children if child.pid]

    def _state(self) -> str:
        if self._overall is State.READY and any(child.state is not State.READY for child in self._children.values()):
            return "degraded"
        return self._overall

    def _report(self, progress: StartProgress) -> None:
        self._save()
        self._tell(progress)

    def _save(self) -> None:
        with suppress(
            OSError
        ):  # A full disk, for example. The next change writes it again, and `status` does not read the file.
            self._folder.write_state({**self.status(), "parts": self.parts()})

    async def _check_ports(self) -> None:
        needed = self._ports.needed(self._options.gateways, model=self._model)
        # After a crash the processes of the last run may still be exiting.
        patience = _PORT_PATIENCE_SECONDS if self._folder.state.exists() else 0.0
        await until_free(needed, patience)

    async def _start_kafka(self) -> None:
        part = await kafka_part(self._folder.kafka, self._ports.kafka, self._ports.controller, self._report)
        await self._supervisor.add(part)

    async def _start_postgres(self, choice: Choice) -> None:
        part, url = await postgres_part(self._folder.postgres, self._ports.postgres, self._report)
        self._env = shared_environment(self._ports, url, self._folder, choice)
        await self._supervisor.add(part)

    async def _start_model(self) -> None:
        if self._model:
            await self._supervisor.add(model_part(self._ports.model, self._folder.token(MODEL_NAME)))

    async def _migrate(self) -> None:
        self._report(StartProgress("migrations", "starting"))
        code, output = await run_step(python_module("orchestra.cli", "migrate", "up"), {**os.environ, **self._env})
        with open_private(self._folder.log("migrations")) as log:
            log.truncate(0)
            log.write(output.encode())
        if code:
            self._report(StartProgress("migrations", "failed"))
            raise PartFailedError("migrations", "could not be applied", output)
        self._report(StartProgress("migrations", "ready"))

    async def _make_topics(self) -> None:
        self._report(StartProgress("topics", "starting"))
        here = {"kafka_bootstrap_servers": f"{HOST}:{self._ports.kafka}", "kafka_security_protocol": "PLAINTEXT"}
        try:
            problems = await ensure_topics(KafkaSettings.model_validate(here), self._topics)
        except KafkaError as error:
            problems = [f"Kafka: {type(error).__name__}"]
        if problems:
            self._report(StartProgress("topics", "failed"))
            raise PartFailedError("topics", "have wrong settings", "\n".join(problems))
        self._report(StartProgress("topics", "ready"))

    async def _start_worker(self, number: int) -> None:
        ready_file = self._folder.ready_file(f"worker-{number}")
        await self._supervisor.add(worker_part(self._env, number, ready_file, self._ports))

    async def _start_gateway(self, number: int) -> None:
        await self._supervisor.add(gateway_part(self._env, number, *self._ports.of_gateway(number)))


async def _together(*steps: Awaitable[None]) -> None:
    """Run steps concurrently. The first failure cancels the others and is raised unchanged."""

    async def run(step: Awaitable[None]) -> None:
        await step

    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(run(step))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"

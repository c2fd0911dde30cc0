"""The base of a run: the embedded stack exactly as `orchestra up` starts it, with a model that costs nothing."""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.fake_model import Settings
from benchmarks.meters import PARTS, Groups, Meters, attribute, memory_mb, open_meters, processes
from benchmarks.question import MODEL
from benchmarks.statements import StatementLog
from orchestra.devstack.child import Child
from orchestra.devstack.folder import DataFolder
from orchestra.devstack.options import StackOptions
from orchestra.devstack.part import Part, python_module
from orchestra.devstack.ports import HOST, Ports, taken
from orchestra.devstack.probes import answers
from orchestra.devstack.progress import StartProgress
from orchestra.devstack.stack import Stack
from orchestra.settings import DatabaseSettings
from orchestra.store.database import Database
from schemas.topics import REQUESTS, TOPICS

# Not in the folder for temporary files, which may be in memory: an fsync there costs nothing.
_ON_DISK = Path("/var/tmp")  # noqa: S108
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
_SETTLE_SECONDS = 30.0
_OPEN = "SELECT count(*) AS open FROM requests WHERE status IN ('waiting', 'pending', 'in_progress')"
_DURABLE = "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit"
_MODELS = """[[models]]
name = "{model}"
provider = "openai_compatible"
base_url = "{url}/v1"
context_tokens = 1000000
max_output_tokens = 10000
"""


class Bench:
    """All running parts, and how to configure, count and clear them between two cells."""

    def __init__(
        self, stack: Stack, urls: list[str], model: Child, session: aiohttp.ClientSession,
        database: Database, meters: Meters, statements: StatementLog,
    ) -> None:  # fmt: skip
        self.urls = urls
        self.model_url = model.part.address
        self.database = database
        self.meters = meters
        self.statements = statements
        self.stack = stack
        # Pids of what is measured beside it, by name.
        self.beside: dict[str, list[int]] = {}
        self._model = model
        self._session = session

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return str(self.stack.status()["kafka"]["bootstrap"])

    def groups(self, load: int | None = None) -> Groups:
        """The processes by group. ``load``: the pid of the load's process."""
        status = self.stack.status()
        names = dict(zip(PARTS, ("gateway", "workers", "llm_service", "kafka", "database"), strict=True))
        ours = {part: status[name]["pids"] for part, name in names.items()}
        return {
            **ours,
            "model": [self._model.pid or 0],
            "load": [load] if load else [],
            "meters": [os.getpid()],
            **self.beside,
        }

    def memory_mb(self) -> dict[str, float]:
        """Current PSS of each of our parts."""
        return memory_mb({part: pids for part, pids in self.groups().items() if part in PARTS})

    async def idle_percent(self, seconds: float) -> dict[str, float]:
        """Processor time of each of our parts during this time without requests, in percent of one core."""
        groups = self.groups()
        before, began = attribute(processes(), groups), time.monotonic()
        await asyncio.sleep(seconds)
        after, elapsed = attribute(processes(), groups), time.monotonic() - began
        return {part: 100 * (after[part] - before[part]) / elapsed for part in PARTS}

    async def set_model(self, settings: Settings) -> None:
        """Change how the model answers; resets its counts."""
        async with self._session.put(f"{self.model_url}/settings", json=asdict(settings)) as response:
            response.raise_for_status()

    async def model_stats(self) -> dict[str, int]:
        """Calls of the model since it was set: ``calls``, ``open`` now, ``most_open`` at once."""
        async with self._session.get(f"{self.model_url}/stats") as response:
            stats: dict[str, int] = await response.json()
            return stats

    async def settle(self) -> int:
        """Wait until nothing is open; returns the number of requests still open after 30 s."""
        limit = time.monotonic() + _SETTLE_SECONDS
        while (left := await self._open()) and time.monotonic() < limit:
            await asyncio.sleep(0.2)
        return left

    async def _open(self) -> int:
        (row,) = await self.database.run(_OPEN)
        return int(row.open) + (await self.model_stats())["open"]


@asynccontextmanager
async def open_bench(
    workers: int = 1,
    gateways: int = 1,
    partitions: int = REQUESTS.partitions,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Bench]:
    """A whole new stack, all real except for the model. Its data is deleted after the body, or kept if that fails.

    ``settings`` of the services override those of the environment. Raises ``PartFailedError`` if it does not start,
    ``RuntimeError`` if Postgres does not write to disk.
    """
    folder = folder_on_disk()
    ports = _free_ports(gateways)
    model = Child(_model_part(ports.model), folder.log("fake-model"))
    async with AsyncExitStack() as undo:
        undo.push(partial(_leave, folder))
        undo.enter_context(folder.held())
        undo.enter_context(_told(folder.path, model.part.address, settings or {}))
        topics = [replace(topic, partitions=partitions) for topic in TOPICS]
        stack = Stack(StackOptions(folder.path, workers, gateways, ports), folder, _say, topics)
        undo.push_async_callback(model.kill)
        undo.push_async_callback(stack.stop)
        await model.start()
        await stack.start()
        database = _database(stack.status())
        undo.push_async_callback(database.close)
        await _check_durable(database)
        yield Bench(
            stack=stack,
            urls=[f"http://{HOST}:{ports.of_gateway(number)[0]}" for number in range(1, gateways + 1)],
            model=model,
            session=await undo.enter_async_context(aiohttp.ClientSession()),
            database=database,
            meters=await undo.enter_async_context(open_meters(database, f"{HOST}:{ports.kafka}", topics)),
            statements=StatementLog(database, folder.log("postgres")),
        )


def _leave(folder: DataFolder, failed: type[BaseException] | None, *_: object) -> None:
    if failed and issubclass(failed, Exception):
        print(f"the logs are kept in {folder.logs}")
    else:
        folder.wipe()


def folder_on_disk() -> DataFolder:
    """A new folder for the data of one run."""
    where = _ON_DISK if _ON_DISK.exists() else None
    folder = DataFolder.at(Path(tempfile.mkdtemp(prefix="orchestra-bench-", dir=where)))
    folder.create()
    return folder


async def _check_durable(database: Database) -> None:
    (row,) = await database.run(_DURABLE)
    if (row.fsync, row.synchronous_commit) != ("on", "on"):
        raise RuntimeError("Postgres does not write each commit to disk: the figures would be meaningless")


def _database(status: dict[str, Any]) -> Database:
    settings = DatabaseSettings.model_validate({"database_url": status["database"]["url"], "database_pool_size": 2})
    return Database.connect(settings, "benchmarks")


def _say(progress: StartProgress) -> None:
    if progress.step in ("downloading", "failed", "restarting", "note"):
        print(f"{progress.part}: {progress.step} {progress.detail}".strip())


def _model_part(port: int) -> Part:
    url = f"http://{HOST}:{port}"
    command = python_module("benchmarks.fake_model", str(port))
    return Part(
        name="fake-model", command=command, env=dict(os.environ), ready=answers(f"{url}/v1/models"), address=url
    )


@contextmanager
def _told(folder: Path, model_url: str, settings: Mapping[str, str]) -> Iterator[None]:
    """Choose the provider by the environment, as a caller of `orchestra up` does."""
    models = folder / "models.toml"
    models.write_text(_MODELS.format(model=MODEL, url=model_url))
    before = dict(os.environ)
    os.environ.update(LLM_PROVIDER="simulated", LLM_MODEL=MODEL, MODELS_FILE=str(models), **settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        models.unlink()


def _free_ports(gateways: int) -> Ports:
    while True:
        ports = Ports.from_base(random.randrange(_FIRST_PORT, _LAST_PORT))
        if not any(map(taken, ports.needed(gateways, model=True).values())):
            return ports

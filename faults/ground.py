"""The base of a campaign: its own Kafka and Postgres, and for each phase a new set of services on them."""

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from faults.cluster import Kafka, free_ports
from faults.postgres_proxy import PostgresProxy, postgres_proxy
from faults.processes import Process
from faults.question import write_agent
from orchestra.cli.migrate import dbmate
from orchestra.credentials import new_key
from orchestra.devstack.child import Child
from orchestra.devstack.part import Part, python_module
from orchestra.devstack.ports import HOST, Ports
from orchestra.devstack.postgres import postgres_part
from orchestra.devstack.probes import answers
from orchestra.devstack.services import gateway_part, llm_part, worker_part
from orchestra.settings import DatabaseSettings
from orchestra.store import keys
from orchestra.store.database import Database
from schemas.api.keys import CreateKey, Scope

MODEL = "oracle"
# So short that callers receive `still_running`.
_DOOR_WAIT_SECONDS = "10"
MODELS = """[[models]]
name = "{model}"
provider = "openai_compatible"
base_url = "{url}/v1"
context_tokens = 1000000
max_output_tokens = 1000
"""
Environment = Mapping[str, str]


@dataclass(frozen=True)
class Setup:
    """The services of one phase. ``oracle``: its spec of faults. ``worker`` and ``gateway``: added to the environment.

    ``proxied``: workers reach Postgres through a proxy that can cut commits. ``idle_seconds``: how long the LLM service
    waits for a silent model. ``each_start``: extra environment of a worker at each start, by its name. ``keys``: the
    programs that have a key, each with its tenant. ``files``: files are offered, in a folder.
    """

    workers: int = 3
    gateways: int = 2
    oracle: str = "latency_ms=100"
    worker: Environment = field(default_factory=dict)
    gateway: Environment = field(default_factory=dict)
    proxied: bool = False
    idle_seconds: float = 3.0
    each_start: Callable[[str], Environment] = lambda _: {}
    keys: Mapping[str, str] = field(default_factory=dict)
    files: bool = False


class Scene:
    """The services of one phase, running."""

    def __init__(self, ground: "Ground", setup: Setup, name: str, database_url: str) -> None:
        self.began = time.time()
        self.kafka = ground.kafka
        self.postgres = ground.postgres
        self.setup = setup
        self.folder = ground.folder / name
        self.folder.mkdir()
        self.ledger = self.folder / "ledger.jsonl"
        self.oracle_log = self.folder / "oracle.jsonl"
        self.database_url = database_url
        self.database = Database.connect(
            DatabaseSettings.model_validate({"database_url": database_url, "database_pool_size": 4}), "faults"
        )
        self.proxy: PostgresProxy | None = None
        self.workers: list[Process] = []
        self.gateways: list[Process] = []
        self.gone: list[Process] = []
        self.keys: dict[str, str] = {}
        self.files = self.folder / "files"
        self.env = {
            "DATABASE_URL": database_url,
            "FILES_URL": self.files.as_uri() if setup.files else "",
            "KAFKA_BOOTSTRAP_SERVERS": ground.kafka.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "ORCHESTRA_SECRET": ground.secret,
            "LLM_PROVIDER": "simulated",
            "LLM_MODEL": MODEL,
            "MODELS_FILE": str(self.folder / "models.toml"),
            "AGENTS_DIR": str(self.folder / "agents"),
            "UPSTREAM_IDLE_SECONDS": str(setup.idle_seconds),
            "DOOR_WAIT_SECONDS": _DOOR_WAIT_SECONDS,
        }
        oracle_port, llm_port = free_ports(2)
        self.oracle = self._process(self._oracle_part(oracle_port))
        Path(self.env["MODELS_FILE"]).write_text(MODELS.format(model=MODEL, url=self.oracle.url))
        write_agent(Path(self.env["AGENTS_DIR"]))
        self.llm = self._process(llm_part(self.env, llm_port))
        self.env["LLM_SERVICE_URL"] = self.llm.url

    @property
    def urls(self) -> list[str]:
        """URLs of the gateways."""
        return [gateway.url for gateway in self.gateways]

    async def start(self) -> None:
        """Start everything; return once all of it is ready. Raises ``PartFailedError``."""
        for name, tenant in self.setup.keys.items():
            key = new_key()
            await keys.create(self.database, tenant, key, CreateKey(name=name, scopes=[Scope.WRITE]))
            self.keys[name] = key.text
        await self.oracle.start()
        await self.llm.start()
        # Together: a worker waits until a gateway has marked the folder of files.
        await asyncio.gather(
            *(self.add_worker() for _ in range(self.setup.workers)),
            *(self._add_gateway() for _ in range(self.setup.gateways)),
        )

    async def add_worker(self) -> Process:
        """Start one more worker; return once it is ready."""
        number = len(self.workers) + len(self.gone) + 1
        env = {**self.env, **self.setup.worker, "METRICS_PORT": str(free_ports(1)[0])}
        if self.proxy:
            env["DATABASE_URL"] = through(self.database_url, self.proxy.port)
        part = worker_part(env, number, self.folder / f"worker-{number}.ready", Ports())
        process = self._process(part, lambda: self.setup.each_start(part.name))
        self.workers.append(process)
        await process.start()
        return process

    async def remove_worker(self) -> None:
        """Drain the newest worker; return once it has left."""
        process = self.workers.pop()
        self.gone.append(process)
        await process.stop()

    async def stop(self) -> None:
        """Stop every service, gateways first; workers drain, so that they leave their group."""
        await asyncio.gather(*(process.kill() for process in self.gateways))
        await asyncio.gather(*(process.stop() for process in self.workers))
        await asyncio.gather(*(process.kill() for process in (self.llm, self.oracle)))
        await self.database.close()

    async def _add_gateway(self) -> None:
        port, tasks_port = free_ports(2)
        part = gateway_part({**self.env, **self.setup.gateway}, len(self.gateways) + 1, port, tasks_port)
        process = self._process(part)
        self.gateways.append(process)
        await process.start()

    def _process(self, part: Part, more: Callable[[], Environment] = dict) -> Process:
        return Process(part, self.folder, more)

    def _oracle_part(self, port: int) -> Part:
        told = ("--port", str(port), "--log", str(self.oracle_log), "--faults", self.setup.oracle)
        url = f"http://{HOST}:{port}"
        ready = answers(f"{url}/v1/models")
        return Part(
            name="oracle", command=python_module("faults.oracle", *told), env=dict(os.environ), ready=ready, address=url
        )


class Ground:
    """A running Kafka and Postgres. Scenes run on it one after the other."""

    def __init__(self, folder: Path, kafka: Kafka, postgres: Child, url: str) -> None:
        self.folder = folder
        self.kafka = kafka
        self.postgres = postgres
        self.secret = secrets.token_hex(32)
        self._url = url

    @asynccontextmanager
    async def scene(self, name: str, setup: Setup) -> AsyncIterator[Scene]:
        """Services on an empty database and empty topics; all of them stop at the end of the body."""
        await self.kafka.forget()
        made = Scene(self, setup, name, await self._fresh_database(name.replace("-", "_")))
        split = urlsplit(self._url)
        assert split.port
        try:
            async with postgres_proxy(HOST, split.port) as proxy:
                made.proxy = proxy if setup.proxied else None
                try:
                    await made.start()
                    yield made
                finally:
                    await made.stop()
        finally:
            if not self.postgres.pid:  # The body ended while Postgres was down.
                await self.postgres.start()

    async def _fresh_database(self, name: str) -> str:
        url = urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))
        done = await asyncio.to_thread(dbmate, "up", url=url)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return url


@asynccontextmanager
async def open_ground(*, brokers: int) -> AsyncIterator[Ground]:
    """Kafka with one or three brokers, and Postgres. Their data is deleted after the body; the logs stay."""
    folder = _new_folder()
    kafka = await (Kafka.one(folder) if brokers == 1 else Kafka.three(folder))
    part, url = await postgres_part(folder / "postgres", free_ports(1)[0], lambda _: None)
    postgres = Child(part, folder / "postgres.log")
    try:
        await asyncio.gather(kafka.start(), postgres.start())
        yield Ground(folder, kafka, postgres, url)
    finally:
        await asyncio.gather(kafka.stop(), postgres.stop())
        for data in ("kafka", "kafka-1", "kafka-2", "kafka-3", "postgres"):
            shutil.rmtree(folder / data, ignore_errors=True)


def _new_folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="orchestra-faults-"))
    made.chmod(0o711)  # Postgres' user must be able to pass through.
    return made


def through(url: str, port: int) -> str:
    """The database URL with another port."""
    split = urlsplit(url)
    return urlunsplit(split._replace(netloc=split.netloc.replace(f":{split.port}", f":{port}")))

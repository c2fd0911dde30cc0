"""The wiring of one worker, and its life: start, run, drain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import structlog
from aiokafka import AIOKafkaProducer
from faststream.kafka import KafkaBroker

from orchestra.agents.catalogue import Agents, load_agents
from orchestra.kafka import group_reader, make_broker, make_producer
from orchestra.signing import Signer
from orchestra.store import claims
from orchestra.store.database import Database, DatabaseUnavailableError
from workers import generate
from workers.claim import Slots
from workers.finish import Finisher
from workers.generate import LlmService
from workers.held import HeldBack
from workers.intake import Intake, WatchForGaps
from workers.lease import Lease
from workers.metrics import Metrics
from workers.models import Models
from workers.outcome import Cancelled, Interrupted, LeaseLost
from workers.publish import Publisher
from workers.records import RecordReader
from workers.settings import WorkerSettings
from workers.sweep import Sweeper
from workers.throttle import Throttle
from workers.turn import Turns

GROUP = "llm-orchestra-workers"
FLUSH_SECONDS = 5.0

log = structlog.get_logger()


class Worker:
    """One worker. ``run`` ends when ``stop`` was called and what was in flight has ended or gone back."""

    def __init__(
        self,
        settings: WorkerSettings,
        agents: Agents,
        database: Database,
        broker: KafkaBroker,
        producer: AIOKafkaProducer,
        llm: LlmService,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._database = database
        self._broker = broker
        gaps = WatchForGaps(metrics, lambda: self._subscriber.consumer)
        self._subscriber = group_reader(broker, list(settings.tenants), GROUP, gaps)
        self._stopping = asyncio.Event()
        self.publisher = Publisher(producer, database, metrics)
        self.models = Models(llm, database)
        self.lease = Lease(database, metrics, settings.ready_file)
        self.finisher = Finisher(database, metrics, self.publisher.announce, lambda: self.slots.wake())  # noqa: PLW0108  slots come later
        throttle = Throttle(settings.worker_concurrency)
        turns = Turns(llm, self.models, agents, database, self.publisher, metrics, throttle, self.finisher.finish)
        self.held = HeldBack(database, throttle, self.publisher)
        self.slots = Slots(database, metrics, self.lease, throttle, settings.worker_concurrency, turns.run)
        self.intake = Intake(_record_reader(settings, agents), database, self.publisher, self.slots, metrics)
        self.sweeper = Sweeper(
            database,
            self.lease,
            metrics,
            announce=self.publisher.announce,
            hold_intake=lambda full: self.intake.hold(full=full),
            most_open=settings.max_open_requests,
            retention_days=settings.retention_days,
        )

    def stop(self) -> None:
        """Begin the drain."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until ``stop``, then drain. Raises when a part that everything rests on has failed."""
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(work)
                for work in (
                    self.publisher.run(),
                    self.finisher.run(),
                    self.models.run(),
                    self.sweeper.run(),
                    self.held.run(),
                    self.lease.run(
                        on_cancelled=lambda refs: self.slots.stop(refs, Cancelled()),
                        on_lost=lambda: self.slots.stop_all(LeaseLost()),
                    ),
                )
            ]
            claiming = tasks.create_task(self.slots.run())
            reading = tasks.create_task(self.intake.run(self._broker, self._subscriber))
            await self._stopping.wait()
            self.intake.close()
            self.slots.close()
            await self._drain(claiming, reading)
            for task in running:
                task.cancel()

    async def _drain(self, *taking: asyncio.Task[None]) -> None:
        """Take nothing more, let running calls end, give the rest back, publish what is owed, leave."""
        log.info("draining", seconds=self._settings.drain_seconds)
        began = asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            # What was taken is written first, but not for ever: Postgres or Kafka may be away.
            async with asyncio.timeout(max(self._settings.drain_seconds, FLUSH_SECONDS)):
                await asyncio.gather(*taking)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(began + self._settings.drain_seconds):
                await self.slots.until_empty()
        self.slots.stop_all(Interrupted())
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.slots.until_empty()
                await self.publisher.flush()
        with suppress(DatabaseUnavailableError):
            lost = await claims.leave(self._database, self.lease.worker_id)
            self.publisher.announce(lost.announcements)


@asynccontextmanager
async def worker(settings: WorkerSettings, metrics: Metrics) -> AsyncIterator[Worker]:
    """A worker with its connections, registered, ready to ``run``."""
    agents = load_agents(settings)
    async with AsyncExitStack() as stack:
        database = Database.connect(settings, "orchestra worker")
        stack.push_async_callback(database.close)
        llm = await stack.enter_async_context(generate.connect(settings))
        producer = make_producer(settings, "orchestra-worker")
        stack.push_async_callback(producer.stop)
        await producer.start()
        broker = make_broker(settings, "orchestra-worker")
        stack.push_async_callback(broker.stop)
        made = Worker(settings, agents, database, broker, producer, llm, metrics)
        await made.models.refresh()
        await made.lease.take()
        yield made


def _record_reader(settings: WorkerSettings, agents: Agents) -> RecordReader:
    return RecordReader(
        Signer(settings.secrets), agents, settings.tenants, settings.llm_model, require_signed=settings.require_signed
    )

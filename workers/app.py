"""The wiring of one worker and its lifecycle: start, run, drain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import structlog
from aiokafka import AIOKafkaConsumer

from orchestra.agents.catalogue import Agents, load_agents
from orchestra.files import marker
from orchestra.files.folder import Folder
from orchestra.files.home import FileHome
from orchestra.files.opening import open_home
from orchestra.incoming import Judge
from orchestra.kafka.clients import GROUP, group_reader, make_broker, open_producer, started
from orchestra.kafka.erasures import write
from orchestra.loops import beside, keep_running
from orchestra.signing import EventSigner
from orchestra.store import leases
from orchestra.store.database import Database, DatabaseUnavailableError
from workers import generate
from workers.claim import Slots
from workers.erase import Eraser
from workers.files import FileSweep
from workers.finish import Finisher
from workers.generate import LlmService
from workers.held import HeldBack
from workers.intake import Intake, OnRebalance
from workers.lease import Lease
from workers.ledger import Ledger
from workers.media import Media
from workers.metrics import Metrics
from workers.models import Models
from workers.outcome import Cancelled, Interrupted, LeaseLost
from workers.pauses import Pauses
from workers.publish import SOURCE, OpenProducer, Publisher
from workers.records import RecordReader
from workers.settings import WorkerSettings
from workers.shares import Shares
from workers.state import Reporter
from workers.sweep import Sweeper
from workers.throttle import Throttle
from workers.timings import TIMINGS, Timings
from workers.turn import Turns

_CLIENT_ID = "orchestra-worker"

log = structlog.get_logger()


class Worker:
    """One worker. ``run`` returns after ``stop``, once every turn in flight has ended or been given back.

    An outage of Kafka or Postgres ends nothing: every loop continues once the service is back. A bug in a loop that
    holds turns starts the drain and sets ``failed``.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        agents: Agents,
        database: Database,
        open_producer: OpenProducer,
        llm: LlmService,
        metrics: Metrics,
        timings: Timings = TIMINGS,
        home: FileHome | None = None,
    ) -> None:
        self._settings = settings
        self._timings = timings
        self._metrics = metrics
        metrics.name_topics(settings.tenants)
        self._database = database
        self._stopping = asyncio.Event()
        # Cleared while an operator has the worker drain.
        self._may_take = asyncio.Event()
        self._may_take.set()
        self.failed = False
        self.publisher = Publisher(open_producer, database, metrics, EventSigner(settings.secrets), timings)
        self.models = Models(llm, database, timings)
        self.lease = Lease(database, metrics, timings)
        self.finisher = Finisher(database, metrics, self.publisher.announce, timings)
        throttle = Throttle(settings.worker_concurrency, wake=self._wake)
        self.shares = Shares(settings.worker_concurrency, settings.max_owner_share, settings.max_tenant_share, timings)
        self.pauses = Pauses(self._wake, timings)
        turns = Turns(
            llm, self.models, agents, database, self.publisher, metrics, throttle, Media(database, home, timings),
            self.finisher.finish, timings,
        )  # fmt: skip
        self.held = HeldBack(database, throttle, self.publisher, self._wake, timings)
        self.slots = Slots(
            database,
            metrics,
            self.lease,
            throttle,
            self.shares,
            self.pauses,
            settings.worker_concurrency,
            turns.run,
            timings,
        )
        self.finisher.slots = self.slots
        self.intake = Intake(
            _record_reader(settings, agents),
            database,
            self.publisher,
            self.slots,
            metrics,
            Ledger(settings.secrets),
        )
        self._reporter = Reporter(
            throttle,
            self.shares,
            settings.worker_concurrency,
            settings.tenants,
            assignment=lambda: self.intake.assignment,
            draining=lambda: self._stopping.is_set() or not self._may_take.is_set(),
        )
        self.sweeper = Sweeper(
            database,
            self.lease,
            metrics,
            announce=self.publisher.announce,
            wake=self._wake,
            hold_intake=lambda full: self.intake.hold(full=full),
            max_open=settings.max_open_requests,
            retention_days=settings.retention_days,
            audit_retention_days=settings.audit_retention_days,
            conversation_retention_days=settings.conversation_retention_days,
            eraser=Eraser(
                database,
                settings.secrets,
                record=partial(write, open_producer, source=SOURCE),
                announce=self.publisher.announce,
                stop=lambda refs: self.slots.stop(refs, Cancelled()),
                timings=timings,
            ),
            files=FileSweep(database, home, settings.secrets, timings.walk_blobs) if home else None,
            timings=timings,
        )

    def stop(self) -> None:
        """Start the drain."""
        self._stopping.set()
        self._may_take.set()  # Ends a wait in `_take_in`, if an operator has the worker drain.

    async def run(self) -> None:
        """Work until ``stop``, then drain."""
        async with beside(
            keep_running(self.publisher.run, "publisher_failed"),
            keep_running(self.finisher.run, "finisher_failed", on_bug=self._give_up),
            keep_running(self.models.run, "models_failed"),
            keep_running(self.sweeper.run, "sweeper_failed"),
            keep_running(self.held.run, "held_failed"),
            keep_running(partial(self.shares.run, self._database), "shares_failed"),
            keep_running(partial(self.pauses.run, self._database), "pauses_failed"),
            keep_running(self._keep_lease, "lease_failed"),
            self._tell_ready(),
        ):
            taking = (
                asyncio.create_task(keep_running(self.slots.run, "slots_failed", on_bug=self._give_up)),
                asyncio.create_task(keep_running(self._take_in, "intake_failed", until=self._stopping)),
            )
            await self._stopping.wait()
            self.intake.close()
            self.slots.close()
            await self._drain(*taking)

    def _wake(self) -> None:
        self.slots.wake()

    async def _keep_lease(self) -> None:
        await self.lease.run(
            on_cancelled=lambda refs: self.slots.stop(refs, Cancelled()),
            on_lost=lambda: self.slots.stop_all(LeaseLost()),
            describe=self._reporter.state,
            on_drain=self._on_drain,
        )

    def _on_drain(self, drains: bool) -> None:  # noqa: FBT001  as of the lease
        """Take no turns and no records while ``drains``. Running turns continue, and the worker does not exit."""
        if self._stopping.is_set():
            return
        log.info("worker_draining" if drains else "worker_takes_turns_again", worker_id=str(self.lease.worker_id))
        self.slots.drain(draining=drains)
        if drains:
            self._may_take.clear()
            self.intake.close()
        else:
            self.intake.reopen()
            self._may_take.set()

    async def _take_in(self) -> None:
        while not self._stopping.is_set():
            await self.intake.run(partial(_open_reader, self._settings, self.intake, self._metrics))
            await self._may_take.wait()

    async def _tell_ready(self) -> None:
        await self.publisher.connected.wait()
        self.lease.tell(self._settings.ready_file)
        log.info("worker_ready", worker_id=str(self.lease.worker_id))

    def _give_up(self) -> None:
        self.failed = True
        self.stop()

    async def _drain(self, *taking: asyncio.Task[None]) -> None:
        """Stop intake and claims, let running calls end, give the rest back, publish pending replies, leave."""
        log.info("draining", seconds=self._settings.drain_seconds)
        began = asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            # Records already read are written first, within a time limit: Postgres or Kafka may be down.
            async with asyncio.timeout(max(self._settings.drain_seconds, self._timings.flush)):
                await asyncio.gather(*taking)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(began + self._settings.drain_seconds):
                await self.slots.until_empty()
        self.slots.stop_all(Interrupted())
        for owed in (self.slots.until_empty, self.publisher.flush):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timings.flush):
                    await owed()
        with suppress(DatabaseUnavailableError):
            lost = await leases.leave(self._database, self.lease.worker_id)
            self.publisher.announce(lost.announcements)


@asynccontextmanager
async def worker(settings: WorkerSettings, metrics: Metrics, timings: Timings = TIMINGS) -> AsyncIterator[Worker]:
    """A connected and registered worker, ready to ``run``. Kafka need not be reachable yet.

    Raises ``UnmarkedHomeError`` if files are kept in a folder that no gateway has marked, ``ForeignHomeError`` if one
    with another secret has.
    """
    agents, home = load_agents(settings), open_home(settings)
    if isinstance(home, Folder):
        await marker.until_claimed(home, settings.secrets, timings.find_marker)
    async with AsyncExitStack() as stack:
        database = Database.connect(settings, "orchestra worker", takes_first=True)
        stack.push_async_callback(database.close)
        llm = await stack.enter_async_context(generate.connect(settings, timings))
        producer = partial(open_producer, settings, _CLIENT_ID)
        made = Worker(settings, agents, database, producer, llm, metrics, timings, home)
        await made.models.refresh()
        await made.lease.take()
        # Read before the first claim, which must respect both.
        await made.shares.look(database)
        await made.pauses.look(database)
        yield made


@asynccontextmanager
async def _open_reader(settings: WorkerSettings, intake: Intake, metrics: Metrics) -> AsyncIterator[AIOKafkaConsumer]:
    broker = make_broker(settings, _CLIENT_ID)
    on_rebalance = OnRebalance(intake, metrics, lambda: subscriber.consumer)
    subscriber = group_reader(broker, list(settings.tenants), GROUP, on_rebalance)
    async with started(broker, settings):
        yield subscriber.consumer


def _record_reader(settings: WorkerSettings, agents: Agents) -> RecordReader:
    return RecordReader(
        Judge(settings.secrets, media_urls=settings.allow_media_urls),
        agents,
        settings.tenants,
        settings.llm_model,
        require_signed=settings.require_signed,
        priorities=settings.priorities,
    )

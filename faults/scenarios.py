"""Short plays, each about one danger; a planted bug must show in the checker's findings.

``python -m faults.scenarios NAME`` plays one on its own Kafka and Postgres, with the imported code, and prints the
findings as one line of JSON.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from uuid import UUID, uuid4

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from faults.checker import Findings, check
from faults.client import Direct
from faults.collect import GROUP, collect, until_settled
from faults.ground import Ground, Scene, Setup, open_ground
from faults.ledger import Entry, Ledger, open_ledger
from faults.load import Plan, open_load
from faults.question import Question
from schemas.topics import REQUESTS

SETTLE_SECONDS = 60.0
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 60.0
# By default clients commit every 5 s what they have returned.
AUTO_COMMIT_SECONDS = 7.0
OTHER_TOPIC = "other.requests"

_ENDED = "SELECT count(*) AS n FROM requests WHERE finished_at IS NOT NULL"
_RUNNING = "SELECT count(*) AS n FROM requests WHERE status = 'in_progress' AND fence >= :fence"
_ALL = "SELECT count(*) AS n FROM requests"
# Our own sessions are ended after 5 s idle in a transaction.
_HOLD = "SET LOCAL idle_in_transaction_session_timeout = 0"
_UNPUBLISHED = "SELECT count(*) AS n FROM outbox WHERE published_at IS NULL"
# Refuses every third commit of an ending, like a serialisation failure.
_FAILING_COMMITS = (
    "CREATE SEQUENCE endings_tried",
    """CREATE FUNCTION refuse_some() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('endings_tried') % 3 = 1 THEN RAISE EXCEPTION 'as asked' USING ERRCODE = '40001'; END IF;
        RETURN NULL;
    END $$""",
    """CREATE CONSTRAINT TRIGGER outbox_refuses_some AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse_some()""",
)
_CLOCK_AHEAD = "import time\n_now = time.time\ntime.time = lambda: _now() + 60\n"


@dataclass
class Play:
    """A running scenario: its services, and a direct producer that records what it sends."""

    scene: Scene
    direct: Direct
    ledger: Ledger
    worker_faults: int = 0
    broken_off: list[tuple[float, float]] = field(default_factory=list)
    topics: tuple[str, ...] = (REQUESTS.name,)
    began: float = field(default_factory=time.time)

    async def ask(
        self, conversation: UUID | None = None, ordinal: int = 0, *, id: UUID | None = None, topic: str = REQUESTS.name
    ) -> None:
        """Send a question by Kafka; return once it is acknowledged."""
        id = id or uuid4()
        question = Question(conversation or uuid4(), ordinal, str(id))
        body = {"messages": [{"role": "user", "content": question.text()}]}
        await self._note("sent", question)
        answer = await self.direct.request(id, question.conversation, body, topic)
        await self._note("acked" if answer.how == "acked" else "unknown", question, answer.id)

    async def ask_many(self, count: int) -> None:
        """Send this many questions, each in a conversation of its own."""
        await asyncio.gather(*(self.ask() for _ in range(count)))

    async def until(self, sql: str, least: int, **parameters: object) -> None:
        """Wait until a count in Postgres reaches ``least``. Raises ``TimeoutError``."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self.scene.database.run(sql, **parameters))[0].n < least:
                await asyncio.sleep(LOOK_SECONDS)

    async def until_joined(self, workers: int) -> None:
        """Wait until the group has this many members, each with partitions assigned. Raises ``TimeoutError``."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.scene.kafka.bootstrap)
        await admin.start()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await _group(admin) != ("Stable", workers):
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            await admin.close()

    async def findings(self) -> Findings:
        """Wait until everything is over, or a timeout, and check."""
        url, bootstrap = self.scene.database_url, self.scene.kafka.bootstrap
        await until_settled(url, bootstrap, SETTLE_SECONDS)
        evidence = await collect(url, bootstrap, self.scene.ledger, self.scene.oracle_log, self.topics, self.began)
        evidence.worker_faults, evidence.broken_off = self.worker_faults, self.broken_off
        return check(evidence)

    async def _note(self, what: str, question: Question, id: UUID | None = None) -> None:
        entry = Entry(what, question.key, question.conversation, question.ordinal, id, "kafka")  # type: ignore[arg-type]
        await self.ledger.write(entry)


async def _group(admin: AIOKafkaAdminClient) -> tuple[str, int]:
    (response,) = await admin.describe_consumer_groups([GROUP])
    _, _, state, _, _, members, *_ = response.groups[0]
    return state, len(members)


async def blocked_intake(play: Play) -> None:
    """A worker is killed while its batch waits for Postgres: records that were read and not written must come again."""
    first = await play.scene.add_worker()
    await play.ask_many(64)
    await play.until(_ENDED, 64)
    await first.stop()
    async with play.scene.database.transaction() as tx:
        await tx.run(_HOLD)
        await tx.run("LOCK TABLE conversations IN ACCESS EXCLUSIVE MODE")
        await play.ask_many(40)
        second = await play.scene.add_worker()
        await asyncio.sleep(AUTO_COMMIT_SECONDS)
        await second.kill()
    play.worker_faults = 1
    await play.scene.add_worker()


async def zombie(play: Play) -> None:
    """A worker is frozen in the middle of its calls and wakes while another runs the same turns."""
    frozen = play.scene.workers[0]
    await play.ask_many(30)
    await play.until(_RUNNING, 30, fence=1)
    frozen.signal(signal.SIGSTOP)
    play.worker_faults = 1
    await play.scene.add_worker()
    await play.until(_RUNNING, 30, fence=2)
    frozen.signal(signal.SIGCONT)


async def drain(play: Play) -> None:
    """A worker leaves without waiting for its calls: another takes them over at once."""
    await play.ask_many(5)
    await play.until(_RUNNING, 5, fence=1)
    since = time.time()
    await play.scene.workers[0].stop()
    play.broken_off.append((since, time.time()))
    await play.scene.add_worker()


async def same_id(play: Play) -> None:
    """Two workers take in the same ids at the same moment, in other conversations: one of each pair is a request."""
    ids = [uuid4() for _ in range(60)]
    await play.until_joined(2)
    async with play.scene.database.transaction() as tx:
        # Both have looked, and found nothing, before either may write.
        await tx.run(_HOLD)
        await tx.run("LOCK TABLE requests IN SHARE MODE")
        await asyncio.gather(*(play.ask(id=id) for id in ids for _ in range(2)))
        await asyncio.sleep(AUTO_COMMIT_SECONDS / 2)


async def kafka_away(play: Play) -> None:
    """Turns end while Kafka is down, their worker is killed, and another starts with turns of its own."""
    first, broker = play.scene.workers[0], play.scene.kafka.brokers[0]
    await play.ask_many(25)
    await play.until(_ALL, 25)
    await play.until(_ENDED, 2)
    await broker.kill()
    await play.until(_UNPUBLISHED, 3)
    await first.kill()
    play.worker_faults = 1
    await broker.start()
    await play.scene.add_worker()


async def pipelined(play: Play) -> None:
    """Many turns of a few conversations at once."""
    names = [uuid4() for _ in range(5)]
    for ordinal in range(6):
        await asyncio.gather(*(play.ask(name, ordinal) for name in names))


async def half_streams(play: Play) -> None:
    """A model whose streams end in the middle, without an end mark."""
    plan = Plan(5, 2, 5, {"wait": 1}, 0, 0, 0, 0, 0, model="simulated:reply=hash,cut_after=4")
    async with open_load(plan, play.scene.urls, play.scene.kafka.bootstrap, play.ledger) as load:
        await load.run()


async def two_tenants(play: Play) -> None:
    """Two tenants whose conversations have the same ids."""
    names = [uuid4() for _ in range(5)]
    for ordinal in range(4):
        for count, topic in enumerate(play.topics, 1):
            await asyncio.gather(*(play.ask(name, ordinal, topic=topic) for name in names))
            await play.until(_ENDED, 5 * (2 * ordinal + count))


async def clock_ahead(play: Play) -> None:
    """A second worker's clock is a minute ahead: it must have no effect."""
    await play.ask_many(5)
    await play.until(_RUNNING, 5, fence=1)
    await play.scene.add_worker()
    await play.until(_ENDED, 5)


async def failing_commits(play: Play) -> None:
    """Commits of endings fail now and then, and are retried."""
    for statement in _FAILING_COMMITS:
        await play.scene.database.run(statement)
    for count in range(1, 13):  # One by one: a batch of three would always be refused.
        await play.ask()
        await play.until(_ENDED, count)


@dataclass(frozen=True)
class Scenario:
    """A play and the services it starts with. ``ahead``: whether the second worker's clock is ahead."""

    play: Callable[[Play], Awaitable[None]]
    setup: Setup
    topics: tuple[str, ...] = (REQUESTS.name,)
    ahead: bool = False


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "blocked_intake": Scenario(blocked_intake, Setup(0, 0)),
        "zombie": Scenario(zombie, Setup(1, 0, "latency_ms=6000", idle_seconds=30)),
        "drain": Scenario(drain, Setup(1, 0, "latency_ms=3000", {"DRAIN_SECONDS": "0"}, idle_seconds=30)),
        "same_id": Scenario(same_id, Setup(2, 0)),
        "kafka_away": Scenario(kafka_away, Setup(1, 0, "latency_ms=400", {"WORKER_CONCURRENCY": "1"})),
        "pipelined": Scenario(pipelined, Setup(1, 0)),
        "half_streams": Scenario(half_streams, Setup(1, 1)),
        "two_tenants": Scenario(
            two_tenants,
            Setup(1, 0, worker={"INGRESS_TOPICS": f"{REQUESTS.name}=default,{OTHER_TOPIC}=other"}),
            (REQUESTS.name, OTHER_TOPIC),
        ),
        "clock_ahead": Scenario(clock_ahead, Setup(1, 0, "latency_ms=8000", idle_seconds=30), ahead=True),
        "failing_commits": Scenario(failing_commits, Setup(1, 0)),
    }
)


async def perform(name: str, ground: Ground) -> Findings:
    """Play a scenario to its end and check it."""
    scenario = SCENARIOS[name]
    async with _topics(ground, scenario.topics), ground.scene(name, _set_up(scenario, ground)) as scene:
        direct = Direct(ground.kafka.bootstrap)
        try:
            async with open_ledger(scene.ledger) as ledger:
                play = Play(scene, direct, ledger, topics=scenario.topics)
                await scenario.play(play)
                return await play.findings()
        finally:
            await direct.close()


def _set_up(scenario: Scenario, ground: Ground) -> Setup:
    if not scenario.ahead:
        return scenario.setup
    folder = ground.folder / "ahead"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_CLOCK_AHEAD)
    path = {"PYTHONPATH": ":".join([str(folder), *filter(None, sys.path)])}
    setup = scenario.setup
    return Setup(setup.workers, setup.gateways, setup.oracle, setup.worker, idle_seconds=setup.idle_seconds,
                 each_start=lambda name: path if name == "worker-2" else {})  # fmt: skip


@asynccontextmanager
async def _topics(ground: Ground, topics: Sequence[str]) -> AsyncIterator[None]:
    """Create the topics that are not ours."""
    more = [topic for topic in topics if topic != REQUESTS.name]
    admin = AIOKafkaAdminClient(bootstrap_servers=ground.kafka.bootstrap)
    await admin.start()
    try:
        config = {"message.timestamp.type": REQUESTS.timestamps}
        await admin.create_topics([NewTopic(topic, 4, 1, topic_configs=config) for topic in more])
    finally:
        await admin.close()
    yield


async def main(name: str) -> None:
    """Play one scenario on its own ground."""
    async with open_ground(brokers=1) as ground:
        findings = await perform(name, ground)
    sys.stdout.write(json.dumps({"broken": findings.broken, "lines": findings.lines()}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

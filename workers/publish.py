"""⑧ Everything that leaves a worker for Kafka: deltas as they come, endings after their commit, dead letters.

One idempotent producer and one queue, so that what concerns a request keeps its order.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import orjson
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError

from orchestra.failpoints import reach
from orchestra.store import outbox
from orchestra.store.claims import Claimed
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.dead_letters import DeadLetter
from orchestra.store.turns import Announcement
from schemas import envelope
from schemas.dead_letters import RawHeaders, dead_letter_headers
from schemas.events import CANCELLED, COMPLETED, DELTA, EXPIRED, FAILED, STARTED
from schemas.ids import refusal_id
from schemas.replies import REPLY, Reply
from schemas.status import Status
from schemas.topics import DEAD_LETTERS, EVENTS, MAX_RECORD_BYTES, REPLIES
from workers.metrics import Metrics
from workers.records import refusal

SOURCE = "/workers"
MARK_SECONDS = 0.2
# Beyond this Kafka is away; deltas are dropped (the final text is in Postgres), endings never.
MOST_QUEUED_BEFORE_DELTAS_DROP = 20_000
_ENDINGS = {
    Status.COMPLETED: COMPLETED,
    Status.FAILED: FAILED,
    Status.CANCELLED: CANCELLED,
    Status.EXPIRED: EXPIRED,
}

log = structlog.get_logger()


@dataclass
class _Outgoing:
    topic: str
    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    outbox_id: int | None = None
    acknowledged: asyncio.Future[None] | None = field(default=None)


class Publisher:
    """The worker's way out to Kafka. ``run`` must be running; it raises when the producer is beyond help."""

    def __init__(self, producer: AIOKafkaProducer, database: Database, metrics: Metrics) -> None:
        self._producer = producer
        self._database = database
        self._metrics = metrics
        self._queue: deque[_Outgoing] = deque()
        self._something = asyncio.Event()
        self._on_the_way: set[int] = set()
        self._marked: set[int] = set()
        self._to_mark: list[int] = []
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def started(self, turn: Claimed) -> None:
        """Say that an attempt began."""
        self._event(STARTED, turn, {"attempt": turn.fence, "conversation_id": str(turn.conversation_id)})

    def delta(self, turn: Claimed, at: int, text: str) -> None:
        """Pass on a piece of text; best effort."""
        if len(self._queue) > MOST_QUEUED_BEFORE_DELTAS_DROP:
            self._metrics.deltas_dropped.inc()
            return
        self._event(DELTA, turn, {"attempt": turn.fence, "at": at, "text": text})

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Publish replies and their events, in the order of the outbox; those already on their way are left out."""
        for announcement in sorted(announcements, key=lambda a: a.id):
            if announcement.id not in self._on_the_way:
                self._on_the_way.add(announcement.id)
                self._put(_ending_event(announcement))
                self._put(_reply(announcement))

    async def dead_letters(self, letters: Sequence[DeadLetter], refused: Sequence[DeadLetter] = ()) -> None:
        """Publish dead letters, and replies to those of them that are ``refused``; wait until Kafka has them."""
        waits: list[asyncio.Future[None]] = []
        for letter in letters:
            self._metrics.dead_letters.labels(letter.reason).inc()
            log.warning("dead_letter", reason=letter.reason, topic=letter.topic, partition=letter.partition,
                        offset=letter.offset, request_id=str(letter.request_id))  # fmt: skip
            wait = asyncio.get_running_loop().create_future()
            self._put(_dead_letter(letter, wait))
            waits.append(wait)
        for letter in refused:
            if reply := refusal(letter):
                wait = asyncio.get_running_loop().create_future()
                self._put(_refusal(letter, reply, wait))
                waits.append(wait)
        if waits:
            await asyncio.gather(*waits)

    async def run(self) -> None:
        """Send what is queued and mark what is acknowledged, until cancelled. Raises when the producer has failed."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump())
            tasks.create_task(self._mark_regularly())
            tasks.create_task(self._fail_when_producer_fails())

    async def flush(self) -> None:
        """Wait until everything queued is acknowledged and marked."""
        while self._queue or self._on_the_way - self._marked - set(self._to_mark):
            await self._producer.flush()
            await asyncio.sleep(0.01)
        await self._mark()

    def _event(self, kind: str, turn: Claimed, value: dict[str, object]) -> None:
        headers = _headers(str(uuid4()), kind, str(turn.id), turn.tenant, turn.body_hash, turn.traceparent)
        self._put(_Outgoing(EVENTS.name, str(turn.id).encode(), orjson.dumps(value), headers))

    def _put(self, outgoing: _Outgoing) -> None:
        self._queue.append(outgoing)
        self._something.set()

    async def _pump(self) -> None:
        while True:
            while self._queue:
                await self._send(self._queue.popleft())
            self._something.clear()
            await self._something.wait()

    async def _send(self, outgoing: _Outgoing) -> None:
        while True:
            try:
                future = await self._producer.send(
                    outgoing.topic, outgoing.value, key=outgoing.key, headers=outgoing.headers
                )
            except KafkaTimeoutError:  # It found no room in the producer's queue: nothing was sent.
                log.warning("kafka_unavailable", topic=outgoing.topic)
            else:
                future.add_done_callback(lambda done: self._acknowledge(outgoing, done))
                return

    def _acknowledge(self, outgoing: _Outgoing, done: "asyncio.Future[object]") -> None:
        if done.cancelled() or done.exception() is not None:
            # An idempotent producer gives up only for good (aiokafka issue 1017): a new process must take over.
            if not self._failure.done():
                self._failure.set_exception(done.exception() or ConnectionError("the producer was closed"))
            return
        if outgoing.outbox_id is not None:
            self._to_mark.append(outgoing.outbox_id)
        if outgoing.acknowledged and not outgoing.acknowledged.done():
            outgoing.acknowledged.set_result(None)

    async def _fail_when_producer_fails(self) -> None:
        await self._failure

    async def _mark_regularly(self) -> None:
        while True:
            await asyncio.sleep(MARK_SECONDS)
            await self._mark()

    async def _mark(self) -> None:
        # A cycle after they were marked: endings may have seen them unmarked, and not announced them yet.
        self._on_the_way -= self._marked
        self._marked = set()
        ids, self._to_mark = self._to_mark, []
        if not ids:
            return
        try:
            reach("publish.before_mark")
            await outbox.mark_published(self._database, ids)
        except DatabaseUnavailableError:
            self._to_mark += ids
        else:
            self._marked = set(ids)
            reach("publish.after_mark")


def _ending_event(announcement: Announcement) -> _Outgoing:
    reply = orjson.loads(announcement.value)
    value: dict[str, object] = {"attempt": reply["attempts"]}
    match Status(reply["status"]):
        case Status.COMPLETED:
            value |= {"reply": reply["reply"], "usage": reply["usage"]}
        case Status.FAILED:
            value |= reply["error"]
    headers = _headers(
        str(announcement.event_id),
        _ENDINGS[Status(reply["status"])],
        str(announcement.request_id),
        announcement.tenant,
        announcement.headers["body_hash"],
        announcement.headers["traceparent"],
    )
    return _Outgoing(EVENTS.name, str(announcement.request_id).encode(), orjson.dumps(value), headers)


def _reply(announcement: Announcement) -> _Outgoing:
    headers = _headers(
        str(announcement.event_id),
        REPLY,
        str(announcement.request_id),
        announcement.tenant,
        announcement.headers["body_hash"],
        announcement.headers["traceparent"],
        announcement.headers["correlation_id"],
    )
    key = str(announcement.conversation_id).encode()
    return _Outgoing(REPLIES.name, key, announcement.value.encode(), headers, outbox_id=announcement.id)


def _refusal(letter: DeadLetter, reply: Reply, acknowledged: asyncio.Future[None]) -> _Outgoing:
    said = envelope.readable_headers(letter.headers)
    headers = _headers(
        str(refusal_id(letter.topic, letter.partition, letter.offset, letter.timestamp_ms)),
        REPLY,
        str(letter.request_id),
        letter.tenant,
        None,
        said.traceparent,
        said.correlation_id,
    )
    key, value = str(reply.conversation_id).encode(), reply.model_dump_json().encode()
    return _Outgoing(REPLIES.name, key, value, headers, acknowledged=acknowledged)


def _dead_letter(letter: DeadLetter, acknowledged: asyncio.Future[None]) -> _Outgoing:
    # What came compressed may fit no record now; Postgres has it whole.
    fits = _size(letter) <= MAX_RECORD_BYTES
    key, value, came_with = (letter.key, letter.value, letter.headers) if fits else (None, None, [])
    detail = letter.detail if fits else f"{letter.detail} (here without its value, key and headers: too large)"
    headers = dead_letter_headers(came_with, letter.reason, detail, letter.topic, letter.partition, letter.offset)
    if key is None and value is None:
        key = b""  # aiokafka refuses to send what has neither.
    return _Outgoing(DEAD_LETTERS.name, key, value, headers, acknowledged=acknowledged)


def _size(letter: DeadLetter) -> int:
    # A header takes up to 10 bytes more than its name and value.
    headers = sum(10 + len(name.encode()) + len(value or b"") for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers


def _headers(
    id: str, kind: str, subject: str, tenant: str, body_hash: str | None, traceparent: str | None,
    correlation_id: str | None = None,
) -> RawHeaders:  # fmt: skip
    extra = (
        (envelope.TENANT, tenant),
        (envelope.BODY_HASH, body_hash),
        (envelope.TRACEPARENT, traceparent),
        (envelope.CORRELATION_ID, correlation_id),
    )
    written = envelope.write_headers(id=id, type=kind, source=SOURCE, subject=subject, extra=extra)
    return [(name, value.encode()) for name, value in written]

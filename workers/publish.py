"""⑧ Publishes to Kafka: deltas in rounds, endings after their commit, dead letters.

There is one queue and one idempotent producer at a time, so that all records about a request keep their order.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Protocol
from uuid import UUID, uuid4

import orjson
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, ProducerClosed, RecordListTooLargeError

from orchestra.failpoints import reach
from orchestra.kafka.clients import KAFKA_ERRORS
from orchestra.loops import beside, keep_running, regularly
from orchestra.signing import EventSigner
from orchestra.store import outbox
from orchestra.store.claims import Claimed
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.dead_letters import DeadLetter
from orchestra.store.turns import Announcement
from orchestra.transcript import Piece
from schemas import envelope
from schemas.dead_letters import RawHeaders, dead_letter_headers
from schemas.errors import ErrorCode
from schemas.events import CANCELLED, COMPLETED, DELTA, EXPIRED, FAILED, PIECE, RESTART, STARTED
from schemas.ids import refusal_id
from schemas.replies import REPLY, Reply
from schemas.status import Status
from schemas.topics import DEAD_LETTERS, EVENTS, MAX_RECORD_BYTES, REPLIES
from workers.metrics import Metrics
from workers.records import refusal
from workers.timings import TIMINGS, Timings

SOURCE = "/workers"
# Beyond either limit Kafka counts as unavailable, and events are dropped: the final text is in Postgres. Beyond twice
# the limit replies are left in the outbox, and the sweeper publishes them later.
MAX_QUEUED_BEFORE_EVENTS_DROP = 20_000
MAX_QUEUED_BYTES = 64 * 1024 * 1024
# The record itself is the cause: another producer would fail in the same way.
_REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError)
_ENDINGS = {
    Status.COMPLETED: COMPLETED,
    Status.FAILED: FAILED,
    Status.CANCELLED: CANCELLED,
    Status.EXPIRED: EXPIRED,
}

# Encoded once: an event is written for every few tokens.
_OF_ALL = [
    (name, text.encode())
    for name, text in envelope.write_headers(id="", type="", source=SOURCE)
    if name not in (envelope.ID, envelope.TYPE)
]

OpenProducer = Callable[[], AbstractAsyncContextManager[AIOKafkaProducer]]

log = structlog.get_logger()


@dataclass
class _Outgoing:
    topic: str
    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    outbox_id: int | None = None
    acknowledged: asyncio.Future[None] | None = field(default=None)


class _Attempt(Protocol):
    """The fields of a turn that its events need."""

    @property
    def tenant(self) -> str: ...
    @property
    def id(self) -> UUID: ...
    @property
    def fence(self) -> int: ...
    @property
    def body_hash(self) -> str: ...
    @property
    def traceparent(self) -> str | None: ...


class Publisher:
    """The worker's publisher to Kafka. ``run`` must be running; ``connected`` is set at the first connection to Kafka.

    A producer that fails is replaced. The next one first resends all unacknowledged records in their old order. First
    occurrences thus keep the order of their conversation, and repeats have the same id.
    """

    def __init__(
        self,
        open_producer: OpenProducer,
        database: Database,
        metrics: Metrics,
        signer: EventSigner,
        timings: Timings = TIMINGS,
    ) -> None:
        self._timings = timings
        self._signer = signer
        self._open_producer = open_producer
        self._database = database
        self._metrics = metrics
        self.connected = asyncio.Event()
        self._queue: deque[_Outgoing] = deque()
        self._bytes = 0
        # Sent and not acknowledged yet, in order, by the future of the acknowledgement.
        self._sent: dict[asyncio.Future[object], _Outgoing] = {}
        self._something = asyncio.Event()
        self._on_the_way: set[int] = set()
        self._marked: set[int] = set()
        self._to_mark: list[int] = []
        # A flush and the regular mark would remove the same ids, and with them ids that came meanwhile.
        self._marking = asyncio.Lock()
        self._gathered: dict[tuple[str, UUID], Callable[[], None]] = {}
        self._round: asyncio.TimerHandle | None = None
        self._unmarked = asyncio.Event()

    def started(self, turn: Claimed) -> None:
        """Publish the event that an attempt has started."""
        self._event(STARTED, turn, {"attempt": turn.fence, "conversation_id": str(turn.conversation_id)})

    def delta(self, turn: Claimed, at: int, text: str, n: int | None = None) -> None:
        """Publish a piece of text, best effort. ``at``: code points of the attempt's text before it.

        ``n``: units of the attempt's answer before it, if they are not only text.
        """
        value: dict[str, object] = {"attempt": turn.fence, "at": at, "text": text}
        if n is not None:
            value["n"] = n
        self._event(DELTA, turn, value)

    def piece(self, turn: Claimed, n: int, piece: Piece) -> None:
        """Publish a piece of the answer that is not text, best effort. ``n``: units of the answer before it."""
        value: dict[str, object] = {"attempt": turn.fence, "n": n, "kind": piece.kind}
        if piece.kind in ("tool_call", "tool_arguments"):
            value["index"] = piece.index
        if piece.kind == "tool_call":
            value |= {"call_id": piece.call_id, "name": piece.name}
        else:
            value["text"] = piece.text
        self._event(PIECE, turn, value)

    def gather(self, attempt: _Attempt, flush: Callable[[], None]) -> None:
        """Call ``flush``, which publishes events, in the next round: together with those of all other attempts.

        Their events then share one request to Kafka and one fetch of each gateway (docs/decisions/0032).
        """
        request = attempt.tenant, attempt.id
        if request in self._gathered:
            self.hand_over(attempt)  # What an earlier attempt has left.
        self._gathered[request] = flush
        if self._round is None:
            self._round = asyncio.get_running_loop().call_later(self._timings.gather, self._hand_over_all)

    def hand_over(self, attempt: _Attempt) -> None:
        """Publish now what was gathered for this request: it is urgent, or must come before what follows."""
        self._hand_over(attempt.tenant, attempt.id)

    def restart(self, attempt: _Attempt, code: ErrorCode, detail: str) -> None:
        """Publish the error of a failed attempt that will be retried, or the reason why no attempt starts yet."""
        self.hand_over(attempt)
        error = {"code": code, "detail": detail}
        self._event(RESTART, attempt, {"attempt": attempt.fence, "text": "", "last_error": error})

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Publish replies and their events in the order of the outbox, except those that are already on their way.

        If too many records wait for Kafka, the last replies stay in the outbox. A caller with a later reply of the same
        conversation passes them in again with it, so the order is kept.
        """
        for announcement in sorted(announcements, key=lambda a: a.id):
            if announcement.id in self._on_the_way:
                continue
            if len(self._queue) > 2 * MAX_QUEUED_BEFORE_EVENTS_DROP or self._bytes > 2 * MAX_QUEUED_BYTES:
                return
            self._on_the_way.add(announcement.id)
            self._hand_over(announcement.tenant, announcement.request_id)
            for outgoing in self._ending(announcement):
                self._put(outgoing)

    async def dead_letters(self, letters: Sequence[DeadLetter], refused: Sequence[DeadLetter] = ()) -> None:
        """Publish dead letters and replies to the ``refused`` ones. Returns when Kafka has acknowledged them all."""
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
        """Send queued records and mark acknowledged replies until cancelled, through outages of Kafka of any length."""
        expected = (DatabaseUnavailableError,)
        async with beside(
            regularly(self._timings.mark, self._mark, "replies_not_marked", expected=expected, when=self._unmarked)
        ):
            await keep_running(self._publish, "kafka_producer_failed", expected=KAFKA_ERRORS)

    async def flush(self) -> None:
        """Wait until everything is acknowledged and marked."""
        self._hand_over_all()
        while self._queue or self._sent:
            await asyncio.sleep(0.01)
        with suppress(DatabaseUnavailableError):
            await self._mark()

    def _hand_over(self, tenant: str, id: UUID) -> None:
        if flush := self._gathered.pop((tenant, id), None):
            flush()

    def _hand_over_all(self) -> None:
        self._round = None
        while self._gathered:
            request = next(iter(self._gathered))
            self._gathered.pop(request)()

    def _event(self, kind: str, turn: _Attempt, value: dict[str, object]) -> None:
        if len(self._queue) > MAX_QUEUED_BEFORE_EVENTS_DROP or self._bytes > MAX_QUEUED_BYTES:
            self._metrics.deltas_dropped.inc()
            return
        self._put(self._signed(str(uuid4()), kind, str(turn.id), turn.tenant, turn.body_hash, turn.traceparent, value))

    def _signed(
        self, id: str, kind: str, subject: str, tenant: str, body_hash: str, traceparent: str | None,
        value: dict[str, object],
    ) -> _Outgoing:  # fmt: skip
        """A signed event."""
        headers, said = _headers(id, kind, subject, tenant, body_hash, traceparent), orjson.dumps(value)
        key = subject.encode()
        signature = self._signer.sign(kind.encode(), key, body_hash.encode(), tenant.encode(), said)
        return _Outgoing(EVENTS.name, key, said, [*headers, (envelope.SIGNATURE, signature)])

    def _ending(self, announcement: Announcement) -> tuple[_Outgoing, _Outgoing]:
        """The event of an ending and its reply, with the same id."""
        reply, said = orjson.loads(announcement.value), announcement.headers
        id, subject, status = str(announcement.event_id), str(announcement.request_id), Status(reply["status"])
        value: dict[str, object] = {"attempt": reply["attempts"]}
        match status:
            case Status.COMPLETED:
                told = ("reply", "usage", "finish_reason", "output")
                value |= {name: reply[name] for name in told if name in reply}
            case Status.FAILED:
                value |= reply["error"]
        of_both = subject, announcement.tenant, said["body_hash"] or "", said["traceparent"]
        reply_headers = _headers(id, REPLY, *of_both, said["correlation_id"])
        return (
            self._signed(id, _ENDINGS[status], *of_both, value),
            _Outgoing(
                REPLIES.name,
                str(announcement.conversation_id).encode(),
                announcement.value.encode(),
                reply_headers,
                outbox_id=announcement.id,
            ),
        )

    def _put(self, outgoing: _Outgoing) -> None:
        self._queue.append(outgoing)
        self._bytes += len(outgoing.value or b"")
        self._something.set()

    async def _publish(self) -> None:
        """Connect a producer and send with it until it fails. Raises the producer's error."""
        async with self._open_producer() as producer:
            self.connected.set()
            failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failure.add_done_callback(lambda _: self._something.set())
            acknowledge = partial(self._acknowledge, failure)
            try:
                while not failure.done():
                    if self._queue:
                        await self._send(producer, acknowledge)
                    else:
                        self._something.clear()
                        await self._something.wait()
                failure.result()
            finally:
                if not failure.cancel():
                    failure.exception()  # Mark it as retrieved, even if the producer raised another error meanwhile.
                self._take_back()

    async def _send(self, producer: AIOKafkaProducer, acknowledge: "Callable[[asyncio.Future[object]], None]") -> None:
        """Pass the first record of the queue to the producer."""
        outgoing = self._queue[0]
        try:
            sent = await producer.send(outgoing.topic, outgoing.value, key=outgoing.key, headers=outgoing.headers)
        except KafkaTimeoutError:  # The producer's queue was full: nothing was sent.
            log.warning("kafka_unavailable", topic=outgoing.topic)
            return
        except _REFUSED as error:
            self._give_up(outgoing, error)
        else:
            self._sent[sent] = outgoing
            sent.add_done_callback(acknowledge)
        self._queue.popleft()
        self._bytes -= len(outgoing.value or b"")

    def _take_back(self) -> None:
        """Queue the current producer's unacknowledged records for the next one, in the same order."""
        self._queue.extendleft(reversed(self._sent.values()))
        self._bytes += sum(len(outgoing.value or b"") for outgoing in self._sent.values())
        self._sent.clear()

    def _acknowledge(self, failure: "asyncio.Future[None]", done: "asyncio.Future[object]") -> None:
        error = ProducerClosed() if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, _REFUSED):
            # After an error an idempotent producer is unusable for good (aiokafka issue 1017).
            if not failure.done():
                failure.set_exception(error)
        elif outgoing := self._sent.pop(done, None):  # If it is missing, it was taken back.
            if error is not None:
                self._give_up(outgoing, error)
            elif outgoing.outbox_id is not None:
                self._to_mark.append(outgoing.outbox_id)
                self._unmarked.set()
            elif outgoing.acknowledged and not outgoing.acknowledged.done():
                outgoing.acknowledged.set_result(None)

    def _give_up(self, outgoing: _Outgoing, error: BaseException) -> None:
        """Skip a record that Kafka refuses. Postgres has its content, and the records behind it are not delayed."""
        log.error("record_refused", topic=outgoing.topic, error=type(error).__name__)
        if outgoing.acknowledged and not outgoing.acknowledged.done():
            outgoing.acknowledged.set_result(None)

    async def _mark(self) -> None:
        async with self._marking:
            # One cycle after the mark: an ending may have read them as unpublished and not announced them yet.
            self._on_the_way -= self._marked
            self._marked = set()
            if not (ids := list(self._to_mark)):
                self._unmarked.clear()
                return
            reach("publish.before_mark")
            await outbox.mark_published(self._database, ids)
            del self._to_mark[: len(ids)]
            self._marked = set(ids)
            reach("publish.after_mark")


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
    # A record that came compressed may not fit uncompressed; Postgres has the whole record.
    fits = _size(letter) <= MAX_RECORD_BYTES
    key, value, came_with = (letter.key, letter.value, letter.headers) if fits else (None, None, [])
    detail = letter.detail if fits else f"{letter.detail} (value, key and headers omitted here: too large)"
    headers = dead_letter_headers(came_with, letter.reason, detail, letter.topic, letter.partition, letter.offset)
    if key is None and value is None:
        key = b""  # aiokafka refuses a record with neither key nor value.
    return _Outgoing(DEAD_LETTERS.name, key, value, headers, acknowledged=acknowledged)


def _size(letter: DeadLetter) -> int:
    # A header takes up to 10 bytes in addition to its name and value.
    headers = sum(10 + len(name.encode()) + len(value or b"") for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers


def _headers(
    id: str, kind: str, subject: str, tenant: str, body_hash: str | None, traceparent: str | None,
    correlation_id: str | None = None,
) -> list[tuple[str, bytes | None]]:  # fmt: skip
    own = (envelope.ID, id.encode()), (envelope.TYPE, kind.encode())
    return [*_OF_ALL, *own, *_of_request(subject, tenant, body_hash, traceparent, correlation_id)]


@lru_cache(maxsize=4096)
def _of_request(
    subject: str, tenant: str, body_hash: str | None, traceparent: str | None, correlation_id: str | None
) -> RawHeaders:
    """The headers that all records about a request share; cached, because each piece of its text has them."""
    named = {
        envelope.SUBJECT: subject,
        envelope.TENANT: tenant,
        envelope.BODY_HASH: body_hash,
        envelope.TRACEPARENT: traceparent,
        envelope.CORRELATION_ID: correlation_id,
    }
    return [(name, text.encode()) for name, text in named.items() if text is not None]

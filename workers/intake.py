"""② Writes each Kafka batch to Postgres and commits its offsets soon after.

Bad records become dead letters.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError
from aiokafka.partitioner import murmur2

from orchestra.failpoints import reach
from orchestra.kafka.clients import KAFKA_ERRORS, check_reading
from orchestra.loops import beside, keep_running, regularly
from orchestra.store.audit import log_changes
from orchestra.store.database import Database, DatabaseUnavailableError, DatabaseUnsuitableError, DataRefusedError
from orchestra.store.dead_letters import DeadLetter
from orchestra.store.erasures import LedgerOutdatedError
from orchestra.store.intake import Batch, Intaken, NewRequest, Unsigned, take_in
from orchestra.store.progress import IntakeProgress, Standstill, Why, next_offsets, note_progress
from schemas.errors import ErrorCode
from workers.claim import Slots
from workers.dlq_limit import PROBE_RECORDS, DlqLimit, counts
from workers.ledger import Ledger, refusals
from workers.metrics import Metrics
from workers.outcome import Cancelled
from workers.publish import Publisher
from workers.records import Cancel, Delete, RecordReader, Verdict, moment
from workers.stalls import NOT_ASSIGNED, Stalls, position

MAX_RECORDS = 500
POLL_MS = 500
RETRY_SECONDS = 0.5
# After this many failures of a batch while Postgres is available, the batch is halved.
MAX_FAILURES = 3
# The same limit for a single record, which is then given up. High enough not to blame it for random connection losses.
MAX_FAILURES_ALONE = 10
COMMIT_SECONDS = 1.0
LAST_COMMIT_SECONDS = 3.0
NOTE_SECONDS = 5.0
# The broker's clock may be a little ahead of what a fetch has already seen.
_IDLE_MARGIN = timedelta(seconds=1)

log = structlog.get_logger()


OpenReader = Callable[[], AbstractAsyncContextManager[AIOKafkaConsumer]]


class Intake:
    """Takes in records. It never raises for a record and never skips one; it waits while Postgres is unavailable.

    A reader that fails is replaced. The next one starts at the committed offsets, and records that it reads again
    change nothing.
    """

    def __init__(
        self,
        reader: RecordReader,
        database: Database,
        publisher: Publisher,
        slots: Slots,
        metrics: Metrics,
        ledger: Ledger,
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._database = database
        self._publisher = publisher
        self._slots = slots
        self._metrics = metrics
        self._limit = DlqLimit(metrics)
        self._stalls = Stalls(metrics)
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._at_hand: Collection[TopicPartition] = ()
        self._read_up_to: dict[tuple[str, int], IntakeProgress] = {}
        self._taken: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._uncommitted = asyncio.Event()
        self._rejoining = False
        self._closed = asyncio.Event()
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def assignment(self) -> AbstractSet[TopicPartition]:
        """The partitions that this worker reads now."""
        consumer = None if self._closed.is_set() else self._consumer
        return consumer.assignment() if consumer else frozenset()

    def hold(self, *, full: bool) -> None:
        """Pause reading while ``full``: the number of open requests is at its emergency limit."""
        if full:
            self._may_read.clear()
        else:
            self._may_read.set()

    def close(self) -> None:
        """Stop reading. The current batch is finished."""
        self._closed.set()
        self._may_read.set()

    def reopen(self) -> None:
        """Read again when ``run`` is called again."""
        self._closed.clear()

    async def before_rejoining(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what is taken in before this worker rejoins its group, and nothing more until it has.

        A commit between joining and the new assignment fails, and aiokafka then joins once more. Workers that commit
        while others join would keep their group in rebalances without end.
        """
        self._rejoining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_COMMIT_SECONDS):
                await self._commit(consumer)

    def rejoined(self) -> None:
        """Commit again."""
        self._rejoining = False

    async def run(self, open_reader: OpenReader) -> None:
        """Join the consumer group, read until ``close``, and leave the group."""
        reading = partial(self._read, open_reader)
        await keep_running(reading, "kafka_reader_failed", expected=KAFKA_ERRORS, until=self._closed)
        reach("drain.after_leaving")

    async def _read(self, open_reader: OpenReader) -> None:
        """Read with one reader until ``close``. Raises the reader's error.

        A reader is never used after an error: records that it has already counted as read would be skipped.
        """
        self._at_hand, self._taken, self._committed, self._rejoining = (), {}, {}, False
        self._consumer = None
        # Joining takes until the group has noticed its lost members.
        async with (
            open_reader() as consumer,
            beside(
                regularly(
                    NOTE_SECONDS, partial(self._note_progress, consumer), "progress_not_noted", expected=KAFKA_ERRORS
                ),
                # Not after each batch: a commit writes one record per partition and would delay the next batch.
                regularly(
                    COMMIT_SECONDS, partial(self._commit_if_member, consumer), "commit_failed", when=self._uncommitted
                ),
            ),
        ):
            self._consumer = consumer
            while not self._closed.is_set():
                await self._may_read.wait()
                polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=self._hold_back(consumer))
                if polled:
                    await self._take(consumer, polled)
                else:
                    check_reading(consumer)
            with suppress(TimeoutError):  # While Kafka is down a commit would wait for it.
                async with asyncio.timeout(LAST_COMMIT_SECONDS):
                    await self._note_progress(consumer)
                    await self._commit(consumer)
        # The group is left at once: a drain may take long, and other workers can take the partitions now.

    def _hold_back(self, consumer: AIOKafkaConsumer) -> int:
        """Pause exactly the partitions of held topics. Returns the maximum number of records for the next poll."""
        assigned, paused = consumer.assignment(), consumer.paused()
        topics = {tp.topic for tp in assigned}
        unread = self._limit.unread(topics)
        held = {tp for tp in assigned if tp.topic in unread}
        if new := held - paused:
            consumer.pause(*new)
        if over := paused - held:
            consumer.resume(*over)
        probing = topics & self._limit.held - unread
        return PROBE_RECORDS if probing else MAX_RECORDS

    async def _note_progress(self, consumer: AIOKafkaConsumer) -> None:
        """Store how far each partition is read, idle ones up to now, and which topics are held or stalled."""
        read, self._read_up_to = self._read_up_to, {}
        partitions = consumer.assignment().difference(self._at_hand)
        marks = [mark for tp in partitions if (mark := _idle(consumer, tp))]
        # Commit past records that are never returned: aborted ones and transaction markers.
        behind = {TopicPartition(mark.topic, mark.partition): mark.next_offset for mark in marks}
        self._note_taken({tp: offset for tp, offset in behind.items() if offset})
        marks += [Standstill(Why.HELD, topic).mark for topic in self._limit.held]
        marks += [Standstill(Why.STALLED, topic).mark for topic in self._stalls.look(consumer)]
        marks = [*{**read, **{(mark.topic, mark.partition): mark for mark in marks}}.values()]
        try:
            await note_progress(self._database, marks)
        except (DatabaseUnavailableError, DataRefusedError) as error:
            log.warning("progress_not_noted", reason=str(error))

    async def _take(self, consumer: AIOKafkaConsumer, polled: dict[TopicPartition, list[Any]]) -> None:
        self._at_hand = polled.keys()  # Read from Kafka, but not in Postgres yet.
        reach("intake.after_read")
        records = [record for batch in polled.values() for record in batch]
        self._count_misplaced(consumer, records)
        verdicts = [self._reader.read(record) for record in records]
        await self._write(verdicts)
        self._at_hand = ()
        for tp, batch in polled.items():
            last = batch[-1]
            mark = IntakeProgress(tp.topic, tp.partition, last.offset + 1, moment(last.timestamp))
            self._read_up_to[tp.topic, tp.partition] = mark
        self._note_taken({tp: batch[-1].offset + 1 for tp, batch in polled.items()})
        self._note_kinds(records, verdicts)
        reach("intake.after_commit")

    def _note_kinds(self, records: Sequence[Any], verdicts: Sequence[Verdict]) -> None:
        good, bad = Counter[str](), Counter[str]()
        for record, verdict in zip(records, verdicts, strict=True):
            if not isinstance(verdict, DeadLetter):
                good[record.topic] += 1
            elif counts(verdict):
                bad[record.topic] += 1
        for topic in good.keys() | bad.keys():
            self._limit.note(topic, good=good[topic], bad=bad[topic])

    def _note_taken(self, offsets: dict[TopicPartition, int]) -> None:
        self._taken |= offsets
        self._uncommitted.set()

    async def _commit_if_member(self, consumer: AIOKafkaConsumer) -> None:
        if not self._rejoining:
            await self._commit(consumer)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Commit the offsets of records that are in Postgres. A failure is harmless: taking them in is idempotent."""
        taken, self._taken = self._taken, {}
        self._uncommitted.clear()
        mine = consumer.assignment()
        new = {tp: offset for tp, offset in taken.items() if tp in mine and self._committed.get(tp) != offset}
        if not new:
            return
        try:
            await consumer.commit(new)
        except (*KAFKA_ERRORS, IllegalStateError) as error:
            log.warning("commit_failed", error=type(error).__name__, offsets=len(new))
        else:
            self._committed |= new
            reach("intake.after_offsets")

    async def _write(self, verdicts: Sequence[Verdict], max_failures: int = MAX_FAILURES) -> None:
        failures, max_failures = 0, max_failures if len(verdicts) > 1 else MAX_FAILURES_ALONE
        while True:
            kept, erased = self._ledger.split(verdicts)
            try:
                if erased:
                    kept = [*kept, *refusals(erased, await next_offsets(self._database))]
                reach("intake.before_transaction")
                with self._slots.intake_order() as order:
                    done = await take_in(self._database, _batch(kept, self._ledger.number), order)
                    self._slots.start(done.claimed)
            except LedgerOutdatedError:
                self._slots.doubt()  # As below: requests may be committed whose records with used ids were not.
                await self._read_ledger()
            except DatabaseUnavailableError as error:
                log.warning("intake_waits", reason=str(error), records=len(verdicts))
                self._slots.doubt()
                await asyncio.sleep(RETRY_SECONDS)
                # A record may be why a statement breaks off. It is not why Postgres has no room, or a table is locked.
                blamed = not isinstance(error, DatabaseUnsuitableError) and await self._database.is_well()
                failures = failures + 1 if blamed else 0
                if failures >= max_failures:
                    detail = f"storing the record failed {failures} times while the database was available ({error})"
                    return await self._write_halves(verdicts, detail)
            except DataRefusedError as error:
                self._slots.doubt()  # Part of the batch may be committed, with its claims.
                detail = f"the database refuses the record's data ({error})"
                return await self._write_halves(verdicts, detail)
            else:
                self._count_erased(erased)
                return await self._written(kept, done)

    async def _read_ledger(self) -> None:
        try:
            await self._ledger.look(self._database)
        except (DatabaseUnavailableError, DataRefusedError) as error:
            log.warning("ledger_unknown", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _write_halves(self, verdicts: Sequence[Verdict], detail: str) -> None:
        if len(verdicts) > 1:
            middle = len(verdicts) // 2
            for half in (verdicts[:middle], verdicts[middle:]):
                await self._write(half, 1)
            return
        if isinstance(verdict := verdicts[0], DeadLetter):
            # Postgres refuses even the dead letter, so it is kept only on the dead-letter topic.
            log.error("dead_letter_refused", topic=verdict.topic, partition=verdict.partition, offset=verdict.offset)
            _, erased = self._ledger.split(verdicts)
            await self._publisher.dead_letters(refusals(erased, {}) if erased else [verdict])
        else:
            await self._write([verdict.record.because(ErrorCode.REFUSED_BY_DATABASE, detail)])

    async def _written(self, verdicts: Sequence[Verdict], done: Intaken) -> None:
        for verdict in verdicts:
            self._metrics.records.labels(type(verdict).__name__).inc()
        self._metrics.duplicates.inc(done.duplicates)
        log_changes(done.changes)
        self._slots.stop(done.running_cancelled, Cancelled())
        self._publisher.announce(done.announcements)
        # An ending, such as a cancelled head's, may have made the next turn runnable.
        if done.inserted > len(done.claimed) or done.announcements:
            self._slots.wake()
        for verdict in verdicts:
            if isinstance(verdict, NewRequest) and verdict.not_before:
                self._slots.wake_in((verdict.not_before - datetime.now(UTC)).total_seconds())
        await self._publisher.dead_letters(done.dead_letters, done.refused)

    def _count_erased(self, erased: Sequence[DeadLetter]) -> None:
        if erased:
            self._metrics.erased.inc(len(erased))
            log.info("records_of_erased_owners", count=len(erased))

    def _count_misplaced(self, consumer: AIOKafkaConsumer, records: Sequence[Any]) -> None:
        for record in records:
            partitions = consumer.partitions_for_topic(record.topic)
            if record.key and partitions and _murmur2_partition(record.key, len(partitions)) != record.partition:
                self._metrics.partition_mismatch.inc()


class OnRebalance(ConsumerRebalanceListener):  # type: ignore[misc]
    """Lets intake commit before partitions move, and checks the new ones.

    If retention deleted records that were never read, that is logged as an error and counted.
    """

    def __init__(self, intake: Intake, metrics: Metrics, consumer: Callable[[], AIOKafkaConsumer | None]) -> None:
        self._intake = intake
        self._metrics = metrics
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:  # noqa: ARG002  aiokafka's name
        """Commit. The current batch continues: taking in its records again elsewhere changes nothing."""
        if consumer := self._consumer():
            await self._intake.before_rejoining(consumer)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Compare committed offsets with the start of the log. aiokafka swallows errors here, so they are logged."""
        self._intake.rejoined()
        try:
            await self._compare(assigned)
        except (*KAFKA_ERRORS, IllegalStateError) as error:
            log.warning("log_start_unknown", error=type(error).__name__)

    async def _compare(self, assigned: Sequence[TopicPartition]) -> None:
        consumer = self._consumer()
        if not consumer or not assigned:
            return
        starts = await consumer.beginning_offsets(list(assigned))
        for tp in assigned:
            committed = await consumer.committed(tp)
            if committed is not None and committed < starts[tp]:
                missing = starts[tp] - committed
                self._metrics.log_gap.inc(missing)
                log.error("log_gap", topic=tp.topic, partition=tp.partition, missing=missing)


def _batch(verdicts: Sequence[Verdict], ledger: int) -> Batch:
    batch = Batch(ledger=ledger)
    for verdict in verdicts:
        if not isinstance(verdict, DeadLetter) and verdict.change:
            batch.changes.append(verdict.change)
        match verdict:
            case NewRequest():
                batch.requests.append(verdict)
            case Cancel(request, signed=True):
                batch.cancels.append(request)
            case Cancel(request, record):
                batch.unsigned_cancels.append(Unsigned(request, record))
            case Delete(conversation, signed=True):
                batch.deletes.append(conversation)
            case Delete(conversation, record):
                batch.unsigned_deletes.append(Unsigned(conversation, record))
            case DeadLetter():
                batch.dead_letters.append(verdict)
    return batch


def _idle(consumer: AIOKafkaConsumer, tp: TopicPartition) -> IntakeProgress | None:
    """The progress of a partition that its last fetch showed to be read to the end; None for any other."""
    try:
        end, fetched_ms, here = consumer.highwater(tp), consumer.last_poll_timestamp(tp), position(consumer, tp)
    except NOT_ASSIGNED:
        return None
    if end is None or fetched_ms is None or here is None or here < end:
        return None
    return IntakeProgress(tp.topic, tp.partition, here, moment(fetched_ms) - _IDLE_MARGIN)


def _murmur2_partition(key: bytes, partitions: int) -> int:
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)

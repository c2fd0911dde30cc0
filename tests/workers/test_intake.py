"""Promises of workers/intake.py: no record is skipped or blocks the rest, and only stored records are committed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, CoordinatorNotAvailableError, IllegalStateError, KafkaError

from orchestra import loops
from orchestra.signing import OwnerHasher
from orchestra.store import erasures
from orchestra.store.database import DatabaseUnavailableError, DatabaseUnsuitableError, DataRefusedError
from orchestra.store.dead_letters import DeadLetter
from orchestra.store.erasures import LedgerOutdatedError, StoredErasure
from orchestra.store.intake import Batch, Intaken
from schemas.errors import ErrorCode
from schemas.requests import CANCEL_REQUESTED, CancelRequested
from tests.support.fakes import Calls, FakeSlots, away, no_pause, running, steps
from tests.support.records import SECRET, Record, claimed, message, reader, signed
from tests.support.waiting import eventually
from workers import dlq_limit, intake
from workers.intake import Intake, OnRebalance
from workers.ledger import Ledger
from workers.metrics import Metrics
from workers.records import refusal

Batch_ = dict[TopicPartition, list[Record]]
TP = TopicPartition("llm.requests", 3)
OTHER = TopicPartition("llm.requests", 4)
# All records before this offset were read before.
READ = 10


class Consumer:
    """A fake consumer that returns batches, then nothing, and keeps the committed offsets."""

    def __init__(self, *batches: "Batch_ | BaseException") -> None:
        self.batches = list(batches)
        self.committed_now: list[dict[TopicPartition, int]] = []
        self.errors: list[Exception] = []
        self.read = 0
        self.most: list[int] = []
        self.stopped: set[TopicPartition] = set()

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        """A batch or an error in its place; nothing while all partitions are paused."""
        await asyncio.sleep(0)
        self.read += 1
        self.most.append(max_records)
        if not self.batches or self.stopped == self.assignment():
            return {}
        batch = self.batches.pop(0)
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def paused(self) -> set[TopicPartition]:
        """The paused partitions."""
        return set(self.stopped)

    def pause(self, *partitions: TopicPartition) -> None:
        """Return no records of these partitions."""
        self.stopped |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Return records of them again."""
        self.stopped -= set(partitions)

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit exactly these offsets."""
        if self.errors:
            raise self.errors.pop(0)
        self.committed_now.append(offsets)

    def partitions_for_topic(self, _topic: str) -> set[int]:
        """The topic's partitions."""
        return set(range(32))

    def assignment(self) -> frozenset[TopicPartition]:
        """The assigned partitions."""
        return frozenset({TP, OTHER})


class Database:
    """A fake pool."""

    well = True

    async def is_well(self) -> bool:
        """The health that the test sets."""
        return self.well


class Publisher:
    """A fake publisher that keeps everything and never waits."""

    def __init__(self) -> None:
        self.announced: list[Any] = []
        self.letters: list[DeadLetter] = []
        self.refused: list[DeadLetter] = []

    def announce(self, announcements: list[Any]) -> None:
        """Replies."""
        self.announced += announcements

    async def dead_letters(self, letters: list[DeadLetter], refused: Sequence[DeadLetter] = ()) -> None:
        """Dead letters."""
        self.letters += letters
        self.refused += refused


class Taking:
    """An intake of these batches on this store."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Calls, *batches: Batch_ | BaseException) -> None:
        monkeypatch.setattr(intake, "take_in", store)
        monkeypatch.setattr(intake, "note_progress", Calls(None))
        monkeypatch.setattr(intake, "next_offsets", Calls({(TP.topic, TP.partition): READ}))
        monkeypatch.setattr(intake, "check_reading", lambda _: None)
        no_pause(monkeypatch, intake, "RETRY_SECONDS")
        no_pause(monkeypatch, loops, "FIRST_PAUSE_SECONDS", "LAST_PAUSE_SECONDS")
        self.opened = 0
        self.refusals: list[BaseException | None] = []
        self.consumer = Consumer(*batches)
        self.store = store
        self.slots = FakeSlots()
        self.publisher = Publisher()
        self.metrics = Metrics()
        self.left = False
        self.committed_when_left: list[dict[TopicPartition, int]] = []
        publisher: Any = self.publisher
        slots: Any = self.slots
        self.database = Database()
        database: Any = self.database
        self.intake = Intake(reader(), database, publisher, slots, self.metrics, Ledger([SECRET]))

    @asynccontextmanager
    async def open_reader(self) -> AsyncIterator[Any]:
        """A reader that joins at once and leaves the group at the end."""
        self.opened += 1
        if self.refusals and (refusal := self.refusals.pop(0)):
            raise refusal
        self.left = False
        try:
            yield self.consumer
        finally:
            self.left = True
            self.committed_when_left = list(self.consumer.committed_now)

    async def run(self) -> None:
        """Read until closed."""
        await self.intake.run(self.open_reader)

    async def all(self) -> None:
        """Read until every batch was committed or its commit was given up."""
        async with running(self.run()) as (run,):
            await eventually(lambda: run.done() or (not self.consumer.batches and self.consumer.read > 3))
            self.intake.close()
            await asyncio.wait_for(run, 10)

    @property
    def taken(self) -> list[Batch]:
        """The batches that were written or tried."""
        return [batch for batch, _order in self.store.calls]


def erased(monkeypatch: pytest.MonkeyPatch, owner: str, until: datetime | None) -> None:
    """Have the ledger tell of an erasure of this owner, whose records are refused up to ``until``."""
    hash = OwnerHasher([SECRET]).hash("default", owner)
    erasure = StoredErasure(uuid4(), "default", hash, None, datetime.now(UTC), until, True, {}, None)
    monkeypatch.setattr(erasures, "ledger", Calls(erasures.Ledger(7, [erasure])))


def records(*values: bytes | None, first: int = 10) -> list[Record]:
    """Consecutive records."""
    return [Record(value, offset=first + place) for place, value in enumerate(values)]


async def test_a_batch_is_written_and_then_exactly_it_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a batch is written, exactly the offsets behind its last records are committed."""
    batch = {TP: records(message("a"), message("b")), OTHER: records(message("c"), first=70)}
    taking = Taking(monkeypatch, Calls(Intaken()), batch, {TP: records(message("d"), first=12)})

    await taking.all()

    committed: dict[TopicPartition, int] = {}
    for offsets in taking.consumer.committed_now:
        assert all(offset in {TP: (12, 13), OTHER: (71,)}[tp] for tp, offset in offsets.items())
        committed |= offsets
    assert {TP: 13, OTHER: 71} == committed
    said = [[each.body["messages"][0]["content"] for each in batch.requests] for batch in taking.taken]
    assert [["a", "b", "c"], ["d"]] == said


async def test_every_kind_of_record_goes_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests, cancels, deletions, signed or not, and dead letters are written in one transaction."""
    id = str(claimed().id)
    batch = [
        Record(message()),
        Record(json.dumps({"request_id": id}).encode(), headers=[("ce_type", b"llm.cancel.requested")]),
        Record(
            json.dumps({"conversation_id": id}).encode(), headers=[("ce_type", b"llm.conversation.delete.requested")]
        ),
        Record(b"nonsense"),
        signed(value=json.dumps({"request_id": id}).encode(), type="llm.cancel.requested"),
        signed(value=json.dumps({"conversation_id": id}).encode(), type="llm.conversation.delete.requested"),
    ]
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: batch})

    await taking.all()

    (taken,) = taking.taken
    assert [1, 1, 1] == [len(each) for each in (taken.requests, taken.cancels, taken.deletes)]
    assert [1, 1, 1] == [len(each) for each in (taken.unsigned_cancels, taken.unsigned_deletes, taken.dead_letters)]


async def test_dead_letters_are_with_kafka_before_the_offsets_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead letters are in Kafka before the offsets are committed, so that a crash in between loses none."""
    letter = reader().read(Record(b"nonsense"))
    found = Intaken(dead_letters=[letter], refused=[letter])  # type: ignore[list-item]
    taking = Taking(monkeypatch, Calls(found), {TP: records(b"nonsense")})
    hold = asyncio.Event()

    async def slowly(letters: list[DeadLetter], refused: list[DeadLetter]) -> None:
        assert letters == refused
        taking.publisher.letters += letters
        await hold.wait()

    taking.publisher.dead_letters = slowly  # type: ignore[method-assign]
    async with running(taking.run()):
        await eventually(lambda: taking.publisher.letters)
        await steps()
        assert taking.consumer.committed_now == []
        hold.set()
        await eventually(lambda: taking.consumer.committed_now)


async def test_records_of_erased_owners_are_not_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that was judged before an erasure is judged again: what the erased owner sent before it is left out."""
    at = Record.timestamp
    early, late = signed("default", "ann", secret=SECRET), signed("default", "ann", secret=SECRET)
    early.offset, late.timestamp = READ - 1, at + 1000
    others = [signed("default", "bob", secret=SECRET), Record(), late]
    store = Calls(LedgerOutdatedError(), Intaken())
    erased(monkeypatch, "ann", datetime.fromtimestamp(at / 1000, UTC))
    taking = Taking(monkeypatch, store, {TP: [early, *others]})

    await taking.all()

    first, second = (call[0] for call in store.calls)
    assert (0, 4, 7, 3) == (first.ledger, len(first.requests), second.ledger, len(second.requests))
    assert [each.record.timestamp_ms for each in second.requests] == [at, at, at + 1000]
    assert ["bob", None, "ann"] == [each.user for each in second.requests]
    assert [] == second.dead_letters
    assert (1, 1) == (taking.metrics.erased._value.get(), taking.slots.doubts)


async def test_what_an_erased_owner_is_asking_is_answered_without_its_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that no worker has read gets its answer, from a letter with no more than its id; a cancel gets none."""
    asked = signed("default", "ann", value=message("SECRET"), key=b"SECRET", id=uuid4())
    unreadable = signed("default", "ann", value=b"SECRET", id=uuid4())
    value = CancelRequested(request_id=uuid4()).model_dump_json().encode()
    cancel = signed("default", "ann", type=CANCEL_REQUESTED, value=value, id=uuid4())
    for place, each in enumerate([asked, unreadable, cancel]):
        each.offset = READ + place
    store = Calls(LedgerOutdatedError(), Intaken())
    erased(monkeypatch, "ann", None)
    taking = Taking(monkeypatch, store, {TP: [asked, unreadable, cancel]})

    await taking.all()

    _, second = (call[0] for call in store.calls)
    assert ([], []) == (second.requests, second.cancels)
    assert [(READ, ErrorCode.OWNER_ERASED), (READ + 1, ErrorCode.OWNER_ERASED)] == [
        (each.offset, each.reason) for each in second.dead_letters
    ]
    assert "SECRET" not in repr(second.dead_letters)
    assert all(each.headers == [] and refusal(each) for each in second.dead_letters)
    assert 3 == taking.metrics.erased._value.get()


async def test_no_text_of_an_erased_owner_gets_to_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Postgres refuses goes to the topic of dead letters, but of an erased owner no more than the id."""
    asked = signed("default", "ann", value=message("SECRET"), key=b"SECRET", id=uuid4())
    erased(monkeypatch, "ann", None)
    taking = Taking(monkeypatch, Calls(LedgerOutdatedError(), DataRefusedError("22P05")), {TP: [asked]})

    await taking.all()

    (letter,) = taking.publisher.letters
    assert (ErrorCode.OWNER_ERASED, asked.offset) == (letter.reason, letter.offset)
    assert "SECRET" not in repr(letter)


async def test_the_database_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """During an outage the same batch is retried, nothing is committed, and forgotten claims are looked for."""
    taking = Taking(monkeypatch, Calls(away(), away(), Intaken()), {TP: records(message())})

    await taking.all()

    assert taking.taken[0] == taking.taken[1] == taking.taken[2]
    assert [{TP: 11}] == taking.consumer.committed_now
    assert 2 == taking.slots.doubts


def refuses(poison: str) -> Callable[..., Intaken]:
    """A store that refuses batches with a request of this text."""

    def take_in(batch: Batch, _order: object) -> Intaken:
        if any(poison in str(each.body) for each in batch.requests):
            raise DataRefusedError("22P05")
        return Intaken(inserted=len(batch.requests), dead_letters=batch.dead_letters)

    return take_in


async def test_one_poisoned_record_is_found_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is halved until the poisoned record alone is a dead letter, and the others keep their order."""
    values = [message("poison" if place == 5 else f"m{place}") for place in range(9)]
    taking = Taking(monkeypatch, Calls(refuses("poison")), {TP: records(*values)})

    await taking.all()

    written = [batch for batch in taking.taken if not any("poison" in str(each.body) for each in batch.requests)]
    said = [each.body["messages"][0]["content"] for batch in written for each in batch.requests]
    assert [f"m{place}" for place in range(9) if place != 5] == said
    assert [(ErrorCode.REFUSED_BY_DATABASE, 15)] == [(each.reason, each.offset) for each in taking.publisher.letters]
    assert [{TP: 19}] == taking.consumer.committed_now


async def test_progress_is_noted_when_all_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition counts as read up to its last record once the whole batch is in Postgres, halved or not."""
    values = [message("poison" if place == 2 else "fine") for place in range(4)]
    taking = Taking(monkeypatch, Calls(refuses("poison")), {TP: records(*values), OTHER: records(message("o"))})
    noted: list[Any] = []

    async def note(_database: object, marks: list[Any]) -> None:
        noted.extend((mark.partition, mark.next_offset, len(taking.publisher.letters)) for mark in marks)

    monkeypatch.setattr(intake, "note_progress", note)
    monkeypatch.setattr(intake, "_idle", lambda *_: None)
    no_pause(monkeypatch, intake, "NOTE_SECONDS")
    async with running(taking.run()):
        await eventually(lambda: noted)

    assert [(TP.partition, 14, 1), (OTHER.partition, 11, 1)] == noted


async def test_a_dead_letter_that_cannot_be_stored_is_kept_by_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead letter that Postgres refuses is kept on its topic, and its partition counts as read."""
    taking = Taking(monkeypatch, Calls(DataRefusedError("22P05")), {TP: records(b"nonsense")})

    await taking.all()

    assert [ErrorCode.NOT_JSON] == [each.reason for each in taking.publisher.letters]
    assert [{TP: 11}] == taking.consumer.committed_now


def breaks(poison: str, taken: list[str]) -> Callable[..., Intaken]:
    """A store whose session is lost on requests of this text, and the requests that it accepts."""

    def take_in(batch: Batch, _order: object) -> Intaken:
        said = [each.body["messages"][0]["content"] for each in batch.requests]
        if poison in said or batch.cancels or batch.unsigned_cancels:
            raise DatabaseUnavailableError("08003")
        taken.extend(said)
        return Intaken(inserted=len(batch.requests), dead_letters=batch.dead_letters)

    return take_in


async def test_a_record_that_fails_while_postgres_is_well_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that fails while Postgres is available becomes a dead letter; the others are stored once, in order."""
    taken: list[str] = []
    values = [message("poison" if place == 5 else f"m{place}") for place in range(9)]
    taking = Taking(monkeypatch, Calls(breaks("poison", taken)), {TP: records(*values)})

    await taking.all()

    assert [f"m{place}" for place in range(9) if place != 5] == taken
    (letter,) = taking.publisher.letters
    assert (ErrorCode.REFUSED_BY_DATABASE, 15) == (letter.reason, letter.offset)
    assert letter.detail.endswith("(08003)")
    assert [{TP: 19}] == taking.consumer.committed_now


async def test_a_cancel_that_fails_while_postgres_is_well_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel that keeps failing does not block other records either."""
    value = json.dumps({"request_id": str(claimed().id)}).encode()
    cancel = Record(value, offset=10, headers=[("ce_type", b"llm.cancel.requested")])
    taking = Taking(monkeypatch, Calls(breaks("poison", [])), {TP: [cancel]})

    await taking.all()

    assert [(ErrorCode.REFUSED_BY_DATABASE, 10)] == [(each.reason, each.offset) for each in taking.publisher.letters]


async def test_connections_that_break_are_no_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A good record survives random connection losses between which Postgres is available."""
    unlucky = [away()] * (intake.MAX_FAILURES_ALONE - 1)
    taking = Taking(monkeypatch, Calls(*unlucky, Intaken()), {TP: records(message())})

    await taking.all()

    assert (intake.MAX_FAILURES_ALONE, []) == (len(taking.taken), taking.publisher.letters)
    assert [{TP: 11}] == taking.consumer.committed_now


async def test_no_record_is_given_up_while_postgres_is_unwell(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Postgres is unavailable no record is given up, however often it fails."""
    taking = Taking(monkeypatch, Calls(*[away()] * 20, Intaken()), {TP: records(message())})
    taking.database.well = False

    await taking.all()

    assert (21, []) == (len(taking.taken), taking.publisher.letters)
    assert [{TP: 11}] == taking.consumer.committed_now


async def test_no_record_is_blamed_for_what_postgres_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Postgres answers, but has no room or no tables, no record is given up, however often it fails."""
    full = DatabaseUnsuitableError("the disk of Postgres is full")
    taking = Taking(monkeypatch, Calls(*[full] * 20, Intaken()), {TP: records(message())})

    await taking.all()

    assert (21, []) == (len(taking.taken), taking.publisher.letters)
    assert [{TP: 11}] == taking.consumer.committed_now


@pytest.mark.parametrize("error", [CommitFailedError(), IllegalStateError("not assigned")])
async def test_a_failed_commit_is_harmless(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """After a failed commit the records are read again and change nothing."""
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: records(message())})
    taking.consumer.errors = [error]

    async with running(taking.run()):
        await eventually(lambda: not taking.consumer.errors)
        taking.consumer.batches.append({TP: records(message(), first=11)})
        await eventually(lambda: taking.consumer.committed_now)

    assert [{TP: 12}] == taking.consumer.committed_now


async def test_partitions_move_with_all_that_was_taken_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it rejoins its group a worker commits; until it has new partitions it commits nothing, then again."""
    monkeypatch.setattr(intake, "COMMIT_SECONDS", 0.01)
    taking = Taking(monkeypatch, Calls(Intaken()))
    consumer: Any = taking.consumer
    rebalance = OnRebalance(taking.intake, Mock(), lambda: consumer)
    async with running(taking.run()):
        await eventually(lambda: consumer.read)
        taking.intake._note_taken({TP: 11})
        await rebalance.on_partitions_revoked([TP])
        assert [{TP: 11}] == consumer.committed_now

        taking.intake._note_taken({OTHER: 5})
        read = consumer.read
        await eventually(lambda: consumer.read > read + 50)
        assert [{TP: 11}] == consumer.committed_now
        await rebalance.on_partitions_assigned([])
        await eventually(lambda: [{TP: 11}, {OTHER: 5}] == consumer.committed_now)
        taking.intake.close()


async def test_nothing_is_committed_for_partitions_that_moved_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka refuses a whole commit for one partition of another worker: it is left out."""
    taking = Taking(monkeypatch, Calls(Intaken()))
    consumer: Any = taking.consumer
    taking.intake._note_taken({TP: 11, TopicPartition(TP.topic, 9): 3})

    await taking.intake.before_rejoining(consumer)

    assert [{TP: 11}] == consumer.committed_now


async def test_what_was_taken_last_is_committed_before_the_group_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last offsets are committed before the group is left, so that a drain leaves no record to read again."""
    monkeypatch.setattr(intake, "COMMIT_SECONDS", 3600)
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: records(message())}, {TP: records(message(), first=11)})

    await taking.all()

    assert [{TP: 12}] == taking.committed_when_left


async def test_what_was_taken_last_is_noted_before_the_group_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that drains stores how far it has read, so that nothing it took in counts as lag while it rests."""
    monkeypatch.setattr(intake, "NOTE_SECONDS", 3600)
    monkeypatch.setattr(intake, "_idle", lambda *_: None)
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: records(message(), message())})
    noted: list[tuple[int, int, bool]] = []

    async def note(_database: object, marks: list[Any]) -> None:
        noted.extend((mark.partition, mark.next_offset, taking.left) for mark in marks)

    monkeypatch.setattr(intake, "note_progress", note)
    await taking.all()

    assert [(TP.partition, 12, False)] == noted


async def test_the_next_turn_of_an_ended_one_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose cancels ended turns wakes claiming, because the turns behind them may run now."""
    taking = Taking(monkeypatch, Calls(Intaken(announcements=["reply"])), {TP: records(message())})  # type: ignore[list-item]

    await taking.all()

    assert 1 == taking.slots.wakes


async def test_a_delayed_turn_is_looked_for_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claiming receives the time at which a turn of the batch may start, if that is later."""
    later = datetime.now(UTC) + timedelta(hours=1)
    delayed = message(not_before=later.isoformat())
    taking = Taking(monkeypatch, Calls(Intaken(inserted=2)), {TP: records(message(), delayed)})

    await taking.all()

    (due,) = taking.slots.due
    assert 0 < due <= 3600


async def test_what_a_batch_did_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims start, cancelled turns stop, replies are announced, and claiming is woken when there is more."""
    turn = claimed()
    done = Intaken(inserted=2, duplicates=3, claimed=[turn], running_cancelled=[turn.ref], announcements=["reply"])  # type: ignore[list-item]
    taking = Taking(monkeypatch, Calls(done), {TP: records(message())})

    await taking.all()

    assert ([turn], [turn.ref], ["reply"], 1) == (
        taking.slots.started,
        taking.slots.stopped,
        taking.publisher.announced,
        taking.slots.wakes,
    )
    assert 3 == taking.metrics.duplicates._value.get()


async def test_reading_stops_while_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the emergency limit reading pauses, below it reading resumes, and closing ends it in any state."""
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: records(message())})
    taking.intake.hold(full=True)
    async with running(taking.run()) as (run,):
        await steps()
        assert 0 == taking.consumer.read
        taking.intake.hold(full=False)
        await eventually(lambda: taking.consumer.committed_now)
        taking.intake.hold(full=True)
        taking.intake.close()
        await asyncio.wait_for(run, 10)

    assert taking.left


@pytest.mark.parametrize("timestamp", [-1, -(10**16), 0, 2**62])
async def test_no_timestamp_can_stop_the_reading(monkeypatch: pytest.MonkeyPatch, timestamp: int) -> None:
    """No producer timestamp, however wrong, stops the reading."""
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: [Record(message(), timestamp=timestamp, offset=10)]})

    await taking.all()

    assert [{TP: 11}] == taking.consumer.committed_now


async def test_records_on_the_wrong_partition_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only records with a key on another partition than its hash gives are counted."""
    right = next(
        key for key in (str(number).encode() for number in range(999)) if intake._murmur2_partition(key, 32) == 3
    )
    wrong = next(
        key for key in (str(number).encode() for number in range(999)) if intake._murmur2_partition(key, 32) != 3
    )
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: [Record(message(), key) for key in (right, wrong, None)]})

    await taking.all()

    assert 1 == taking.metrics.partition_mismatch._value.get()


@pytest.mark.parametrize(
    ("key", "partition"), [(b"21", 12), (b"foobar", 30), (b"", 25), (b"a-little-bit-long-string", 0)]
)
def test_partitions_are_kafkas_own(key: bytes, partition: int) -> None:
    """The partitioner agrees with the examples in Kafka's own test."""
    assert partition == intake._murmur2_partition(key, 32)


async def test_a_batch_at_hand_is_not_said_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition is not idle while its current batch is not in Postgres, whatever has been fetched."""
    hold = asyncio.Event()
    noted: list[set[int]] = []

    async def take_slowly(*_: object) -> Intaken:
        await hold.wait()
        return Intaken()

    async def note(_database: object, marks: list[Any]) -> None:
        noted.append({mark.partition for mark in marks})

    taking = Taking(monkeypatch, Calls(Intaken()), {TP: records(message())})
    monkeypatch.setattr(intake, "take_in", take_slowly)
    monkeypatch.setattr(intake, "note_progress", note)
    monkeypatch.setattr(
        intake, "_idle", lambda _consumer, tp: intake.IntakeProgress(tp.topic, tp.partition, 1, intake.moment(0))
    )
    no_pause(monkeypatch, intake, "NOTE_SECONDS")
    async with running(taking.run()):
        await eventually(lambda: taking.intake._at_hand)
        noted.clear()
        await eventually(lambda: len(noted) > 2)
        assert all(each == {OTHER.partition} for each in noted)
        hold.set()
        await eventually(lambda: {TP.partition, OTHER.partition} in noted)


async def test_a_failure_of_the_idle_marks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure to store idle marks is logged as an error, because gateways wait for them."""
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: records(message())})
    monkeypatch.setattr(intake, "note_progress", note := Calls(RuntimeError()))
    no_pause(monkeypatch, intake, "NOTE_SECONDS")
    with structlog.testing.capture_logs() as lines:
        async with running(taking.run()):
            await eventually(lambda: len(note.calls) > 2 and taking.consumer.committed_now)

    assert ("progress_not_noted", "error") in {(line["event"], line["log_level"]) for line in lines}


ANYTHING = [
    KafkaError(),
    CoordinatorNotAvailableError(),
    OSError(),
    TimeoutError(),
    asyncio.IncompleteReadError(b"", 4),
    asyncio.InvalidStateError(),
    asyncio.CancelledError(),
    RuntimeError(),
]


@pytest.mark.parametrize("error", ANYTHING, ids=lambda error: type(error).__name__)
async def test_a_reader_that_fails_is_replaced(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A reader that fails at any point is replaced, and intake continues."""
    taking = Taking(
        monkeypatch, Calls(Intaken()), {TP: records(message("a"))}, error, {TP: records(message("b"), first=11)}, error
    )
    taking.refusals = [None, error, error, None]
    async with running(taking.run()) as (run,):
        await eventually(lambda: taking.opened == 5)
        taking.consumer.batches.append({TP: records(message("c"), first=12)})
        await eventually(lambda: {TP: 13} in taking.consumer.committed_now)
        assert not run.done()

    assert ["a", "b", "c"] == [each.body["messages"][0]["content"] for batch in taking.taken for each in batch.requests]


async def test_a_reader_that_has_silently_stopped_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader whose background fetch has died is replaced, even though `getmany` raises nothing."""
    taking = Taking(monkeypatch, Calls(Intaken()))
    checks = chain([None, KafkaError(), None, KafkaError()], repeat(None))
    monkeypatch.setattr(intake, "check_reading", Mock(side_effect=checks))
    async with running(taking.run()):
        await eventually(lambda: taking.opened == 3)


async def test_nothing_of_a_failed_reader_is_committed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new reader starts at the committed offsets, so that records counted by the old one are not skipped."""
    monkeypatch.setattr(intake, "COMMIT_SECONDS", 3600)
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: records(message())}, KafkaError())
    async with running(taking.run()) as (run,):
        await eventually(lambda: taking.opened == 2)
        taking.intake.close()
        await asyncio.wait_for(run, 10)

    assert taking.consumer.committed_now == []


async def test_an_intake_without_kafka_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Kafka intake closes at once, even in a pause between two attempts."""
    taking = Taking(monkeypatch, Calls(Intaken()))
    monkeypatch.setattr(loops, "FIRST_PAUSE_SECONDS", 3600)
    taking.refusals = [KafkaError()]
    async with running(taking.run()) as (run,):
        await eventually(lambda: taking.opened)
        taking.intake.close()
        await asyncio.wait_for(run, 10)


@pytest.mark.parametrize("error", ANYTHING[:-2], ids=lambda error: type(error).__name__)
async def test_whatever_a_commit_fails_with_is_harmless(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """No commit error replaces the reader."""
    taking = Taking(monkeypatch, Calls(Intaken()), {TP: records(message())})
    taking.consumer.errors = [error]
    async with running(taking.run()):
        await eventually(lambda: not taking.consumer.errors)
        taking.consumer.batches.append({TP: records(message(), first=11)})
        await eventually(lambda: {TP: 12} in taking.consumer.committed_now)

    assert 1 == taking.opened


async def test_a_topic_of_dead_letters_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic of dead letters is paused on any reader, probed later, and resumed after a good record."""
    monkeypatch.setattr(dlq_limit, "MIN_RECORDS", 3)
    monkeypatch.setattr(dlq_limit, "MIN_SECONDS", 0)
    monkeypatch.setattr(dlq_limit, "PROBE_SECONDS", 3600)
    no_pause(monkeypatch, intake, "NOTE_SECONDS")
    bad = [{TP: [replace(signed(value=b"nonsense"), offset=at + n) for n in (0, 1)]} for at in (10, 12, 14)]
    taking = Taking(monkeypatch, Calls(Intaken()), *bad)
    monkeypatch.setattr(intake, "note_progress", note := Calls(None))
    async with running(taking.run()):
        await eventually(lambda: taking.consumer.stopped)
        assert {TP, OTHER} == taking.consumer.stopped
        assert [bad[2]] == taking.consumer.batches
        assert 1 == taking.metrics.topic_held.labels(TP.topic)._value.get()
        await eventually(lambda: any("held:llm.requests" in {mark.topic for mark in marks} for (marks,) in note.calls))

        taking.intake._limit._topics[TP.topic].probe_at = 0.0
        await eventually(lambda: not taking.consumer.batches and taking.consumer.stopped)
        assert dlq_limit.PROBE_RECORDS in taking.consumer.most

        taking.consumer.batches.append({TP: records(message(), first=16)})
        taking.intake._limit._topics[TP.topic].probe_at = 0.0
        await eventually(lambda: {TP: 17} in taking.consumer.committed_now)
        assert taking.consumer.stopped == set()
        assert 0 == taking.metrics.topic_held.labels(TP.topic)._value.get()


class Log:
    """A fake log: its committed offset and its start."""

    def __init__(self, committed: int | None, start: int) -> None:
        self._committed, self._start = committed, start

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The start of each log."""
        return dict.fromkeys(partitions, self._start)

    async def committed(self, _partition: TopicPartition) -> int | None:
        """The group's committed offset."""
        return self._committed


@pytest.mark.parametrize(("committed", "start", "missing"), [(5, 8, 3), (8, 8, 0), (9, 8, 0), (None, 8, 0), (0, 1, 1)])
async def test_records_that_were_never_read_raise_an_alarm(committed: int | None, start: int, missing: int) -> None:
    """Each unread record that retention deleted is counted; a new group has missed none."""
    metrics = Metrics()
    log: Any = Log(committed, start)

    await OnRebalance(Mock(), metrics, lambda: log).on_partitions_assigned([TP])

    assert missing == metrics.log_gap._value.get()

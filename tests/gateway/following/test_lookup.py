import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from gateway.following import lookup
from gateway.following.lookup import Lookup
from gateway.people.principal import Principal, nameless
from orchestra.receipts import Receipts
from orchestra.store import dead_letters, progress
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.requests import StoredRequest
from orchestra.store.turns import RequestRef
from schemas.api.dead_letters import DeadLetterFilter
from schemas.api.keys import Scope
from schemas.api.requests import RequestResource
from schemas.errors import ErrorCode, OrchestraError
from schemas.status import Status
from schemas.topics import REQUESTS
from tests.support.fakes import away
from tests.support.store import letter, take

CALLER = nameless()


class Table:
    """Returns rows once ``busy`` is set; ``asked``: the requests that each statement asked for."""

    def __init__(self) -> None:
        self.asked: list[list[RequestRef]] = []
        self.busy = asyncio.Event()
        self.failing = 0
        self.failure: BaseException = away()

    async def find(self, _database: Any, refs: Collection[RequestRef]) -> dict[RequestRef, StoredRequest]:
        self.asked.append(list(refs))
        number = len(self.asked)
        await self.busy.wait()
        if number <= self.failing:
            raise self.failure
        return {ref: StoredRequest(RequestResource(id=ref[1], status=Status.PENDING), "hash") for ref in refs}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table()
    monkeypatch.setattr(lookup.requests, "find", made.find)
    return made


@pytest.fixture
def looking(table: Table) -> Lookup:
    return Lookup(None, Receipts([b"x" * 32]))  # type: ignore[arg-type]


async def asking(looking: Lookup, count: int) -> list["asyncio.Task[StoredRequest | None]"]:
    """This many callers, each of which waits for a request of its own."""
    tasks = [asyncio.create_task(looking.stored(CALLER, uuid4())) for _ in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_many_who_ask_take_two_connections(looking: Lookup, table: Table) -> None:
    """Callers that come while Postgres is busy share one statement, so they do not use up the pool."""
    tasks = await asking(looking, 1) + await asking(looking, 1) + await asking(looking, 500)
    assert [1, 1] == [len(refs) for refs in table.asked]

    table.busy.set()
    found = await asyncio.gather(*tasks)

    assert all(found)
    assert [1, 1, 500] == [len(refs) for refs in table.asked]


async def test_who_asks_when_the_last_statements_have_just_ended_is_answered(looking: Lookup, table: Table) -> None:
    """A call that comes in the same turn of the event loop as the ends of both statements gets one of its own."""
    tasks = await asking(looking, 1) + await asking(looking, 1)
    table.busy.set()
    last = asyncio.create_task(looking.stored(CALLER, uuid4()))

    async with asyncio.timeout(10):
        assert all(await asyncio.gather(*tasks, last))


async def test_a_row_is_as_it_is_after_it_was_asked_for(looking: Lookup, table: Table) -> None:
    """A caller never gets the result of a statement that began before its call, even for the same request."""
    id = uuid4()
    first = asyncio.create_task(looking.stored(CALLER, id))
    for _ in range(5):
        await asyncio.sleep(0)
    second = asyncio.create_task(looking.stored(CALLER, id))
    for _ in range(5):
        await asyncio.sleep(0)
    table.busy.set()
    await asyncio.gather(first, second)

    assert [[("default", id)], [("default", id)]] == table.asked


@pytest.mark.parametrize("failure", [away(), asyncio.CancelledError()], ids=["away", "cancelled"])
async def test_all_who_wait_are_told_that_postgres_is_away_and_the_next_are_answered(
    looking: Lookup, table: Table, failure: BaseException
) -> None:
    """An error, or a CancelledError of a client, reaches only its statement's callers; who left disturbs no other."""
    table.failing, table.failure = 2, failure
    tasks = await asking(looking, 1) + await asking(looking, 1) + await asking(looking, 3)
    tasks[0].cancel()
    table.busy.set()

    async with asyncio.timeout(10):
        told = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(told[1], DatabaseUnavailableError)
    assert all(isinstance(each, StoredRequest) for each in told[2:])


async def test_what_was_replayed_is_on_its_way(database: Database) -> None:
    """A replayed dead letter no longer counts as an ending: its request is pending until intake has read that far."""
    receipts, now = Receipts([b"x" * 32]), datetime.now(UTC)
    ann = Principal("default", "ann", frozenset({Scope.READ}))
    hers, theirs = receipts.mint("default", "ann", now - timedelta(days=2)), uuid4()
    letters = [letter(request_id=id).because(ErrorCode.NOT_JSON, "bad") for id in (hers, theirs)]
    await take(database, dead_letters=letters)
    await read_everything(database, now - timedelta(days=1))
    asking = [(ann, hers), (CALLER, hers), (CALLER, theirs)]
    looking = Lookup(database, receipts)
    assert [Status.FAILED] * 3 == [(await looking.resource(*each)).status for each in asking]

    for kept in (await dead_letters.page(database, "default", DeadLetterFilter(), None, 9, replayed=None)).data:
        assert kept.request_id
        await dead_letters.note_replayed(database, "default", {kept.id: kept.request_id})
    assert [Status.PENDING] * 3 == [(await looking.resource(*each)).status for each in asking]

    await database.run("UPDATE dead_letters SET replayed_at = replayed_at - interval '1 hour'")
    await read_everything(database, now)
    for each in (*asking, (ann, theirs)):
        with pytest.raises(OrchestraError) as caught:
            await looking.resource(*each)
        assert caught.value.code is ErrorCode.NOT_FOUND


async def read_everything(database: Database, moment: datetime) -> None:
    """Record that intake has read all partitions up to a time."""
    await progress.note_progress(database, [progress.IntakeProgress(REQUESTS.name, 0, 0, moment)])

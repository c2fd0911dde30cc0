"""The worker's statements on a real Postgres: the cost of a transaction, and of one more request in it."""

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from benchmarks.guard.gateway import QUESTION
from benchmarks.guard.path import Run, Tally, one_by_one
from orchestra.settings import DatabaseSettings
from orchestra.store import endings, leases, outbox
from orchestra.store.claims import Claimed, ClaimOrder
from orchestra.store.database import Database, Transaction
from orchestra.store.dead_letters import DeadLetter
from orchestra.store.endings import AttemptEnd
from orchestra.store.intake import Batch, NewRequest, take_in
from schemas.generation import Usage
from schemas.status import Status
from schemas.topics import REQUESTS

_BODY = {"messages": [{"role": "user", "content": QUESTION}]}
_REPLY = "A piece of text. " * 20


class _Store:
    """The worker's calls of the store."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.worker_id = uuid4()
        self._offsets = itertools.count(random.randrange(10**12, 10**13))

    async def carry(self, requests: int) -> None:
        """Carry this many requests through the worker's transactions, in one batch."""
        await self.mark(await self.finish(await self.take_in(requests)))

    async def take_in(self, requests: int) -> list[Claimed]:
        """One batch from Kafka: rows and claim."""
        new = [_request(next(self._offsets)) for _ in range(requests)]
        done = await take_in(self.database, Batch(requests=new), ClaimOrder(self.worker_id, 200))
        assert len(done.claimed) == requests
        return done.claimed

    async def finish(self, turns: list[Claimed]) -> list[int]:
        """Store their endings in one transaction; returns the outbox ids to announce."""
        usage = Usage(input_tokens=90, output_tokens=33)
        ended = [
            AttemptEnd(turn.tenant, turn.id, turn.conversation_id, turn.fence, Status.COMPLETED,
                   said=[{"role": "user", "content": QUESTION}], reply=_REPLY, usage=usage)
            for turn in turns
        ]  # fmt: skip
        finished = await endings.finish(self.database, ended, ClaimOrder(self.worker_id, 200))
        assert len(finished.announcements) == len(turns)
        return [each.id for each in finished.announcements]

    async def mark(self, ids: list[int]) -> None:
        """Mark them as published."""
        await outbox.mark_published(self.database, ids)


def _request(offset: int) -> NewRequest:
    id, conversation = uuid4(), uuid4()
    record = DeadLetter(
        tenant="default", topic=REQUESTS.name, partition=0, offset=offset, timestamp_ms=1_700_000_000_000,
        key=str(conversation).encode(), value=b"{}", headers=[], request_id=id,
    )  # fmt: skip
    return NewRequest(
        tenant="default", id=id, conversation_id=conversation, body=_BODY, body_hash="0" * 64, model="llama3",
        priority=5, deadline=None, max_tries=3, caller_waits=True, user=None, correlation_id=None,
        traceparent=f"00-{'a' * 32}-{'b' * 16}-00", record=record,
    )  # fmt: skip


@asynccontextmanager
async def _opened(tally: Tally) -> AsyncIterator[_Store]:
    plain = Transaction.run

    async def counted(tx: Transaction, sql: str, **parameters: Any) -> Any:
        tally.statements += 1
        return await plain(tx, sql, **parameters)

    with patch.object(Transaction, "run", counted):
        store = _Store(Database.connect(DatabaseSettings(), "guard", takes_first=True))
        await leases.register(store.database, store.worker_id)
        try:
            yield store
        finally:
            await leases.leave(store.database, store.worker_id)
            await store.database.close()


@asynccontextmanager
async def alone(tally: Tally) -> AsyncIterator[Run]:
    """A request alone in its batches: intake with claim, finish, mark."""
    async with _opened(tally) as store:
        yield one_by_one(partial(store.carry, 1))


@asynccontextmanager
async def further(tally: Tally) -> AsyncIterator[Run]:
    """A further request in the same batches."""
    async with _opened(tally) as store:
        yield store.carry

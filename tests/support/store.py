"""Requests as intake hands them to the store, and looks at what became of them."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from uuid import UUID, uuid4

from orchestra.settings import DatabaseSettings
from orchestra.store import claims, endings, leases, totals
from orchestra.store.claims import Claimed, ClaimOrder
from orchestra.store.database import Database, Row
from orchestra.store.dead_letters import DeadLetter
from orchestra.store.endings import AttemptEnd, Finished, Said
from orchestra.store.intake import Batch, Intaken, NewRequest, take_in
from orchestra.store.turns import RequestRef
from schemas.generation import Usage
from schemas.requests import MessageRequested
from schemas.status import Status

_offsets = itertools.count()


def connect(url: str, *, as_worker: bool = False, **settings: Any) -> Database:
    """A pool on this URL, as a gateway or as a worker has it."""
    wanted = DatabaseSettings.model_validate({"database_url": url, **settings})
    return Database.connect(wanted, "test", takes_first=as_worker)


def letter(**changes: Any) -> DeadLetter:
    """A record at a place of its own."""
    fields: dict[str, Any] = {
        "tenant": "default",
        "topic": "llm.requests",
        "partition": 0,
        "offset": next(_offsets),
        "timestamp_ms": 1_700_000_000_000,
        "key": b"key",
        "value": b"{}",
        "headers": [],
        "request_id": uuid4(),
    }
    return DeadLetter(**{**fields, **changes})


def request(conversation: UUID | None = None, *, text: str = "hello", **changes: Any) -> NewRequest:
    """A message to answer, in a conversation of its own unless one is named."""
    body = MessageRequested.model_validate({"messages": [{"role": "user", "content": text}]})
    id = changes.pop("id", None) or uuid4()
    tenant = changes.get("tenant", "default")
    fields: dict[str, Any] = {
        "tenant": tenant,
        "id": id,
        "conversation_id": conversation or uuid4(),
        "body": body.model_dump(mode="json", exclude_none=True),
        "body_hash": body.body_hash(),
        "model": "llama3",
        "priority": 5,
        "deadline": None,
        "max_tries": 5,
        "caller_waits": False,
        "user": None,
        "correlation_id": None,
        "traceparent": None,
        "record": letter(request_id=id, tenant=tenant),
    }
    return NewRequest(**{**fields, **changes})


async def take(database: Database, *requests: NewRequest, order: ClaimOrder | None = None, **more: Any) -> Intaken:
    """Take in a batch of requests and whatever else is named."""
    return await take_in(database, Batch(requests=list(requests), **more), order)


async def new_worker(database: Database) -> UUID:
    """The id of a worker with a lease."""
    worker_id = uuid4()
    await leases.register(database, worker_id)
    return worker_id


async def claim(database: Database, worker_id: UUID, limit: int = 100) -> list[Claimed]:
    """Claim as this worker."""
    return await claims.claim(database, ClaimOrder(worker_id, limit))


async def claim_one(database: Database, worker_id: UUID | None = None) -> Claimed:
    """Claim the one turn that may run."""
    (turn,) = await claim(database, worker_id or await new_worker(database))
    return turn


def to_store(
    role: str, content: str, parts: Sequence[Any] | None = None, tool_call_id: str | None = None,
    weight: int | None = None,
) -> Said:  # fmt: skip
    """A message to store, without what it does not have."""
    rest = {"parts": parts, "tool_call_id": tool_call_id, "weight": weight}
    return cast("Said", {"role": role, "content": content} | {k: v for k, v in rest.items() if v is not None})


def ending(turn: Claimed, status: Status = Status.COMPLETED, **more: Any) -> AttemptEnd:
    """The end of this attempt; completed with an answer unless said otherwise."""
    if status is Status.COMPLETED:
        answer = {
            "said": [to_store("user", "hello")],
            "reply": "answer",
            "usage": Usage(input_tokens=1, output_tokens=2),
        }
        more = {**answer, **more}
    return AttemptEnd(turn.tenant, turn.id, turn.conversation_id, turn.fence, status, **more)


async def finish(database: Database, turn: Claimed, status: Status = Status.COMPLETED, **more: Any) -> Finished:
    """End this attempt."""
    return await endings.finish(database, [ending(turn, status, **more)])


async def let_lease_run_out(database: Database, worker_id: UUID) -> None:
    """As if this worker had not been heard of for longer than its lease."""
    await database.run("UPDATE workers SET lease_until = now() - interval '1 second' WHERE id = :id", id=worker_id)


async def row(database: Database, ref: RequestRef) -> Row:
    """The row of a request."""
    (found,) = await database.run(
        "SELECT * FROM requests WHERE tenant = :tenant AND id = :id", tenant=ref[0], id=ref[1]
    )
    return found


async def statuses(database: Database, requests: Sequence[NewRequest]) -> list[str]:
    """The states of these requests, in their order."""
    return [(await row(database, each.ref)).status for each in requests]


async def messages(database: Database, conversation: UUID) -> list[tuple[str, str]]:
    """Role and content of all that is stored in a conversation, in order."""
    found = await database.run(
        "SELECT role, content FROM messages WHERE conversation_id = :id ORDER BY id", id=conversation
    )
    return [(each.role, each.content) for each in found]


async def count(database: Database, table: str) -> int:
    """How many rows a table has."""
    return int((await database.run(f"SELECT count(*) AS n FROM {table}"))[0].n)


async def let_counts_be_due(database: Database) -> None:
    """As if the time until the next counts of totals had passed."""
    await database.run("UPDATE totals_due SET due_at = now()")


async def count_now(
    database: Database, count: Callable[[Database, float], Awaitable[bool]] = totals.count_turns
) -> None:
    """Count totals, whether or not a count is due."""
    await let_counts_be_due(database)
    assert await count(database, 60)

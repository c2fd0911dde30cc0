"""② A batch of records → rows: new requests, cancels, deletes, dead letters."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from orchestra.store import audit
from orchestra.store.bodies import to_store
from orchestra.store.cancels import cancel, conversations_of, delete_conversations, owned_among
from orchestra.store.claims import Claimed, ClaimOrder, claim_in, read_claimed
from orchestra.store.database import Database, Transaction, as_json, lookup_rows, read_json
from orchestra.store.dead_letters import DeadLetter, keep, without_request
from orchestra.store.erasures import IS_CURRENT, LedgerOutdatedError, check_current
from orchestra.store.turns import KEYS, Announcement, ConversationRef, RequestRef, announcements, refs_json
from schemas.changes import Change
from schemas.errors import ErrorCode
from schemas.ids import conversation_id_beside, may_be_made_by_an_owner
from schemas.requests import OnBusy


@dataclass(frozen=True)
class NewRequest:
    """A request as read from its record.

    ``user``: the owner; the request may join only that owner's conversations. None: the request is the tenant's own.
    It may join any conversation if a gateway ``signed`` it, and otherwise only those without an owner.
    ``keyed``: the record's key names the conversation. ``deadline`` None: the default.
    ``record``: the dead letter to keep if another request already has this id.
    ``change``: to be audited with it.
    """

    tenant: str
    id: UUID
    conversation_id: UUID
    body: dict[str, Any]
    body_hash: str
    model: str
    priority: int
    deadline: datetime | None
    max_tries: int
    caller_waits: bool
    user: str | None
    correlation_id: str | None
    traceparent: str | None
    record: DeadLetter
    task_type: str | None = None
    retry_of: UUID | None = None
    not_before: datetime | None = None
    on_busy: OnBusy = "enqueue"
    signed: bool = True
    keyed: bool = False
    change: Change | None = None

    # Built once, because writing a batch reads them many times.
    ref: RequestRef = field(init=False, repr=False, compare=False)
    conversation: ConversationRef = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ref", RequestRef(self.tenant, self.id))
        object.__setattr__(self, "conversation", ConversationRef(self.tenant, self.conversation_id))


AnyRef = TypeVar("AnyRef", RequestRef, ConversationRef)


@dataclass(frozen=True)
class Unsigned(Generic[AnyRef]):
    """A cancel or a deletion that no gateway signed: it applies only to a request or conversation without an owner.

    ``record``: the dead letter to keep if there is an owner.
    """

    ref: AnyRef
    record: DeadLetter


@dataclass
class Batch:
    """What a batch of records asks for. ``changes``: to be audited with it.

    ``ledger``: the last erasure that was known when the batch was made; None: whatever erasures there are.
    ``cancels`` and ``deletes`` are signed: the gateway has checked that the caller may make them.
    """

    requests: list[NewRequest] = field(default_factory=list)
    cancels: list[RequestRef] = field(default_factory=list)
    deletes: list[ConversationRef] = field(default_factory=list)
    unsigned_cancels: list[Unsigned[RequestRef]] = field(default_factory=list)
    unsigned_deletes: list[Unsigned[ConversationRef]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    ledger: int | None = None


@dataclass
class Intaken:
    """The result of a batch. Publish ``dead_letters`` before committing the offsets. ``changes``: to be logged.

    ``refused``: the dead letters whose id has no request. A caller waiting for that id must get a reply.
    """

    inserted: int = 0
    duplicates: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)
    refused: list[DeadLetter] = field(default_factory=list)
    announcements: list[Announcement] = field(default_factory=list)
    claimed: list[Claimed] = field(default_factory=list)
    running_cancelled: list[RequestRef] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


_TAKE_IN = f"SELECT CASE WHEN {IS_CURRENT} THEN take_in_v1(:touched, :incoming, :worker_id, :slots) END AS done"

_TAKEN = f"""
SELECT c.tenant, c.id FROM conversations c JOIN {KEYS} AS k ON c.tenant = k.tenant AND c.id = k.id
WHERE c.deleted_at IS NOT NULL AND coalesce(c.owner, c.user_id::text) IS NOT NULL
"""

_UNSIGNED = "it refers to data of a user, and this record is not signed"

_OWNED = f"""
SELECT c.tenant, c.id FROM conversations c JOIN {KEYS} AS k ON c.tenant = k.tenant AND c.id = k.id
WHERE coalesce(c.owner, c.user_id::text) IS NOT NULL
"""

_BEFORE = f"""
SELECT r.tenant, r.id FROM requests r
JOIN {lookup_rows("rows", "tenant text, conversation_id uuid, seq bigint")} AS k
    ON r.tenant = k.tenant AND r.conversation_id = k.conversation_id AND r.seq < k.seq
WHERE r.status IN ('waiting', 'pending', 'in_progress')
"""


async def take_in(database: Database, batch: Batch, order: ClaimOrder | None = None) -> Intaken:
    """Write a batch. Writing the same batch again changes nothing.

    ``order``: for a worker that knows of no other runnable turn. It gets the new ones at once.
    Raises ``DataRefusedError`` (split the batch), ``DatabaseUnavailableError`` (try again), or ``LedgerOutdatedError``
    (leave out what belongs to erased owners). Then requests and claims may be written already.
    """
    done = Intaken()
    if _is_one_statement(batch, order):
        await _take_in_requests(database, batch.requests, (), order, batch.ledger, done)
        if not done.dead_letters:
            return done
        # These came with ids that are in use. If this is lost, the batch is read again and finds the same.
        batch, order = Batch(ledger=batch.ledger), None
    async with database.transaction() as tx:
        await _take_in_all(tx, batch, order, done)
    return done


def _is_one_statement(batch: Batch, order: ClaimOrder | None) -> bool:
    """Whether the batch has nothing but new requests that a single call of ``take_in_v1`` takes in."""
    others = (
        batch.cancels, batch.deletes, batch.unsigned_cancels, batch.unsigned_deletes, batch.dead_letters, batch.changes,
    )  # fmt: skip
    return (
        not any(others)
        and (order is None or order.plain)
        and not any(_may_meet_a_tombstone(each) or each.on_busy == "interrupt" for each in batch.requests)
    )


async def _take_in_all(tx: Transaction, batch: Batch, order: ClaimOrder | None, done: Intaken) -> None:
    requests = await _beside_tombstones(tx, batch.requests)
    cancels = [*batch.cancels, *(each.ref for each in batch.unsigned_cancels)]
    deletes = [*batch.deletes, *(each.ref for each in batch.unsigned_deletes)]
    touched = {*deletes, *await conversations_of(tx, cancels)}
    if requests or touched:
        interrupting = await _take_in_requests(tx, requests, touched, None, batch.ledger, done)
        await _interrupt(tx, interrupting, done)
    else:
        await check_current(tx, batch.ledger)
    owned = await _owned(tx, [each.ref for each in batch.unsigned_deletes])
    deletes = [*batch.deletes, *_without_owner(batch.unsigned_deletes, owned, done)]
    done.announcements += await delete_conversations(tx, deletes)
    owned_requests = await owned_among(tx, [each.ref for each in batch.unsigned_cancels])
    cancels = [*batch.cancels, *_without_owner(batch.unsigned_cancels, owned_requests, done)]
    cancelled = await cancel(tx, cancels)
    done.announcements += cancelled.announcements
    done.running_cancelled += cancelled.running
    done.dead_letters += batch.dead_letters
    await keep(tx, done.dead_letters)
    done.refused = await without_request(tx, done.dead_letters)
    done.changes = await audit.write(tx, batch.changes)
    if order:
        done.claimed = await claim_in(tx, order)


async def _beside_tombstones(tx: Transaction, requests: Sequence[NewRequest]) -> Sequence[NewRequest]:
    """Move unsigned requests off the tombstones of users' conversations: a tombstone counts only for its owner.

    A request whose key names one goes into the conversation beside it.
    """
    keyed = {request.conversation for request in requests if _may_meet_a_tombstone(request)}
    if not keyed:
        return requests
    taken = {(row.tenant, row.id) for row in await tx.run(_TAKEN, refs=refs_json(keyed))}
    return [
        replace(request, conversation_id=conversation_id_beside(request.conversation_id))
        if _may_meet_a_tombstone(request) and request.conversation in taken
        else request
        for request in requests
    ]


def _may_meet_a_tombstone(request: NewRequest) -> bool:
    return request.keyed and not request.signed


def _without_owner(unsigned: Sequence[Unsigned[AnyRef]], owned: Collection[AnyRef], done: Intaken) -> list[AnyRef]:
    """The refs without an owner; the others become dead letters."""
    for each in unsigned:
        if each.ref in owned:
            done.dead_letters.append(each.record.because(ErrorCode.UNSIGNED, _UNSIGNED))
    return [each.ref for each in unsigned if each.ref not in owned]


async def _take_in_requests(
    tx: Transaction | Database,
    requests: Sequence[NewRequest],
    touched: Collection[ConversationRef],
    order: ClaimOrder | None,
    ledger: int | None,
    done: Intaken,
) -> list[dict[str, Any]]:
    """Lock the conversations of these requests and the ``touched`` ones, write new requests, and claim by ``order``.

    Returns the places of new turns that interrupt those before them.
    """
    first, others = _first_of_each(requests)
    rows = await tx.run(
        _TAKE_IN,
        touched=as_json(_touched(first, touched)),
        incoming=as_json([_row(place, request) for place, request in enumerate(first)]),
        worker_id=order and order.worker_id,
        slots=order.limit if order else 0,
        ledger=ledger,
    )
    if rows[0].done is None:
        raise LedgerOutdatedError
    found = read_json(rows[0].done)
    for place, body_hash in found["known"]:
        _duplicate(first[place], body_hash, done)
    kept = {request.ref: request.body_hash for request in first}
    kept |= {first[place].ref: body_hash for place, body_hash in found["known"]}
    for request in others:
        _duplicate(request, kept[request.ref], done)
    done.inserted = found["inserted"]
    done.announcements += announcements(found["announcements"])
    done.claimed = read_claimed(found["claimed"])
    interrupting: list[dict[str, Any]] = found["interrupting"]
    return interrupting


def _touched(requests: Sequence[NewRequest], others: Collection[ConversationRef]) -> list[dict[str, Any]]:
    """The conversations to lock: how many turns each may get, and the owner it is created with."""
    turns: dict[ConversationRef, int] = defaultdict(int)
    owners: dict[ConversationRef, str | None] = {}
    for request in requests:
        turns[request.conversation] += 1
        # A request that may not create the conversation must not own it: an entitled caller can still use it.
        if request.user is None or may_be_made_by_an_owner(request.conversation_id, request.id):
            owners.setdefault(request.conversation, request.user)
    for conversation in others:
        turns[conversation] += 0
    return [{"tenant": ref[0], "id": ref[1], "owner": owners.get(ref), "turns": count} for ref, count in turns.items()]


async def _owned(tx: Transaction, conversations: Collection[ConversationRef]) -> set[ConversationRef]:
    """The conversations among these that have an owner."""
    rows = await tx.run(_OWNED, refs=refs_json(conversations)) if conversations else ()
    return {ConversationRef(row.tenant, row.id) for row in rows}


async def _interrupt(tx: Transaction, interrupting: Sequence[dict[str, Any]], done: Intaken) -> None:
    """Cancel the open turns before these in their conversations."""
    if not interrupting:
        return
    before = await tx.run(_BEFORE, rows=as_json(interrupting))
    cancelled = await cancel(tx, [RequestRef(row.tenant, row.id) for row in before])
    done.announcements += cancelled.announcements
    done.running_cancelled += cancelled.running


def _first_of_each(requests: Sequence[NewRequest]) -> tuple[list[NewRequest], list[NewRequest]]:
    """The first request of each id, and the others, which can be judged only once the first is written."""
    first: dict[RequestRef, NewRequest] = {}
    others = [request for request in requests if first.setdefault(request.ref, request) is not request]
    return list(first.values()), others


def _duplicate(request: NewRequest, known_hash: str, done: Intaken) -> None:
    if request.body_hash == known_hash:
        done.duplicates += 1
    else:
        detail = "another request already has this id, with a different body"
        done.dead_letters.append(request.record.because(ErrorCode.IDEMPOTENCY_KEY_REUSED, detail))


def _row(place: int, request: NewRequest) -> dict[str, Any]:
    record = request.record
    return {
        "place": place,
        "tenant": request.tenant,
        "id": request.id,
        "conversation_id": request.conversation_id,
        "priority": request.priority,
        "model": request.model,
        "task_type": request.task_type,
        "body": to_store(request.body),
        "body_hash": request.body_hash,
        "user_name": request.user,
        "signed": request.signed,
        "on_busy": request.on_busy,
        "correlation_id": request.correlation_id,
        "traceparent": request.traceparent,
        "caller_waits": request.caller_waits,
        "max_tries": request.max_tries,
        "retry_of": request.retry_of,
        "not_before": request.not_before and request.not_before.isoformat(),
        "deadline": request.deadline and request.deadline.isoformat(),
        "src_topic": record.topic,
        "src_partition": record.partition,
        "src_offset": record.offset,
        "src_timestamp": record.timestamp_ms,
    }

"""② A batch of records → rows, in one transaction: new requests, cancels, deletes, dead letters, progress."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from orchestra.store.cancels import EARLY_COUNTS, cancel, conversations_of, delete_conversations, owned_among
from orchestra.store.claims import Claimed, ClaimOrder, claim_in
from orchestra.store.database import Database, Transaction, as_json, lookup_rows
from orchestra.store.dead_letters import DeadLetter, keep, without_request
from orchestra.store.progress import IntakeProgress, note_progress
from orchestra.store.turns import KEYS, Announcement, ConversationRef, RequestRef, announce, promote, refs_json
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
    """What a batch of records asks for.

    ``cancels`` and ``deletes`` are signed: the gateway has checked that the caller may make them.
    """

    requests: list[NewRequest] = field(default_factory=list)
    cancels: list[RequestRef] = field(default_factory=list)
    deletes: list[ConversationRef] = field(default_factory=list)
    unsigned_cancels: list[Unsigned[RequestRef]] = field(default_factory=list)
    unsigned_deletes: list[Unsigned[ConversationRef]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    progress: list[IntakeProgress] = field(default_factory=list)


@dataclass
class Intaken:
    """The result of a batch. Publish ``dead_letters`` before committing the offsets.

    ``refused``: the dead letters whose id has no request. A caller waiting for that id must get a reply.
    """

    inserted: int = 0
    duplicates: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)
    refused: list[DeadLetter] = field(default_factory=list)
    announcements: list[Announcement] = field(default_factory=list)
    claimed: list[Claimed] = field(default_factory=list)
    running_cancelled: list[RequestRef] = field(default_factory=list)


@dataclass
class _Conversation:
    """A locked conversation: the seq of its next turn, its owner, and whether it has a head."""

    next_seq: int
    owner: str | None
    deleted: bool
    busy: bool = False


_LOCK_AND_NUMBER = """
INSERT INTO conversations AS c (tenant, id, owner, next_seq)
SELECT k.tenant, k.id, k.owner, 1 + k.turns
FROM json_to_recordset(CAST(:rows AS json)) AS k(tenant text, id uuid, owner text, turns bigint)
ORDER BY k.tenant, k.id
ON CONFLICT (tenant, id) DO UPDATE SET next_seq = c.next_seq + excluded.next_seq - 1
RETURNING tenant, id, next_seq, coalesce(owner, user_id::text) AS owner, deleted_at IS NOT NULL AS deleted
"""

_FACTS = f"""
SELECT k.tenant, k.id, r.body_hash, e.id IS NOT NULL AS cancelled, h.id IS NOT NULL AS busy
FROM {lookup_rows("rows", "tenant text, id uuid, conversation_id uuid, user_name text")} AS k
LEFT JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
LEFT JOIN early_cancels e ON e.tenant = k.tenant AND e.id = k.id AND {EARLY_COUNTS.format(user="k.user_name")}
LEFT JOIN LATERAL (
    SELECT h.id FROM requests h
    WHERE h.tenant = k.tenant AND h.conversation_id = k.conversation_id AND h.status IN ('pending', 'in_progress')
    LIMIT 1
) AS h ON true
"""

_TAKEN = f"""
SELECT c.tenant, c.id FROM conversations c JOIN {KEYS} AS k ON c.tenant = k.tenant AND c.id = k.id
WHERE c.deleted_at IS NOT NULL AND coalesce(c.owner, c.user_id::text) IS NOT NULL
"""

_UNSIGNED = "it refers to data of a user, and this record is not signed"

_INSERT = """
INSERT INTO requests (
    tenant, id, conversation_id, seq, status, priority, model, task_type, body, body_hash, user_name, correlation_id,
    traceparent, caller_waits, max_tries, retry_of, not_before, run_at, deadline_at, finished_at, cancel_requested_at,
    error_code, error_detail, src_topic, src_partition, src_offset, src_timestamp
)
SELECT n.tenant, n.id, n.conversation_id, n.seq,
    CASE WHEN n.ending IS NOT NULL THEN n.ending
         WHEN n.deadline <= now() THEN 'expired'
         ELSE n.status END,
    n.priority, n.model, n.task_type, n.body, n.body_hash, n.user_name, n.correlation_id, n.traceparent,
    n.caller_waits, n.max_tries, n.retry_of, n.not_before, greatest(n.not_before, now()),
    least(coalesce(n.deadline, greatest(n.not_before, now()) + interval '1 hour'), now() + interval '7 days'),
    CASE WHEN n.ending IS NOT NULL OR n.deadline <= now() THEN now() END,
    CASE WHEN n.ending = 'cancelled' THEN now() END,
    n.error_code, n.error_detail, n.src_topic, n.src_partition, n.src_offset, n.src_timestamp
FROM json_to_recordset(CAST(:rows AS json)) AS n(
    tenant text, id uuid, conversation_id uuid, seq bigint, status text, ending text, priority smallint, model text,
    task_type text, body jsonb, body_hash text, user_name text, correlation_id text, traceparent text,
    caller_waits boolean, max_tries integer, retry_of uuid, not_before timestamptz, deadline timestamptz,
    error_code text, error_detail text,
    src_topic text, src_partition integer, src_offset bigint, src_timestamp bigint
)
ORDER BY n.tenant, n.conversation_id, n.seq
ON CONFLICT DO NOTHING
RETURNING tenant, id, conversation_id, status
"""


_BEFORE = f"""
SELECT r.tenant, r.id FROM requests r
JOIN {lookup_rows("rows", "tenant text, conversation_id uuid, seq bigint")} AS k
    ON r.tenant = k.tenant AND r.conversation_id = k.conversation_id AND r.seq < k.seq
WHERE r.status IN ('waiting', 'pending', 'in_progress')
"""


async def take_in(database: Database, batch: Batch, order: ClaimOrder | None = None) -> Intaken:
    """Write a batch in one transaction. Writing the same batch again changes nothing.

    ``order``: claim turns in the same transaction, for an idle worker.
    Raises ``DataRefusedError`` (split the batch) or ``DatabaseUnavailableError`` (try again).
    """
    done = Intaken()
    async with database.transaction() as tx:
        requests = await _beside_tombstones(tx, batch.requests)
        conversations = await _lock_all(tx, batch, requests)
        first, others = _first_of_each(requests)
        kept = await _insert_requests(tx, first, conversations, done)
        for request in others:
            _duplicate(request, kept[request.ref], done)
        owned = {ref for ref, conversation in conversations.items() if conversation.owner is not None}
        deletes = _without_owner(batch.unsigned_deletes, owned, done)
        done.announcements += await delete_conversations(tx, [*batch.deletes, *deletes])
        owned_requests = await owned_among(tx, [each.ref for each in batch.unsigned_cancels])
        cancels = _without_owner(batch.unsigned_cancels, owned_requests, done)
        cancelled = await cancel(tx, [*batch.cancels, *cancels])
        done.announcements += cancelled.announcements
        done.running_cancelled += cancelled.running
        done.dead_letters += batch.dead_letters
        await keep(tx, done.dead_letters)
        done.refused = await without_request(tx, done.dead_letters)
        await note_progress(tx, batch.progress)
        if order:
            done.claimed = await claim_in(tx, order)
    return done


async def _beside_tombstones(tx: Transaction, requests: Sequence[NewRequest]) -> Sequence[NewRequest]:
    """Move unsigned requests off the tombstones of users' conversations: a tombstone counts only for its owner.

    A request whose key names one goes into the conversation beside it.
    """
    keyed = {request.conversation for request in requests if request.keyed and not request.signed}
    if not keyed:
        return requests
    taken = {(row.tenant, row.id) for row in await tx.run(_TAKEN, refs=refs_json(keyed))}
    return [
        replace(request, conversation_id=conversation_id_beside(request.conversation_id))
        if request.keyed and not request.signed and request.conversation in taken
        else request
        for request in requests
    ]


def _without_owner(unsigned: Sequence[Unsigned[AnyRef]], owned: Collection[AnyRef], done: Intaken) -> list[AnyRef]:
    """The refs without an owner; the others become dead letters."""
    for each in unsigned:
        if each.ref in owned:
            done.dead_letters.append(each.record.because(ErrorCode.UNSIGNED, _UNSIGNED))
    return [each.ref for each in unsigned if each.ref not in owned]


async def _lock_all(
    tx: Transaction, batch: Batch, requests: Sequence[NewRequest]
) -> dict[ConversationRef, _Conversation]:
    # In one statement and in a fixed order, so that two batches cannot deadlock.
    turns: dict[ConversationRef, int] = defaultdict(int)
    owners: dict[ConversationRef, str | None] = {}
    for request in requests:
        turns[request.conversation] += 1
        # A request that may not create the conversation must not own it: an entitled caller can still use it.
        if request.user is None or may_be_made_by_an_owner(request.conversation_id, request.id):
            owners.setdefault(request.conversation, request.user)
    deletes = [*batch.deletes, *(each.ref for each in batch.unsigned_deletes)]
    cancels = [*batch.cancels, *(each.ref for each in batch.unsigned_cancels)]
    for conversation in (*deletes, *await conversations_of(tx, cancels)):
        turns[conversation] += 0
    rows = [{"tenant": ref[0], "id": ref[1], "owner": owners.get(ref), "turns": count} for ref, count in turns.items()]
    locked = {}
    for row in await tx.run(_LOCK_AND_NUMBER, rows=as_json(rows)) if rows else ():
        ref = ConversationRef(row.tenant, row.id)
        locked[ref] = _Conversation(row.next_seq - turns[ref], row.owner, row.deleted)
    return locked


async def _insert_requests(
    tx: Transaction, requests: Sequence[NewRequest], conversations: dict[ConversationRef, _Conversation], done: Intaken
) -> dict[RequestRef, str]:
    """Write new requests. Returns the hash of the body stored under each id."""
    if not requests:
        return {}
    rows = await tx.run(_FACTS, rows=_keys(requests))
    facts = {(row.tenant, row.id): row for row in rows}
    kept: dict[RequestRef, str] = {}
    new: list[tuple[NewRequest, dict[str, Any]]] = []
    for request in requests:
        fact, conversation = facts[request.ref], conversations[request.conversation]
        conversation.busy = conversation.busy or fact.busy
        if fact.body_hash is not None:
            kept[request.ref] = fact.body_hash
            _duplicate(request, fact.body_hash, done)
        else:
            new.append((request, _row(request, conversation, cancelled=fact.cancelled)))
    return kept | await _insert(tx, new, done)


async def _insert(
    tx: Transaction, new: list[tuple[NewRequest, dict[str, Any]]], done: Intaken
) -> dict[RequestRef, str]:
    rows = await tx.run(_INSERT, rows=as_json([row for _, row in new])) if new else ()
    inserted = {(row.tenant, row.id) for row in rows}
    done.inserted = len(rows)
    kept = {request.ref: request.body_hash for request, _ in new}
    kept |= await _look_again(tx, [request for request, _ in new if request.ref not in inserted], done)
    ended = [row for row in rows if row.status in ("cancelled", "failed", "expired")]
    conversations = {ConversationRef(row.tenant, row.conversation_id) for row in ended}
    done.announcements += await announce(tx, conversations, [RequestRef(row.tenant, row.id) for row in ended])
    if ended or len(rows) < len(new):
        # The turn meant to be the head may have ended at once or be a duplicate: promote the next one.
        await promote(tx, [request.conversation for request, _ in new])
    open_now = inserted - {(row.tenant, row.id) for row in ended}
    await _interrupt(
        tx, [row for request, row in new if request.on_busy == "interrupt" and request.ref in open_now], done
    )
    return kept


async def _interrupt(tx: Transaction, rows: Sequence[dict[str, Any]], done: Intaken) -> None:
    """Cancel the open turns before these in their conversations."""
    if not rows:
        return
    places = [{name: row[name] for name in ("tenant", "conversation_id", "seq")} for row in rows]
    before = await tx.run(_BEFORE, rows=as_json(places))
    cancelled = await cancel(tx, [RequestRef(row.tenant, row.id) for row in before])
    done.announcements += cancelled.announcements
    done.running_cancelled += cancelled.running


async def _look_again(tx: Transaction, requests: Sequence[NewRequest], done: Intaken) -> dict[RequestRef, str]:
    """Count requests as duplicates whose ids another worker has inserted since the first look."""
    if not requests:
        return {}
    rows = await tx.run(_FACTS, rows=_keys(requests))
    found = {(row.tenant, row.id): row.body_hash for row in rows}
    kept = {request.ref: found[request.ref] or request.body_hash for request in requests}
    for request in requests:
        _duplicate(request, kept[request.ref], done)
    return kept


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


def _keys(requests: Sequence[NewRequest]) -> str:
    return as_json(
        [{"tenant": r.tenant, "id": r.id, "conversation_id": r.conversation_id, "user_name": r.user} for r in requests]
    )


def _refusal(request: NewRequest, conversation: _Conversation) -> tuple[ErrorCode, str] | None:
    """Why a request fails at once. None if it does not."""
    # Checked first: the answer must not reveal whether a conversation exists that belongs to another owner.
    if request.user is not None and request.user != conversation.owner:
        return ErrorCode.NOT_FOUND, "there is no such conversation"
    if not request.signed and conversation.owner is not None:
        return ErrorCode.NOT_FOUND, _UNSIGNED
    if conversation.deleted:
        return ErrorCode.CONVERSATION_DELETED, "the conversation is deleted"
    if conversation.busy and request.on_busy == "reject":
        return ErrorCode.CONVERSATION_BUSY, "the conversation has an open turn, and on_busy is reject"
    return None


def _row(request: NewRequest, conversation: _Conversation, *, cancelled: bool) -> dict[str, Any]:
    refusal = _refusal(request, conversation)
    code, detail = refusal or (None, None)
    ending = "failed" if refusal else "cancelled" if cancelled else None
    record = request.record
    row = {
        "tenant": request.tenant,
        "id": request.id,
        "conversation_id": request.conversation_id,
        "seq": conversation.next_seq,
        "status": "waiting" if conversation.busy else "pending",
        "ending": ending,
        "priority": request.priority,
        "model": request.model,
        "task_type": request.task_type,
        "body": None if conversation.deleted else request.body,
        "body_hash": request.body_hash,
        "user_name": request.user,
        "correlation_id": request.correlation_id,
        "traceparent": request.traceparent,
        "caller_waits": request.caller_waits,
        "max_tries": request.max_tries,
        "retry_of": request.retry_of,
        "not_before": request.not_before and request.not_before.isoformat(),
        "deadline": request.deadline and request.deadline.isoformat(),
        "error_code": code,
        "error_detail": detail,
        "src_topic": record.topic,
        "src_partition": record.partition,
        "src_offset": record.offset,
        "src_timestamp": record.timestamp_ms,
    }
    conversation.next_seq += 1
    conversation.busy = conversation.busy or ending is None
    return row

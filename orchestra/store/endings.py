"""⑦ The ends of attempts → rows, many in one round trip, each only if its fence still holds."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import orjson

from orchestra.store.claims import CALLER_SECONDS, Claimed, ClaimOrder, read_claimed, split
from orchestra.store.database import Database, as_json, lookup_rows, read_json
from orchestra.store.turns import (
    KEYS,
    Announcement,
    ConversationRef,
    RequestRef,
    announce,
    announcements,
    lock_conversations,
    promote,
    refs_json,
)
from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage
from schemas.status import Status

# More seconds than any caller waits.
_FOREVER = 1e9


class Said(TypedDict):
    """A message of a request, to store.

    ``content``: its text. ``parts``: its content, if that is not one text. ``weight``: what it counts in a prompt, in
    bytes; without it, the bytes of ``content``.
    """

    role: str
    content: str
    parts: NotRequired[Sequence[Any]]
    tool_call_id: NotRequired[str]
    weight: NotRequired[int]


class Items(NamedTuple):
    """An answer that is more than one text: its items, its weight, and the provider's data to return with it."""

    output: Sequence[Mapping[str, Any]]
    weight: int
    state: dict[str, Any] | None = None


@dataclass(frozen=True)
class AttemptEnd:
    """How one attempt ended. ``status`` pending: it goes back to the queue for ``delay`` seconds.

    ``said``: the messages of the request to store before the reply. ``items``: the answer, if it is more than the text
    ``reply``. These and ``finish_reason`` are set only if completed. ``error``: why the attempt failed, whether or not
    another follows. ``log``: a row for the logs table, as (type, message).
    """

    tenant: str
    id: UUID
    conversation_id: UUID
    fence: int
    status: Status
    said: Sequence[Said] = ()
    reply: str | None = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    items: Items | None = None
    error: tuple[ErrorCode, str] | None = None
    delay: float = 0.0
    give_try_back: bool = False
    log: tuple[str, str] | None = None

    # Built once, because writing a batch reads them many times.
    ref: RequestRef = field(init=False, repr=False, compare=False)
    conversation: ConversationRef = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ref", RequestRef(self.tenant, self.id))
        object.__setattr__(self, "conversation", ConversationRef(self.tenant, self.conversation_id))


@dataclass
class Finished:
    """The result of a batch of endings.

    ``announcements``: every unpublished reply of the same conversations. ``fenced``: requests whose ending changed
    nothing, because its fence no longer holds. ``promoted``: how many turns became runnable. ``claimed``: turns
    claimed with it.
    """

    announcements: list[Announcement] = field(default_factory=list)
    fenced: list[RequestRef] = field(default_factory=list)
    promoted: int = 0
    claimed: list[Claimed] = field(default_factory=list)


@dataclass(frozen=True)
class HeldModel:
    """A model that is not called for ``seconds``, and the error it gave."""

    model: str
    code: ErrorCode
    detail: str
    seconds: float


@dataclass(frozen=True)
class Told:
    """A request whose last error now says that its model is held back. ``fence`` counts its attempts so far."""

    tenant: str
    id: UUID
    fence: int
    body_hash: str
    traceparent: str | None
    code: ErrorCode
    detail: str


@dataclass
class HeldBack:
    """The result for requests whose model is held back: ``told`` keep waiting, ``refused`` have failed."""

    told: list[Told] = field(default_factory=list)
    refused: int = 0
    announcements: list[Announcement] = field(default_factory=list)


_FINISH = """
SELECT finish_v2(:touched, :endings, :worker_id, :by_age, :by_priority, :only_after_promotion) AS done
"""

_EXPIRE = """
SELECT tenant, id, conversation_id FROM requests
WHERE finished_at IS NULL AND worker_id IS NULL AND deadline_at <= now()
ORDER BY deadline_at LIMIT :limit
"""

_EXPIRE_THESE = f"""
UPDATE requests r SET status = 'expired', finished_at = now()
FROM {KEYS} AS k
WHERE r.tenant = k.tenant AND r.id = k.id AND r.status IN ('waiting', 'pending') AND r.deadline_at <= now()
RETURNING r.tenant, r.id
"""


# Only requests without a last error yet, and those whose caller will leave before the hold ends.
_HOPELESS = f"""(r.caller_waits AND r.created_at + interval '{CALLER_SECONDS} seconds' BETWEEN now()
    AND now() + make_interval(secs => CAST(CAST(:held AS jsonb) ->> r.model AS float8)))"""
_BEHIND_HELD = f"""
SELECT r.tenant, r.id, r.conversation_id, r.model, {_HOPELESS} AS hopeless
FROM requests r
WHERE r.status = 'pending' AND r.run_at <= now() AND r.deadline_at > now() AND CAST(:held AS jsonb) ? r.model
    AND (r.error_code IS NULL OR {_HOPELESS})
ORDER BY r.run_at LIMIT :limit
"""

_WHY = lookup_rows("rows", "tenant text, id uuid, code text, detail text")

_TELL = f"""
UPDATE requests r SET error_code = k.code, error_detail = k.detail
FROM (
    SELECT w.tenant, w.id, k.code, k.detail FROM {_WHY} AS k
    JOIN requests w ON w.tenant = k.tenant AND w.id = k.id
    WHERE w.status = 'pending' AND w.error_code IS NULL
    FOR UPDATE OF w SKIP LOCKED -- Another worker may be writing the same, or claiming one.
) AS k
WHERE r.tenant = k.tenant AND r.id = k.id
RETURNING r.tenant, r.id, r.fence, r.body_hash, r.traceparent, r.error_code AS code, r.error_detail AS detail
"""

_REFUSE = f"""
UPDATE requests r SET status = 'failed', finished_at = now(), error_code = k.code, error_detail = k.detail
FROM {_WHY} AS k
WHERE r.tenant = k.tenant AND r.id = k.id AND r.status = 'pending'
RETURNING r.tenant, r.id
"""


async def finish(database: Database, endings: Sequence[AttemptEnd], order: ClaimOrder | None = None) -> Finished:
    """Write a batch of endings. An ending whose fence no longer holds changes nothing.

    ``order``: a plain one, to claim turns for the slots that become free.
    Raises ``DataRefusedError`` (split the batch) or ``DatabaseUnavailableError`` (it may or may not be committed, and
    repeating it is safe).
    """
    rows = await database.run(
        _FINISH,
        touched=refs_json({ending.conversation for ending in endings}),
        endings=as_json([_row(place, ending) for place, ending in enumerate(endings)]),
        worker_id=order and order.worker_id,
        **split(order.limit if order else 0),
        only_after_promotion=order is None or order.only_after_promotion,
    )
    done = read_json(rows[0].done)
    written = set(done["written"])
    fenced = [ending.ref for place, ending in enumerate(endings) if place not in written]
    return Finished(announcements(done["announcements"]), fenced, done["promoted"], read_claimed(done["claimed"]))


async def expire(database: Database, limit: int) -> list[Announcement]:
    """Expire up to ``limit`` requests whose deadline has passed and that no worker runs."""
    due = await database.run(_EXPIRE, limit=limit)
    if not due:
        return []
    conversations = [ConversationRef(row.tenant, row.conversation_id) for row in due]
    async with database.transaction() as tx:
        await lock_conversations(tx, conversations)
        rows = await tx.run(_EXPIRE_THESE, refs=refs_json([RequestRef(row.tenant, row.id) for row in due]))
        replies = await announce(tx, conversations, [RequestRef(row.tenant, row.id) for row in rows])
        await promote(tx, conversations)
    return replies


async def hold_back(database: Database, held: Sequence[HeldModel], hopeless: Collection[str], limit: int) -> HeldBack:
    """Write into up to ``limit`` requests of models that are held back why they wait. No attempt is made or counted.

    A request whose caller holds a connection open and would leave before the hold ends fails.
    ``hopeless``: models for which such requests fail however short the hold is.
    """
    waits = {each.model: _FOREVER if each.model in hopeless else each.seconds for each in held}
    found = await database.run(_BEHIND_HELD, held=orjson.dumps(waits).decode(), limit=limit)
    if not found:
        return HeldBack()
    by_model = {each.model: each for each in held}
    tell = [_why(row, by_model[row.model]) for row in found if not row.hopeless]
    refuse = [_why(row, by_model[row.model]) for row in found if row.hopeless]
    told = [Told(**row) for row in await database.run(_TELL, rows=as_json(tell))] if tell else []
    if not refuse:
        return HeldBack(told)
    conversations = [ConversationRef(row.tenant, row.conversation_id) for row in found if row.hopeless]
    async with database.transaction() as tx:
        await lock_conversations(tx, conversations)
        rows = await tx.run(_REFUSE, rows=as_json(refuse))
        replies = await announce(tx, conversations, [RequestRef(row.tenant, row.id) for row in rows])
        await promote(tx, conversations)
    return HeldBack(told, len(rows), replies)


def _why(row: Any, held: HeldModel) -> dict[str, Any]:
    detail = f"{held.detail} (the model is held back for {held.seconds:.0f} s)"
    return {"tenant": row.tenant, "id": row.id, "code": held.code, "detail": detail}


def _row(place: int, ending: AttemptEnd) -> dict[str, Any]:
    error_code, error_detail = ending.error or (None, None)
    log_type, log_message = ending.log or (None, None)
    more = ending.items._asdict() if ending.items else {}
    return {
        "place": place,
        "tenant": ending.tenant,
        "id": ending.id,
        "conversation_id": ending.conversation_id,
        "fence": ending.fence,
        "status": ending.status,
        "delay": ending.delay,
        "tries_back": int(ending.give_try_back),
        "usage": ending.usage and ending.usage.model_dump(),
        "error_code": error_code,
        "error_detail": error_detail,
        "said": ending.said,
        "reply": ending.reply,
        "finish_reason": ending.finish_reason,
        "log_type": log_type,
        "log_message": log_message,
        **more,
    }

"""Everything that a check looks at, as plain data: the ledger, the tables, the topics, the oracle's log."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from faults.ledger import Entry

Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Request:
    """A row of ``requests``; ``messages`` are those of its body, as (role, content), behind its agent's instructions.

    Times: seconds since 1970.
    """

    tenant: str
    id: UUID
    conversation_id: UUID
    seq: int
    status: str
    body_hash: str
    place: Place
    messages: tuple[tuple[str, str], ...] = ()
    fence: int = 1
    tries: int = 1
    losses: int = 0
    error_code: str | None = None
    created_at: float = 0.0
    finished_at: float | None = None
    cancel_requested: bool = False
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A row of ``messages``."""

    id: int
    tenant: str
    conversation_id: UUID
    request_id: UUID | None
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row of ``outbox``."""

    id: int
    tenant: str
    request_id: UUID
    conversation_id: UUID
    event_id: UUID
    value: str
    published: bool = True


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row of ``dead_letters``, or what a record on ``llm.dead-letters`` says of where it came from."""

    place: Place
    reason: str
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record on an ingress topic, as far as it can be read.

    ``kind``: ``message``, ``cancel``, ``delete`` or ``unreadable``. ``subject``: the request that it asks for or
    cancels, or the conversation that it deletes. ``body_hash`` is of messages only. ``at``: seconds since 1970.
    """

    place: Place
    kind: str
    subject: UUID | None = None
    body_hash: str | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """A record on ``llm.replies``. ``refused``: where the record lay that it says was never taken in."""

    place: Place
    request_id: UUID
    conversation_id: UUID
    event_id: str
    value: str
    refused: Place | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A record on ``llm.events``. ``kind``: the last word of its type. ``at``: code points before ``text``.

    ``event_id``: a repeat, as after a producer's failure, has the same one.
    """

    place: Place
    request_id: UUID
    kind: str
    attempt: int
    text: str = ""
    at: int = 0
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the oracle saw it. Times: seconds since 1970, of one clock.

    ``ended``: ``whole``, ``error``, ``cut``, ``hang`` or ``client_left``; ``fault``: which one the oracle chose.
    ``hash``: of all that it was sent; ``seen``: the keys of all questions in it, its own last.
    """

    start: float
    end: float
    ended: str
    conversation: UUID
    ordinal: int
    key: str
    hash: str
    note: str = ""
    fault: str = ""
    seen: tuple[str, ...] = ()


@dataclass
class Evidence:
    """What is left when a run has settled.

    ``log_ends``/``log_starts``/``committed``: offsets of the ingress topics by (topic, partition).
    ``stale_workers``: leases that ran out and still stand; ``idle_in_transaction``: sessions of ours that hang.
    ``worker_faults``: how many workers were killed or paused, or cut off from Postgres (None: not known).
    ``excused_calls``: calls that were broken off by injected faults without a worker's death (a killed LLM service, a
    drain that was cut short). ``counters``: dangers counted elsewhere, by the names of ``checker.SOMETIMES``.
    """

    entries: list[Entry] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    early_cancels: set[UUID] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)
    replies: list[ReplyRecord] = field(default_factory=list)
    published_dead_letters: list[DeadLetter] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    log_starts: dict[tuple[str, int], int] = field(default_factory=dict)
    log_ends: dict[tuple[str, int], int] = field(default_factory=dict)
    committed: dict[tuple[str, int], int] = field(default_factory=dict)
    stale_workers: int = 0
    idle_in_transaction: int = 0
    worker_faults: int | None = None
    excused_calls: int = 0
    counters: dict[str, float] = field(default_factory=dict)


def call_of(fields: dict[str, Any]) -> Call:
    """The call in a line of the oracle's log."""
    return Call(**{**fields, "conversation": UUID(fields["conversation"]), "seen": tuple(fields["seen"])})

"""All data that a check uses: the ledger, the tables, the topics, the oracle's log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from faults.ledger import Entry
from faults.question import Said, digests, telling

Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Request:
    """A row of ``requests``. ``messages``: those of its body behind its agent's instructions.

    Times: seconds since 1970.
    """

    tenant: str
    id: UUID
    conversation_id: UUID
    seq: int
    status: str
    body_hash: str
    place: Place
    messages: tuple[Said, ...] = ()
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
    tool_call_id: str | None = None
    output: Sequence[Mapping[str, Any]] | None = None
    parts: Sequence[Mapping[str, Any]] | None = None

    @property
    def said(self) -> Said:
        """It, as it is hashed."""
        calls = [[i["call_id"], i["name"], i["arguments"]] for i in self.output or () if i["type"] == "function_call"]
        more = calls or self.tool_call_id or digests(self.content, self.parts or ())
        return (self.role, self.content, *([more] if more else ()))

    @property
    def telling(self) -> str:
        """All that it says."""
        return telling(self.content, self.output)


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
    """A row of ``dead_letters``, or the origin named by a record on ``llm.dead-letters``."""

    place: Place
    reason: str
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record on an ingress topic, as far as it can be parsed.

    ``kind``: ``message``, ``cancel``, ``delete`` or ``unreadable``. ``subject``: the request to answer or cancel, or
    the conversation to delete. ``body_hash``: for messages only. ``at``: seconds since 1970.
    """

    place: Place
    kind: str
    subject: UUID | None = None
    body_hash: str | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """A record on ``llm.replies``. ``refused``: place of the record that it says was refused."""

    place: Place
    request_id: UUID
    conversation_id: UUID
    event_id: str
    value: str
    refused: Place | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A record on ``llm.events``. ``kind``: the last word of its type. ``at``: code points before ``text``.

    A piece of the arguments of a call counts as a delta.

    ``event_id``: equal in a repeat, for example after a failure of the producer.
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
    """One call as the oracle saw it. Times: seconds since 1970, from one clock.

    ``ended``: ``whole``, ``error``, ``cut``, ``hang`` or ``client_left``. ``fault``: the one that the oracle chose.
    ``hash``: of all messages sent. ``seen``: keys of all questions in them, its own last.
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
    """What a run has left behind once it has settled.

    ``log_ends``/``log_starts``/``committed``: offsets of the ingress topics by (topic, partition).
    ``stale_workers``: expired leases that still exist. ``idle_in_transaction``: sessions of ours that hang.
    ``worker_faults``: how many workers were killed, paused or cut off from Postgres (None: unknown).
    ``broken_off``: the times, each from and to, at which faults broke off the open calls without a worker's death (a
    killed LLM service, an interrupted drain). ``counters``: dangers counted elsewhere, by the names of
    ``checker.SOMETIMES``.
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
    broken_off: list[tuple[float, float]] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)


def call_of(fields: dict[str, Any]) -> Call:
    """The call in one line of the oracle's log."""
    return Call(**{**fields, "conversation": UUID(fields["conversation"]), "seen": tuple(fields["seen"])})

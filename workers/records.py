"""Reads one record as a request, a cancel or a deletion, or as a dead letter with a reason. Never raises."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

from orchestra.agents.catalogue import Agents
from orchestra.incoming import Incoming, Judge, id_in
from orchestra.kafka.packed_records import Unread
from orchestra.store.dead_letters import DeadLetter
from orchestra.store.intake import NewRequest
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.changes import Change
from schemas.dead_letters import RawHeaders
from schemas.envelope import Envelope, is_signed, readable_headers
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import conversation_id_of, record_id
from schemas.replies import RecordSource, Reply, RequestError
from schemas.requests import (
    CANCEL_REQUESTED,
    CONVERSATION_DELETE_REQUESTED,
    DEFAULT_PRIORITY,
    CancelRequested,
    ConversationDeleteRequested,
    MessageRequested,
)
from schemas.status import Status

_EPOCH = datetime.fromtimestamp(0, tz=UTC)
_YEAR_9999_MS = 253_370_764_800_000
MAX_TRIES = 5
MAX_TRIES_WHILE_CALLER_WAITS = 3


class Record(Protocol):
    """A record as aiokafka returns it. ``timestamp`` is in milliseconds; ``value`` may be ``Unread``."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


@dataclass(frozen=True)
class Cancel:
    """A record that cancels a request.

    ``record``: its dead letter, used if the cancel fails or is ignored because it is unsigned. ``change``: to be
    audited with it.
    """

    request: RequestRef
    record: DeadLetter = field(compare=False)
    signed: bool = True
    change: Change | None = None


@dataclass(frozen=True)
class Delete:
    """A record that deletes a conversation. ``record``, ``signed`` and ``change``: as in ``Cancel``."""

    conversation: ConversationRef
    record: DeadLetter = field(compare=False)
    signed: bool = True
    change: Change | None = None


Verdict = NewRequest | Cancel | Delete | DeadLetter


class RecordReader:
    """Reads records. ``tenants`` maps each topic to the tenant that owns its records.

    ``priorities``: the highest priority of unsigned records, by topic.
    """

    def __init__(
        self,
        judge: Judge,
        agents: Agents,
        tenants: dict[str, str],
        default_model: str,
        *,
        require_signed: bool,
        priorities: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._judge = judge
        self._agents = agents
        self._tenants = tenants
        self._default_model = default_model
        self._require_signed = require_signed
        self._priorities = priorities

    def read(self, record: Record) -> Verdict:
        """Read a record. Returns its command, or a dead letter with the reason."""
        headers, owner = _raw(record.headers), self._tenants[record.topic]
        try:
            self._must_be_signed(headers)
            if isinstance(record.value, Unread):
                raise OrchestraError(record.value.code)
            incoming = self._judge.judge(owner, record.key, record.value, headers)
            return self._verdict(incoming, _letter(record, headers, incoming.tenant, incoming.id))
        except OrchestraError as error:
            # For an unread batch only its own detail names the records.
            detail = record.value.detail if isinstance(record.value, Unread) else error.detail
            return self._refused(record, headers, owner).because(error.code, detail)
        except Exception as error:  # noqa: BLE001  one record must never block the records behind it
            letter = _letter(record, headers, owner, None)
            with suppress(Exception):  # Reading the record's id may be the step that fails.
                letter = self._refused(record, headers, owner)
            return letter.because(ErrorCode.INTERNAL, f"reading the record failed: {type(error).__name__}")

    def _refused(self, record: Record, headers: RawHeaders, owner: str) -> DeadLetter:
        """The whole record as a dead letter, under the id and tenant that it names, whatever the reason for refusal.

        An untrusted record can name only ids of the topic's ``owner``, and no id that a gateway gave out.
        """
        value = None if isinstance(record.value, Unread) else record.value
        named = self._judge.named(owner, record.key, value, headers)
        return replace(_letter(record, headers, named.tenant, named.id), vouched=named.vouched)

    def _verdict(self, incoming: Incoming, letter: DeadLetter) -> Verdict:
        signed = incoming.envelope.signature is not None
        match incoming.body:
            case MessageRequested() as body:
                return self._request(body, incoming, letter)
            case CancelRequested(request_id=id):
                return Cancel(RequestRef(letter.tenant, id), letter, signed, incoming.change)
            case ConversationDeleteRequested(conversation_id=id):
                return Delete(ConversationRef(letter.tenant, id), letter, signed, incoming.change)

    def _request(self, body: MessageRequested, incoming: Incoming, letter: DeadLetter) -> NewRequest:
        envelope = incoming.envelope
        agent = self._agents.find(body.agent_name)
        return NewRequest(
            tenant=letter.tenant,
            id=letter.request_id,
            conversation_id=conversation_id_of(body.conversation_id, letter.tenant, letter.key, letter.request_id),
            body=body.model_dump(mode="json", exclude_none=True, exclude={"id"}),
            body_hash=body.body_hash(),
            model=body.model or (agent and agent.model) or self._default_model,
            priority=self._priority(body, envelope, letter),
            deadline=body.deadline or envelope.deadline,
            max_tries=MAX_TRIES_WHILE_CALLER_WAITS if envelope.caller_waits else MAX_TRIES,
            caller_waits=envelope.caller_waits,
            user=incoming.user,
            correlation_id=envelope.correlation_id,
            traceparent=envelope.traceparent,
            record=letter,
            task_type=body.task_type,
            retry_of=body.retry_of,
            not_before=body.not_before,
            on_busy=body.on_busy or "enqueue",
            signed=envelope.signature is not None,
            keyed=body.conversation_id is None and bool(letter.key),
            change=incoming.change,
        )

    def _priority(self, body: MessageRequested, envelope: Envelope, letter: DeadLetter) -> int:
        wanted = DEFAULT_PRIORITY if body.priority is None else body.priority
        # A gateway has already checked the priority against its caller's limit.
        return wanted if envelope.signature else min(wanted, self._priorities.get(letter.topic, wanted))

    def _must_be_signed(self, headers: RawHeaders) -> None:
        # Checked before anything else, because an operator who replays dead letters relies on this reason.
        if self._require_signed and not is_signed(headers):
            raise OrchestraError(ErrorCode.UNSIGNED)


def refusal(letter: DeadLetter) -> Reply | None:
    """The ``failed`` reply to a refused record, with the reason. It is the same each time.

    None if no client could match the reply, because the record named neither an id nor a correlation id. Also None for
    a cancel or a deletion, which have no replies.
    """
    said = readable_headers(letter.headers)
    named = letter.request_id != record_id(letter.topic, letter.partition, letter.offset, letter.timestamp_ms)
    if said.type in (CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED) or not (named or said.correlation_id):
        return None
    return Reply(
        request_id=letter.request_id,
        conversation_id=conversation_id_of(
            id_in(letter.value, "conversation_id"), letter.tenant, letter.key, letter.request_id
        ),
        status=Status.FAILED,
        reply=None,
        error=RequestError(code=letter.reason, detail=letter.detail),
        usage=None,
        attempts=0,
        model=None,
        source=RecordSource(topic=letter.topic, partition=letter.partition, offset=letter.offset),
        finished_at=moment(letter.timestamp_ms),
    )


def moment(milliseconds: int) -> datetime:
    """The time at which a record was written; the epoch if the timestamp is out of range.

    On a topic that keeps its producers' timestamps it may be any number. As a progress mark the epoch has no effect.
    """
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC) if 0 <= milliseconds < _YEAR_9999_MS else _EPOCH


def _letter(record: Record, headers: RawHeaders, tenant: str, id: UUID | None) -> DeadLetter:
    at = record.topic, record.partition, record.offset, record.timestamp
    letter = DeadLetter(tenant, *at, record.key, record.value, headers, id or record_id(*at))
    return replace(letter, value=None, value_bytes=record.value.length) if isinstance(record.value, Unread) else letter


def _raw(headers: Any) -> RawHeaders:
    return [(name, value if value is None else bytes(value)) for name, value in headers]

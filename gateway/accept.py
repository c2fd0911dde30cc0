"""① A call → a signed record on ``llm.requests``; accepted once Kafka has acknowledged it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

from pydantic import BaseModel

from gateway.http.body_room import release_body
from gateway.large_bodies import LargeBodies
from gateway.metrics import Metrics
from gateway.owner_turns import OwnerTurns
from gateway.people.principal import Principal
from gateway.request_log import Headers, RequestLog
from gateway.submission import Submission
from orchestra.signing import ChangeSigner, HintSigner, Signer
from orchestra.store import cancels
from orchestra.store.claims import Owner
from orchestra.store.database import Database
from schemas import envelope
from schemas.changes import Change
from schemas.dead_letters import RawHeaders
from schemas.envelope import HINT_HEADERS, Hints
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import (
    CANCEL_REQUESTED,
    CONVERSATION_DELETE_REQUESTED,
    DOORS,
    MESSAGE_REQUESTED,
    RECORD_TYPES,
    CancelRequested,
    ConversationDeleteRequested,
)
from schemas.topics import MAX_RECORD_BYTES

SOURCE = "/gateway"
# A replay gets a new identity and new signatures, and no client holds a connection open for it.
_NOT_REPLAYED = frozenset(
    {
        envelope.ID, envelope.TENANT, envelope.USER, envelope.SIGNATURE, envelope.HINTS, envelope.CALLER_WAITS,
        envelope.CHANGE,
    }
)  # fmt: skip

# From here on the memory of a body is counted.
_LARGE_BYTES = 1024 * 1024
_NO_HINTS = Hints()


@dataclass(frozen=True)
class Replay:
    """A dead letter to produce again, for its tenant and owner, under this request id."""

    tenant: str
    user: str
    id: UUID
    type: str
    key: bytes | None
    value: bytes
    headers: RawHeaders


class Acceptance:
    """Writes the three kinds of records, a few at a time for each owner.

    ``change``: what a person or key changes by the record; intake audits it. None: nothing that is audited.
    Each method raises ``TOO_MANY_CALLS`` and what ``RequestLog.write`` raises.
    """

    def __init__(
        self,
        records: RequestLog,
        database: Database,
        secrets: list[bytes],
        metrics: Metrics,
        turns: OwnerTurns,
        large: LargeBodies | None = None,
    ) -> None:
        """``large`` None: a body that exceeds a record is refused."""
        self._records = records
        self._database = database
        self._signer = Signer(secrets)
        self._hints = HintSigner(secrets)
        self._changes = ChangeSigner(secrets)
        self._metrics = metrics
        self._accepted = {kind: metrics.accepted.labels(kind) for kind in RECORD_TYPES}
        self._accepted_requests = {door: metrics.accepted_requests.labels(door) for door in DOORS}
        self._turns = turns
        self._large = large

    async def message(self, submission: Submission) -> None:
        """Accept a message. If its body exceeds a record, this can also raise what ``LargeBodies.write`` raises.

        A large body has no messages any more afterwards.
        """
        deadline = submission.body.deadline.isoformat() if submission.body.deadline else ""
        hints = Hints(
            traceparent=submission.traceparent, deadline=deadline, caller_waits="1" if submission.caller_waits else ""
        )
        write = partial(
            self._write, submission.caller, MESSAGE_REQUESTED, submission.id, submission.conversation_id, hints=hints,
            change=submission.change,
        )  # fmt: skip
        value = _value(submission.body)
        if len(value) <= _LARGE_BYTES:
            await write(value)
            self._accepted_requests[submission.door].inc()
            return
        if len(value) <= MAX_RECORD_BYTES:
            await write(value)
        elif self._large:
            del value  # It is as long as the body.
            await self._large.write(submission, write)
        else:
            raise OrchestraError(ErrorCode.TOO_LARGE)
        self._accepted_requests[submission.door].inc()
        # A caller may wait for long: the messages are not needed for that.
        submission.body.messages.clear()
        release_body()

    async def cancel(
        self, caller: Principal, request_id: UUID, conversation_id: UUID | None, change: Change | None = None
    ) -> None:
        """Accept a cancel. Its record goes to the partition of the request, so that it is read after it.

        ``conversation_id`` None: the request has no row yet, so its partition is unknown. The cancel may then be read
        much later than the request, so it is written to Postgres first; this can also raise
        ``DatabaseUnavailableError``.
        """
        if conversation_id is None:
            await cancels.keep_early(self._database, caller.request(request_id), caller.only)
        record = CancelRequested(request_id=request_id)
        await self._write(
            caller, CANCEL_REQUESTED, uuid4(), conversation_id or request_id, _value(record), change=change
        )

    async def delete_conversation(self, caller: Principal, conversation_id: UUID, change: Change | None = None) -> None:
        """Accept the deletion of a conversation."""
        record = ConversationDeleteRequested(conversation_id=conversation_id)
        kind = CONVERSATION_DELETE_REQUESTED
        await self._write(caller, kind, uuid4(), conversation_id, _value(record), change=change)

    async def replay(self, replay: Replay) -> None:
        """Accept a record that was refused before. Those of its ``headers`` that name an id or identity are dropped."""
        signature = self._signer.sign(
            id=str(replay.id), type=replay.type, tenant=replay.tenant, user=replay.user, key=replay.key or b"",
            value=replay.value,
        )  # fmt: skip
        kept = [(name, value) for name, value in replay.headers if name not in _NOT_REPLAYED]
        identity = {
            envelope.ID: str(replay.id),
            envelope.TENANT: replay.tenant,
            envelope.USER: replay.user,
            envelope.SIGNATURE: signature,
            envelope.HINTS: self._hints.sign(signature, envelope.read_headers(kept).hints),
        }
        owner, headers = (replay.tenant, replay.user), [*kept, *identity.items()]
        await self._send(owner, replay.type, replay.key, replay.value, headers)

    async def _write(
        self,
        caller: Principal,
        kind: str,
        id: UUID,
        key: UUID,
        value: bytes,
        hints: Hints = _NO_HINTS,
        change: Change | None = None,
    ) -> None:
        key_bytes = str(key).encode()
        signature = self._signer.sign(
            id=str(id), type=kind, tenant=caller.tenant, user=caller.user, key=key_bytes, value=value
        )
        identity = (
            (envelope.TENANT, caller.tenant),
            (envelope.USER, caller.user),
            (envelope.SIGNATURE, signature),
            (envelope.HINTS, self._hints.sign(signature, hints)),
            *[each for each in zip(HINT_HEADERS, hints, strict=True) if each[1]],
        )
        if change:
            made = change.model_copy(update={"at": datetime.now(UTC)})
            told = self._changes.sign(signature, made.model_dump_json(exclude_none=True))
            identity = (*identity, (envelope.CHANGE, told))
        headers = envelope.write_headers(id=id, type=kind, source=SOURCE, extra=identity)
        await self._send(caller.owner, kind, key_bytes, value, headers)

    async def _send(self, owner: Owner, kind: str, key: bytes | None, value: bytes, headers: Headers) -> None:
        async with self._turns.turn(owner):
            await self._records.write(key, value, headers)
        (self._accepted.get(kind) or self._metrics.accepted.labels(kind)).inc()


def _value(record: BaseModel) -> bytes:
    return record.model_dump_json(exclude_none=True).encode()

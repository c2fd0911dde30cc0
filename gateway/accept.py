"""① A call → a signed record on ``llm.requests``; accepted once Kafka has acknowledged it."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from pydantic import BaseModel

from gateway.metrics import Metrics
from gateway.owner_turns import OwnerTurns
from gateway.people.principal import Principal
from gateway.request_log import Headers, RequestLog
from gateway.submission import Submission
from orchestra.signing import HintSigner, Signer
from orchestra.store import cancels
from orchestra.store.claims import Owner
from orchestra.store.database import Database
from schemas import envelope
from schemas.dead_letters import RawHeaders
from schemas.envelope import HINT_HEADERS, Hints
from schemas.requests import (
    CANCEL_REQUESTED,
    CONVERSATION_DELETE_REQUESTED,
    MESSAGE_REQUESTED,
    CancelRequested,
    ConversationDeleteRequested,
)

SOURCE = "/gateway"
# A replay gets a new identity and new signatures, and no client holds a connection open for it.
_NOT_REPLAYED = frozenset(
    {envelope.ID, envelope.TENANT, envelope.USER, envelope.SIGNATURE, envelope.HINTS, envelope.CALLER_WAITS}
)


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

    Each method raises ``TOO_MANY_CALLS`` and what ``RequestLog.write`` raises.
    """

    def __init__(
        self, records: RequestLog, database: Database, secrets: list[bytes], metrics: Metrics, turns: OwnerTurns
    ) -> None:
        self._records = records
        self._database = database
        self._signer = Signer(secrets)
        self._hints = HintSigner(secrets)
        self._metrics = metrics
        self._turns = turns

    async def message(self, submission: Submission) -> None:
        """Accept a message."""
        deadline = submission.body.deadline.isoformat() if submission.body.deadline else ""
        hints = Hints(
            traceparent=submission.traceparent, deadline=deadline, caller_waits="1" if submission.caller_waits else ""
        )
        await self._write(
            submission.caller, MESSAGE_REQUESTED, submission.id, submission.conversation_id, submission.body, hints
        )

    async def cancel(self, caller: Principal, request_id: UUID, conversation_id: UUID | None) -> None:
        """Accept a cancel. Its record goes to the partition of the request, so that it is read after it.

        ``conversation_id`` None: the request has no row yet, so its partition is unknown. The cancel may then be read
        much later than the request, so it is written to Postgres first; this can also raise
        ``DatabaseUnavailableError``.
        """
        if conversation_id is None:
            await cancels.keep_early(self._database, caller.request(request_id), caller.only)
        record = CancelRequested(request_id=request_id)
        await self._write(caller, CANCEL_REQUESTED, uuid4(), conversation_id or request_id, record)

    async def delete_conversation(self, caller: Principal, conversation_id: UUID) -> None:
        """Accept the deletion of a conversation."""
        record = ConversationDeleteRequested(conversation_id=conversation_id)
        await self._write(caller, CONVERSATION_DELETE_REQUESTED, uuid4(), conversation_id, record)

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
        record: BaseModel,
        hints: Hints = _NO_HINTS,
    ) -> None:
        key_bytes, value = str(key).encode(), record.model_dump_json(exclude_none=True).encode()
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
        headers = envelope.write_headers(id=id, type=kind, source=SOURCE, extra=identity)
        await self._send(caller.owner, kind, key_bytes, value, headers)

    async def _send(self, owner: Owner, kind: str, key: bytes | None, value: bytes, headers: Headers) -> None:
        async with self._turns.turn(owner):
            await self._records.write(key, value, headers)
        self._metrics.accepted.labels(kind).inc()

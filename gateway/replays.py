"""A dead letter → once more onto ``llm.requests``, for whom it belongs to, and only if that can be told."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from gateway.accept import Acceptance, Replay
from gateway.http.cursors import read_letter_cursor, write_cursor
from gateway.people.principal import Principal
from orchestra.incoming import Judge
from orchestra.store import conversations, dead_letters, requests
from orchestra.store.database import Database
from orchestra.store.dead_letters import KeptLetter, RawRecord
from orchestra.store.turns import ConversationRef, RequestRef
from schemas import envelope
from schemas.api.dead_letters import EditDeadLetter, ReplayDeadLetters, ReplayedDeadLetters
from schemas.envelope import is_signed, read_headers
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import conversation_id_of
from schemas.requests import (
    MESSAGE_REQUESTED,
    CancelRequested,
    ConversationDeleteRequested,
    MessageRequested,
    RequestRecord,
)

MOST = 500
# A gateway holds so many whole letters at once, each of them as long as a record may be.
_AT_ONCE = 20
_IDENTITY = frozenset({envelope.TENANT, envelope.USER, envelope.SIGNATURE, envelope.HINTS})

log = structlog.get_logger()


class Replays:
    """Finds, edits and replays letters of a caller's tenant. Each method raises ``DatabaseUnavailableError`` too."""

    def __init__(self, database: Database, acceptance: Acceptance, judge: Judge) -> None:
        self._database = database
        self._acceptance = acceptance
        self._judge = judge

    async def find(self, caller: Principal, id: int) -> KeptLetter:
        """A letter. Raises ``NOT_FOUND``."""
        letter = await dead_letters.get(self._database, caller.tenant, id)
        if letter is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return letter

    async def edit(self, caller: Principal, id: int, wanted: EditDeadLetter) -> KeptLetter:
        """Change what a replay sends; the letter. Raises ``NOT_FOUND``, ``NOTHING_TO_CHANGE`` or ``TOO_LARGE``."""
        if wanted.empty:
            raise OrchestraError(ErrorCode.NOTHING_TO_CHANGE)
        letter = await self.find(caller, id)
        before = letter.to_send
        record = RawRecord(*wanted.over(before.key, before.value, before.headers))
        await dead_letters.edit(self._database, caller.tenant, id, record)
        self._note("dead_letter_edited", caller, letter)
        return await self.find(caller, id)

    async def obstacle(self, letter: KeptLetter) -> OrchestraError | None:
        """Why it cannot be replayed as it stands."""
        try:
            await self._prepare(letter)
        except _Refused as refused:
            return refused
        return None

    async def send(self, caller: Principal, id: int) -> KeptLetter:
        """Replay one; the letter. Raises ``NOT_FOUND``, ``NOT_REPLAYABLE`` and what ``RequestLog.write`` raises."""
        letter = await self.find(caller, id)
        try:
            replay = await self._prepare(letter)
            await self._send(caller, letter, replay)
        except _Refused as refused:
            raise OrchestraError(ErrorCode.NOT_REPLAYABLE, f"{refused.code}: {refused.detail}") from None
        await dead_letters.note_replayed(self._database, caller.tenant, {id: replay.id})
        return await self.find(caller, id)

    async def send_all(self, caller: Principal, wanted: ReplayDeadLetters) -> ReplayedDeadLetters:
        """Replay every letter that fits and never was, oldest first; 500 a call are looked at.

        What is refused again in the meantime is another letter, and none of these: the first call sets the end.
        Raises ``INVALID_REQUEST`` for a filter that names nothing, and what ``RequestLog.write`` raises; then a second
        call goes on with the rest.
        """
        if wanted.empty:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "name at least one field: which letters?")
        begun = read_letter_cursor(wanted.cursor, times=2)
        until, after = (begun[0][0], (begun[0][1], begun[1])) if begun else (datetime.now(UTC), None)
        seen = replayed = 0
        while seen < MOST:
            letters = await dead_letters.to_replay(self._database, caller.tenant, wanted, after, until, _AT_ONCE)
            seen, replayed = seen + len(letters), replayed + await self._send_each(caller, letters)
            if len(letters) < _AT_ONCE:
                return ReplayedDeadLetters(replayed=replayed, skipped=seen - replayed, next=None)
            after = letters[-1].place
        return ReplayedDeadLetters(replayed=replayed, skipped=seen - replayed, next=write_cursor(until, *after or ()))

    async def _send_each(self, caller: Principal, letters: list[KeptLetter]) -> int:
        sent = {}
        try:
            # One after the other: turns of a conversation stay in their order.
            for letter in letters:
                with suppress(_Refused):
                    replay = await self._prepare(letter)
                    await self._send(caller, letter, replay)
                    sent[letter.summary.id] = replay.id
        finally:
            await dead_letters.note_replayed(self._database, caller.tenant, sent)
        return len(sent)

    async def _send(self, caller: Principal, letter: KeptLetter, replay: Replay) -> None:
        try:
            await self._acceptance.replay(replay)
        except OrchestraError as error:
            if error.code is not ErrorCode.TOO_LARGE:
                raise
            # With its headers it is longer than Kafka takes: no reason to leave those behind it.
            raise _Refused(error.code, error.detail) from None
        self._note("dead_letter_replayed", caller, letter, request_id=str(replay.id))

    async def _prepare(self, letter: KeptLetter) -> Replay:
        """The record to send. Raises ``_Refused`` with the reason for which it would be a dead letter again."""
        try:
            replay, body = _read(letter, self._judge, _owner(letter, self._judge))
        except OrchestraError as error:
            raise _Refused(error.code, error.detail) from None
        if not is_signed(letter.came.headers) and await self._is_owned(replay, body):
            raise _Refused(ErrorCode.UNSIGNED, "it concerns what is a user's, and nobody vouches for this record")
        if isinstance(body, MessageRequested):
            ref = RequestRef(letter.tenant, replay.id)
            known = (await requests.body_hashes(self._database, [ref])).get(ref)
            if known not in (None, body.body_hash()):
                detail = "a request with this id and another body was there first"
                raise _Refused(ErrorCode.IDEMPOTENCY_KEY_REUSED, detail)
        return replay

    async def _is_owned(self, replay: Replay, body: RequestRecord) -> bool:
        """True when it concerns what is a user's: a worker would not do it either, if nobody had signed it."""
        match body:
            case CancelRequested():
                return await requests.is_owned(self._database, RequestRef(replay.tenant, body.request_id))
            case ConversationDeleteRequested():
                named = body.conversation_id
            case MessageRequested():
                named = conversation_id_of(body.conversation_id, replay.tenant, replay.key, replay.id)
        return await conversations.is_owned(self._database, ConversationRef(replay.tenant, named))

    def _note(self, event: str, caller: Principal, letter: KeptLetter, **more: Any) -> None:
        where = letter.summary
        log.info(
            event, tenant=letter.tenant, topic=where.topic, partition=where.partition, offset=where.offset,
            reason=where.reason, caller=caller.shown, **more,
        )  # fmt: skip


class _Refused(OrchestraError):  # noqa: N818 - no mistake of anybody's
    """A letter that is not sent: ``code`` and ``detail`` say why it would be refused again."""


def _owner(letter: KeptLetter, judge: Judge) -> str:
    """Whose it is; empty: the tenant's own.

    A signature must be good, now, for exactly what came. Without one it is the tenant's whose topic it came by, unless
    that was the very reason to refuse it.
    """
    came = letter.came
    if not is_signed(came.headers):
        if letter.summary.reason in (ErrorCode.UNSIGNED, ErrorCode.BAD_SIGNATURE):
            raise OrchestraError(letter.summary.reason, "nobody vouches for this record")
        return ""
    try:
        tenant, user = judge.whose(letter.tenant, read_headers(came.headers), came.key, came.value)
    except OrchestraError:
        tenant, user = "", None
    if tenant != letter.tenant:
        raise OrchestraError(ErrorCode.BAD_SIGNATURE, "nobody vouches for this record: its signature does not verify")
    return user or ""


def _read(letter: KeptLetter, judge: Judge, user: str) -> tuple[Replay, RequestRecord]:
    """The record to send and what it asks for. Raises ``OrchestraError`` as a worker would find."""
    record = letter.to_send
    if record.value is None and letter.edited is None and letter.summary.value_bytes is not None:
        raise OrchestraError(ErrorCode.TOO_LARGE)  # It was not kept.
    headers = [(name, value) for name, value in record.headers if name not in _IDENTITY]
    vouched = is_signed(letter.came.headers)
    incoming = judge.judge(letter.tenant, record.key, record.value, headers, vouched=vouched)
    id = incoming.id or letter.summary.request_id
    if id is None:
        raise OrchestraError(ErrorCode.BAD_HEADER, "it has no request id: give it a ce_id")
    kind = incoming.envelope.type or MESSAGE_REQUESTED
    return Replay(letter.tenant, user, id, kind, record.key, record.value or b"", headers), incoming.body

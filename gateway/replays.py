"""Replays dead letters: produces them to ``llm.requests`` again, for their owner, if that owner can be verified."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from gateway.accept import Acceptance, Replay
from gateway.http.cursors import read_letter_cursor, write_cursor
from gateway.people.principal import Principal
from orchestra.incoming import Judge
from orchestra.store import conversations, dead_letters, requests
from orchestra.store.audit import Author
from orchestra.store.database import Database
from orchestra.store.dead_letters import KeptLetter, RawRecord
from orchestra.store.turns import ConversationRef, RequestRef
from schemas import envelope
from schemas.api.dead_letters import CheckedDeadLetter, EditDeadLetter, ReplayDeadLetters, ReplayedDeadLetters
from schemas.envelope import is_signed, read_headers
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import conversation_id_of
from schemas.replies import RequestError
from schemas.requests import (
    MESSAGE_REQUESTED,
    CancelRequested,
    ConversationDeleteRequested,
    MessageRequested,
    RequestRecord,
)

MOST = 500
# Letters that are read into memory at once; each may be as long as a record.
_AT_ONCE = 20
_IDENTITY = frozenset({envelope.TENANT, envelope.USER, envelope.SIGNATURE, envelope.HINTS, envelope.CHANGE})


class Replays:
    """Finds, edits and replays dead letters of the caller's tenant.

    Each method can also raise ``DatabaseUnavailableError``.
    """

    def __init__(self, database: Database, acceptance: Acceptance, judge: Judge) -> None:
        self._database = database
        self._acceptance = acceptance
        self._judge = judge

    async def find(self, caller: Principal, id: int) -> KeptLetter:
        """The dead letter with this id. Raises ``NOT_FOUND``."""
        letter = await dead_letters.get(self._database, caller.tenant, id)
        if letter is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return letter

    async def edit(self, caller: Principal, id: int, wanted: EditDeadLetter, by: Author | None = None) -> KeptLetter:
        """Change what a replay would send, and return the letter.

        Raises ``NOT_FOUND``, ``NOTHING_TO_CHANGE`` or ``TOO_LARGE``.
        """
        if wanted.empty:
            raise OrchestraError(ErrorCode.NOTHING_TO_CHANGE)
        letter = await self.find(caller, id)
        before = letter.to_send
        record = RawRecord(*wanted.over(before.key, before.value, before.headers))
        await dead_letters.edit(self._database, caller.tenant, id, record, by)
        return await self.find(caller, id)

    async def obstacle(self, letter: KeptLetter) -> OrchestraError | None:
        """Why the letter cannot be replayed as it is; None when it can."""
        try:
            await self._prepare(letter)
        except _Refused as refused:
            return refused
        return None

    async def check(self, caller: Principal, id: int, wanted: EditDeadLetter) -> CheckedDeadLetter:
        """What a replay would meet if the letter were edited like this. Nothing is stored. Raises ``NOT_FOUND``."""
        letter = await self.find(caller, id)
        before = letter.to_send
        record = RawRecord(*wanted.over(before.key, before.value, before.headers))
        try:
            replay = await self._prepare(replace(letter, edited=record))
        except _Refused as refused:
            obstacle = RequestError(code=refused.code, detail=refused.detail)
            return CheckedDeadLetter(obstacle=obstacle, request_id=None)
        return CheckedDeadLetter(obstacle=None, request_id=replay.id)

    async def send(self, caller: Principal, id: int, by: Author | None = None) -> KeptLetter:
        """Replay one letter, and return it.

        Raises ``NOT_FOUND``, ``NOT_REPLAYABLE`` and what ``RequestLog.write`` raises.
        """
        letter = await self.find(caller, id)
        try:
            replay = await self._prepare(letter)
            await self._send(replay)
        except _Refused as refused:
            raise OrchestraError(ErrorCode.NOT_REPLAYABLE, f"{refused.code}: {refused.detail}") from None
        await dead_letters.note_replayed(self._database, caller.tenant, {id: replay.id}, by)
        return await self.find(caller, id)

    async def send_all(
        self, caller: Principal, wanted: ReplayDeadLetters, by: Author | None = None
    ) -> ReplayedDeadLetters:
        """Replay every matching letter that was not replayed before, oldest first. One call reads at most 500.

        A dry run counts and sends nothing.

        The first call sets the end of the range: a record that is refused again becomes a new letter outside it. Raises
        ``INVALID_REQUEST`` for a filter that names nothing, and what ``RequestLog.write`` raises; another call then
        continues with the rest.
        """
        if wanted.empty:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "name at least one field to select dead letters by")
        begun = read_letter_cursor(wanted.cursor, times=2)
        until, after = (begun[0][0], (begun[0][1], begun[1])) if begun else (datetime.now(UTC), None)
        seen = replayed = 0
        while seen < MOST:
            letters = await dead_letters.to_replay(self._database, caller.tenant, wanted, after, until, _AT_ONCE)
            replayed += await self._send_each(caller, letters, by, dry_run=wanted.dry_run)
            seen += len(letters)
            if len(letters) < _AT_ONCE:
                return ReplayedDeadLetters(replayed=replayed, skipped=seen - replayed, next=None)
            after = letters[-1].place
        return ReplayedDeadLetters(replayed=replayed, skipped=seen - replayed, next=write_cursor(until, *after or ()))

    async def _send_each(
        self, caller: Principal, letters: list[KeptLetter], by: Author | None, *, dry_run: bool
    ) -> int:
        sent = {}
        try:
            # One after the other, so that the turns of a conversation stay in order.
            for letter in letters:
                with suppress(_Refused):
                    replay = await self._prepare(letter)
                    if not dry_run:
                        await self._send(replay)
                    sent[letter.summary.id] = replay.id
        finally:
            if not dry_run:
                await dead_letters.note_replayed(self._database, caller.tenant, sent, by)
        return len(sent)

    async def _send(self, replay: Replay) -> None:
        try:
            await self._acceptance.replay(replay)
        except OrchestraError as error:
            if error.code is not ErrorCode.TOO_LARGE:
                raise
            # With its new headers it exceeds Kafka's limit; that must not stop the letters behind it.
            raise _Refused(error.code, error.detail) from None

    async def _prepare(self, letter: KeptLetter) -> Replay:
        """The record to send. Raises ``_Refused`` with the reason why it would become a dead letter again."""
        try:
            replay, body = _read(letter, self._judge, _owner(letter, self._judge))
        except OrchestraError as error:
            raise _Refused(error.code, error.detail) from None
        if not is_signed(letter.came.headers) and await self._is_owned(replay, body):
            raise _Refused(ErrorCode.UNSIGNED, "it refers to data of a user, and this record is not signed")
        if isinstance(body, MessageRequested):
            ref = RequestRef(letter.tenant, replay.id)
            known = (await requests.body_hashes(self._database, [ref])).get(ref)
            if known not in (None, body.body_hash()):
                detail = "another request already has this id, with a different body"
                raise _Refused(ErrorCode.IDEMPOTENCY_KEY_REUSED, detail)
        return replay

    async def _is_owned(self, replay: Replay, body: RequestRecord) -> bool:
        """Whether it refers to data of a user: a worker, too, accepts such a record only if it is signed."""
        match body:
            case CancelRequested():
                return await requests.is_owned(self._database, RequestRef(replay.tenant, body.request_id))
            case ConversationDeleteRequested():
                named = body.conversation_id
            case MessageRequested():
                named = conversation_id_of(body.conversation_id, replay.tenant, replay.key, replay.id)
        return await conversations.is_owned(self._database, ConversationRef(replay.tenant, named))


class _Refused(OrchestraError):  # noqa: N818 - an outcome, not an error
    """A letter that is not sent; ``code`` and ``detail`` give the reason why it would be refused again."""


def _owner(letter: KeptLetter, judge: Judge) -> str:
    """The owner of the letter; empty for the tenant itself.

    A signature must verify, with the current secrets, for the record as it arrived. An unsigned record belongs to the
    tenant of its topic, unless it was refused for not being signed correctly.
    """
    came = letter.came
    if not is_signed(came.headers):
        if letter.summary.reason in (ErrorCode.UNSIGNED, ErrorCode.BAD_SIGNATURE):
            raise OrchestraError(letter.summary.reason, "this record has no valid signature")
        return ""
    try:
        tenant, user = judge.whose(letter.tenant, read_headers(came.headers), came.key, came.value)
    except OrchestraError:
        tenant, user = "", None
    if tenant != letter.tenant:
        raise OrchestraError(ErrorCode.BAD_SIGNATURE, "the signature of this record does not verify")
    return user or ""


def _read(letter: KeptLetter, judge: Judge, user: str) -> tuple[Replay, RequestRecord]:
    """The record to send and its parsed body. Raises the ``OrchestraError`` that a worker would refuse it with."""
    record = letter.to_send
    if letter.summary.reason is ErrorCode.OWNER_ERASED:
        # Neither whose record it was nor what it said is kept: whatever an edit says, it would not be its owner's.
        raise OrchestraError(ErrorCode.OWNER_ERASED)
    if record.value is None and letter.edited is None and letter.summary.value_bytes is not None:
        raise OrchestraError(ErrorCode.TOO_LARGE)  # Its value was too long to keep.
    headers = [(name, value) for name, value in record.headers if name not in _IDENTITY]
    vouched = is_signed(letter.came.headers)
    incoming = judge.judge(letter.tenant, record.key, record.value, headers, vouched=vouched)
    id = incoming.id or letter.summary.request_id
    if id is None:
        raise OrchestraError(ErrorCode.BAD_HEADER, "the record has no request id; add the header ce_id")
    kind = incoming.envelope.type or MESSAGE_REQUESTED
    return Replay(letter.tenant, user, id, kind, record.key, record.value or b"", headers), incoming.body

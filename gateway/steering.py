"""Acting on requests: retries, changes and cancels, of one request or of many.

Cancels and retries take the main path, as records of ``llm.requests``. A change is one statement in Postgres.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from gateway.accept import Acceptance
from gateway.bulk import Bulk
from gateway.following.events import Hub
from gateway.following.lookup import Lookup, without_texts
from gateway.http.cursors import read_place_cursor, write_cursor
from gateway.limits import Limits
from gateway.people.principal import Principal
from gateway.quotas import Parking
from gateway.retries import RETRYABLE, Original, Retries
from gateway.submission import Submission
from gateway.submit import Submissions, attach_request_id, check_times
from orchestra.store import requests, responses, steering
from orchestra.store.audit import Author
from orchestra.store.database import Database
from orchestra.store.steering import Kind, Place, Target
from schemas.api.requests import RequestResource
from schemas.api.steering import (
    MAX_AT_ONCE,
    CancelRequests,
    ChangeRequest,
    ChangeRequests,
    RequestsChanged,
    RequestsDone,
    RetryRequests,
    SkipCode,
    Skipped,
)
from schemas.changes import Change
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from schemas.status import Status

# Bodies that are read into memory at once; each may be as long as a record, and a large one longer.
_RETRIES_AT_ONCE = 20
_CANCELS_AT_ONCE = 100
_LOOKS_AT_ONCE = 8
# Conversations that one change locks.
_CHANGES_AT_ONCE = 100
# After this a call ends with a cursor: a client should get its outcome before it gives up.
_MAX_SECONDS = 30.0
_NOT_RETRYABLE = {
    SkipCode.NOT_ENDED: "it has not ended",
    SkipCode.COMPLETED: "it was answered",
    SkipCode.NOT_KEPT: "what it said is not kept; send it again",
}
_NOT_CHANGEABLE = {
    SkipCode.ENDED: "it has ended",
    SkipCode.IN_PROGRESS: "a worker runs it",
    SkipCode.CANCELLING: "it is being cancelled",
}
_TIMES = "not_before: must be before the deadline"
_ON_ITS_WAY = "no worker has read the request yet"

_Item = TypeVar("_Item")
Selection = CancelRequests | RetryRequests | ChangeRequests


class _Tally:
    """What a call did with each request that it looked at."""

    def __init__(self, caller: Principal) -> None:
        self.done = 0
        self._scope = "tenant" if caller.as_operator.only is None else "own"
        self._skipped: Counter[SkipCode] = Counter()

    def note(self, code: SkipCode | None, count: int = 1) -> None:
        """Count requests: done (None), or left alone."""
        if code is None:
            self.done += count
        elif count:
            self._skipped[code] += count

    def fields(self, next: str | None) -> dict[str, Any]:
        """The fields of the answer."""
        return {
            "scope": self._scope,
            "matched": self.done + self._skipped.total(),
            "more": next is not None,
            "done": self.done,
            "skipped": [Skipped(code=code, count=count) for code, count in sorted(self._skipped.items())],
            "next": next,
        }


class _Page:
    """The requests that a call acts on: ``targets`` in the order of their places, and ids without a row."""

    def __init__(self, targets: Sequence[Target], unread: Sequence[UUID], until: datetime, next: Place | None) -> None:
        self.targets = targets
        self.unread = unread
        self._until = until
        self._next = next

    def next(self, stopped: Place | None = None) -> str | None:
        """The cursor of the next call. ``stopped``: the last request that was dealt with, if not all were."""
        place = stopped or self._next
        return write_cursor(self._until, *place) if place else None


class Steering:
    """Acts on requests of a caller: those of the tenant for operators, their own for all others.

    Other requests count as missing. Each method can also raise ``DatabaseUnavailableError``.
    """

    def __init__(
        self,
        database: Database,
        submissions: Submissions,
        acceptance: Acceptance,
        bulk: Bulk,
        lookup: Lookup,
        hub: Hub,
        limits: Limits,
        retries: Retries,
        priority_limit: int,
    ) -> None:
        self._database = database
        self._submissions = submissions
        self._acceptance = acceptance
        self._bulk = bulk
        self._lookup = lookup
        self._hub = hub
        self._limits = limits
        self._retries = retries
        self._priority_limit = priority_limit

    async def cancel(self, caller: Principal, id: UUID, by: Author) -> RequestResource:
        """Accept a cancel unless the request has ended, and return the request.

        Raises ``NOT_FOUND`` and what ``Acceptance.cancel`` raises.
        """
        resource = await self._lookup.steered(caller, id)
        if resource.status.terminal:
            return resource
        change = by.cancel(id, resource.status)
        await self._acceptance.cancel(caller.as_operator, id, resource.conversation_id, change)
        return resource.model_copy(update={"cancel_requested": True})

    async def change(
        self, caller: Principal, id: UUID, wanted: ChangeRequest, by: Author
    ) -> tuple[RequestResource, Sequence[str]]:
        """Change a request that no worker runs yet. Returns it, and the names of fields whose values were changed.

        Raises ``NOT_FOUND``, ``NOTHING_TO_CHANGE``, ``NOT_CHANGEABLE``, ``INVALID_REQUEST``, ``TOO_MANY_PARKED``, and
        ``UNAVAILABLE`` while it has no row.
        """
        wanted, warnings = self._allowed(caller, wanted)
        known = await self._lookup.steered(caller, id)
        target = await self._target(caller, id)
        if target is None:
            if known.status.terminal:
                raise OrchestraError(ErrorCode.NOT_CHANGEABLE, _NOT_CHANGEABLE[SkipCode.ENDED])
            if known.cancel_requested:
                raise OrchestraError(ErrorCode.NOT_CHANGEABLE, _NOT_CHANGEABLE[SkipCode.CANCELLING])
            raise OrchestraError(ErrorCode.UNAVAILABLE, _ON_ITS_WAY, retry_after=1)
        if not target.parked:
            self._limits.check_parked(_original(target).owned_by(caller), wanted.not_before)
        code = (await steering.change(self._database, caller.tenant, [target], wanted, by))[id]
        match code:
            case None | SkipCode.UNCHANGED:
                return await self._lookup.steered(caller, id), warnings
            case SkipCode.NOT_FOUND:
                raise OrchestraError(ErrorCode.NOT_FOUND)
            case SkipCode.NOT_BEFORE_DEADLINE:
                raise OrchestraError(ErrorCode.INVALID_REQUEST, _TIMES)
        raise OrchestraError(ErrorCode.NOT_CHANGEABLE, _NOT_CHANGEABLE[code])

    async def retry(
        self, caller: Principal, id: UUID, key: str | None, traceparent: str | None, by: Author
    ) -> RequestResource:
        """Accept a new request with the body of one that ended without an answer, and return it.

        Without a ``key`` a request is retried once: a repeat returns the same retry. Raises ``NOT_FOUND``,
        ``NOT_RETRYABLE``, and what ``Retries.submission`` and ``Submissions.send`` raise.
        """
        known = await self._lookup.steered(caller, id)
        target = await self._target(caller, id)
        if target is None:
            # Either its record was refused, or no worker has read it.
            code = SkipCode.NOT_KEPT if known.status.terminal else SkipCode.NOT_ENDED
            raise OrchestraError(ErrorCode.NOT_RETRYABLE, _NOT_RETRYABLE[code])
        if why := _no_retry(target):
            raise OrchestraError(ErrorCode.NOT_RETRYABLE, _NOT_RETRYABLE[why])
        original = _original(target)
        ref = caller.request(self._retries.id(caller, original, key))
        if ref in await requests.body_hashes(self._database, [ref]):
            if earlier := await self._retry_of(caller, ref.id):
                return earlier
            raise OrchestraError(ErrorCode.NOT_RETRYABLE, "it was retried, and the retry was deleted")
        body = (await responses.bodies(self._database, [caller.request(id)])).get(caller.request(id))
        if body is None:
            raise OrchestraError(ErrorCode.NOT_RETRYABLE, _NOT_RETRYABLE[SkipCode.NOT_KEPT])
        submission = await self._retries.submission(caller.as_operator, original, body, key, traceparent, by)
        with self._hub.watch(ref) as live, attach_request_id(ref.id):
            try:
                await self._submissions.send(submission, live, again=True)
            except OrchestraError as error:
                # Another call retried it at the same time, with a priority that this caller may not use.
                if error.code is ErrorCode.IDEMPOTENCY_KEY_REUSED and (same := await self._retry_of(caller, ref.id)):
                    return same
                raise
        return await self._retry_of(caller, ref.id) or RequestResource(
            id=ref.id, status=Status.PENDING, conversation_id=submission.conversation_id, retry_of=id
        )

    async def cancel_all(self, caller: Principal, wanted: CancelRequests, by: Author) -> RequestsDone:
        """Accept a cancel for each selected request that has not ended. Raises ``INVALID_REQUEST``."""
        page, tally = await self._select(caller, Kind.OPEN, wanted), _Tally(caller)
        until, acting = time.monotonic() + _MAX_SECONDS, caller.as_operator
        for some in _chunks(page.unread, _LOOKS_AT_ONCE):
            looks = (self._cancel_unread(acting, id, by, dry_run=wanted.dry_run) for id in some)
            for code in await asyncio.gather(*looks):
                tally.note(code)
        for chunk in _chunks(page.targets, _CANCELS_AT_ONCE):
            # The last turn of a conversation first: a turn that becomes the head meanwhile would begin to run.
            later_first = sorted(chunk, key=lambda each: each.seq, reverse=True)
            cancels = (self._cancel_one(acting, each, by, dry_run=wanted.dry_run) for each in later_first)
            for code in await asyncio.gather(*cancels):
                tally.note(code)
            if time.monotonic() > until and chunk[-1] is not page.targets[-1]:
                return RequestsDone(**tally.fields(page.next(chunk[-1].place)))
        return RequestsDone(**tally.fields(page.next()))

    async def change_all(self, caller: Principal, wanted: ChangeRequests, by: Author) -> RequestsChanged:
        """Change each selected request that no worker runs yet.

        Raises ``INVALID_REQUEST`` and ``NOTHING_TO_CHANGE``.
        """
        change, warnings = self._allowed(caller, wanted.change)
        page, tally = await self._select(caller, Kind.NOT_STARTED, wanted), _Tally(caller)
        tally.note(SkipCode.NOT_FOUND, len(page.unread))
        owners = {target.owner or "" for target in page.targets}
        parking = await self._limits.parking(caller.tenant, owners, change.not_before)
        until = time.monotonic() + _MAX_SECONDS
        for chunk in _chunks(page.targets, _CHANGES_AT_ONCE):
            may: list[Target] = []
            for target in chunk:
                if code := _no_change(target) or _no_room(target, parking):
                    tally.note(code)
                else:
                    may.append(target)
            if may:
                outcomes = await steering.change(self._database, caller.tenant, may, change, by, dry_run=wanted.dry_run)
                for code in outcomes.values():
                    tally.note(code)
            if time.monotonic() > until and chunk[-1] is not page.targets[-1]:
                return RequestsChanged(**tally.fields(page.next(chunk[-1].place)), warnings=list(warnings))
        return RequestsChanged(**tally.fields(page.next()), warnings=list(warnings))

    async def retry_all(
        self, caller: Principal, wanted: RetryRequests, key: str | None, traceparent: str | None, by: Author
    ) -> RequestsDone:
        """Retry each selected request that ended without an answer; those of one conversation in their order.

        By filter those that are retries themselves are left alone, so that the call can be repeated. Raises
        ``INVALID_REQUEST``.
        """
        page, tally = await self._select(caller, Kind.UNANSWERED, wanted), _Tally(caller)
        tally.note(SkipCode.NOT_FOUND, len(page.unread))
        until, behind = time.monotonic() + _MAX_SECONDS, dict[UUID, SkipCode]()
        for chunk in _chunks(page.targets, MAX_AT_ONCE if wanted.dry_run else _RETRIES_AT_ONCE):
            # Otherwise a repeat of the call would retry what it retried before, whenever that failed.
            first = [each for each in chunk if not (wanted.filter and each.is_retry)]
            tally.note(SkipCode.IS_RETRY, len(chunk) - len(first))
            may = await self._not_retried(caller, first, key, tally)
            if wanted.dry_run:
                tally.note(None, len(may))
                continue
            await self._send(caller, may, key, traceparent, by, behind, tally)
            if time.monotonic() > until and chunk[-1] is not page.targets[-1]:
                return RequestsDone(**tally.fields(page.next(chunk[-1].place)))
        return RequestsDone(**tally.fields(page.next()))

    async def _select(self, caller: Principal, kind: Kind, wanted: Selection) -> _Page:
        after, only = read_place_cursor(wanted.cursor), caller.as_operator.only
        if wanted.filter:
            found = await steering.select_matching(
                self._database, caller.tenant, only, kind, wanted.filter, after, MAX_AT_ONCE
            )
            return _Page(found.targets, (), found.until, found.next)
        ids = dict.fromkeys(wanted.ids or ())
        named = await steering.select_named(self._database, caller.tenant, only, ids)
        known = {each.id for each in named}
        # A call that continues another one has counted those without a row there.
        unread = [id for id in ids if id not in known] if after is None else []
        place = after[1] if after else steering.FIRST
        return _Page([each for each in named if each.place > place], unread, steering.FIRST[0], None)

    async def _target(self, caller: Principal, id: UUID) -> Target | None:
        found = await steering.select_named(self._database, caller.tenant, caller.as_operator.only, [id])
        return found[0] if found else None

    async def _cancel_one(self, acting: Principal, target: Target, by: Author, *, dry_run: bool) -> SkipCode | None:
        if target.status.terminal:
            return SkipCode.ENDED
        if target.cancelling:
            return SkipCode.CANCELLING
        change = by.cancel(target.id, target.status)
        return None if dry_run else await self._accept_cancel(acting, target.id, target.conversation_id, change)

    async def _cancel_unread(self, acting: Principal, id: UUID, by: Author, *, dry_run: bool) -> SkipCode | None:
        """Cancel a request that has no row: it may be on its way."""
        try:
            resource = await self._lookup.resource(acting, id)
        except OrchestraError as error:
            return SkipCode(error.code)
        if resource.status.terminal:
            return SkipCode.ENDED
        if resource.cancel_requested:
            return SkipCode.CANCELLING
        change = by.cancel(id, resource.status)
        return None if dry_run else await self._accept_cancel(acting, id, resource.conversation_id, change)

    async def _accept_cancel(
        self, acting: Principal, id: UUID, conversation_id: UUID | None, change: Change
    ) -> SkipCode | None:
        try:
            await self._acceptance.cancel(acting, id, conversation_id, change)
        except OrchestraError as error:
            return SkipCode(error.code)
        return None

    def _allowed(self, caller: Principal, wanted: ChangeRequest) -> tuple[ChangeRequest, Sequence[str]]:
        """The change with its priority lowered to what the caller may use; names what was lowered."""
        if not wanted.model_fields_set:
            raise OrchestraError(ErrorCode.NOTHING_TO_CHANGE)
        check_times(wanted)
        priority = caller.allowed_priority(wanted.priority, self._priority_limit)
        if priority == wanted.priority:
            return wanted, ()
        return wanted.model_copy(update={"priority": priority}), ("priority",)

    async def _retry_of(self, caller: Principal, id: UUID) -> RequestResource | None:
        stored = await self._lookup.stored(caller.as_operator, id)
        return without_texts(caller, stored.resource, stored.owner) if stored else None

    async def _not_retried(
        self, caller: Principal, targets: Sequence[Target], key: str | None, tally: _Tally
    ) -> list[Target]:
        """Those of these requests that can be retried and were not yet."""
        may: dict[UUID, Target] = {}
        for target in targets:
            if code := _no_retry(target):
                tally.note(code)
            else:
                may[self._retries.id(caller, _original(target), key)] = target
        known = await requests.body_hashes(self._database, [caller.request(id) for id in may])
        tally.note(SkipCode.RETRIED, len(known))
        return [target for id, target in may.items() if caller.request(id) not in known]

    async def _send(
        self,
        caller: Principal,
        targets: Sequence[Target],
        key: str | None,
        traceparent: str | None,
        by: Author,
        behind: dict[UUID, SkipCode],
        tally: _Tally,
    ) -> None:
        """Send the retries of these requests.

        ``behind``: conversations with a retry that may be accepted later. A retry behind it would overtake it.
        """
        bodies = await responses.bodies(self._database, [caller.request(each.id) for each in targets])
        ready: list[tuple[Target, Submission]] = []
        for target in targets:
            body = bodies.pop(caller.request(target.id), None)
            if body is None or target.conversation_id in behind:
                tally.note(behind.get(target.conversation_id, SkipCode.NOT_KEPT))
                continue
            # A large body is in memory alone.
            large = "body_ref" in body
            if large:
                await self._accept(ready, behind, tally)
            original = _original(target)
            try:
                submission = await self._retries.submission(caller.as_operator, original, body, key, traceparent, by)
            except OrchestraError as error:
                tally.note(_skipped(target, error, behind))
            else:
                ready.append((target, submission))
            if large:
                await self._accept(ready, behind, tally)
        await self._accept(ready, behind, tally)

    async def _accept(
        self,
        ready: list[tuple[Target, Submission]],
        behind: dict[UUID, SkipCode],
        tally: _Tally,
    ) -> None:
        """Accept these retries, and empty the list."""
        outcomes = await self._bulk.send([submission for _, submission in ready], frozenset())
        for (target, _), outcome in zip(ready, outcomes, strict=True):
            tally.note(_skipped(target, outcome.error, behind) if outcome.error else None)
        ready.clear()


def _original(target: Target) -> Original:
    return Original(target.id, target.conversation_id, target.owner, is_task=target.task_type is not None)


def _no_retry(target: Target) -> SkipCode | None:
    """Why a request cannot be retried; None if it can."""
    if target.status is Status.COMPLETED:
        return SkipCode.COMPLETED
    if target.status not in RETRYABLE:
        return SkipCode.NOT_ENDED
    return None if target.kept else SkipCode.NOT_KEPT


def _no_change(target: Target) -> SkipCode | None:
    """Why a request cannot be changed, as far as is known before the change."""
    if target.status.terminal:
        return SkipCode.ENDED
    if target.cancelling:
        return SkipCode.CANCELLING
    return SkipCode.IN_PROGRESS if target.status is Status.IN_PROGRESS else None


def _no_room(target: Target, parking: Parking | None) -> SkipCode | None:
    """Why a request may not wait longer; None if it may, or waits already."""
    if parking is None or target.parked or parking.take(target.owner or ""):
        return None
    return SkipCode.TOO_MANY_PARKED


def _skipped(target: Target, error: OrchestraError, behind: dict[UUID, SkipCode]) -> SkipCode:
    code = SkipCode(error.code)
    if ERRORS[error.code].retryable:
        # Nothing is unknown about those that are not sent.
        later = SkipCode.UNAVAILABLE if code is SkipCode.OUTCOME_UNKNOWN else code
        behind.setdefault(target.conversation_id, later)
    return code


def _chunks(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[at : at + size] for at in range(0, len(items), size))

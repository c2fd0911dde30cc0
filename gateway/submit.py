"""From a validated message or task to its record: derive the id, detect repeats, check limits, accept, compare."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from gateway.accept import Acceptance
from gateway.drain import Drain
from gateway.following.events import Hub
from gateway.following.live import LiveRequest
from gateway.following.lookup import Lookup
from gateway.http.problems import RequestProblemError
from gateway.limits import Limits
from gateway.people.principal import Principal
from gateway.submission import Begin, Submission
from gateway.timings import TIMINGS, Timings
from orchestra.agents.catalogue import Agents
from orchestra.receipts import Receipts
from orchestra.store.database import DatabaseUnavailableError
from orchestra.store.requests import StoredRequest
from schemas.api.steering import ChangeRequest
from schemas.content import refuse_web_urls
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import MessageBody, MessageRequested, refused
from schemas.status import Status

_FURTHEST = timedelta(days=7)
_COMPARE_SECONDS = 2.0
# Errors about a request whose id the caller needs for the next call.
_ABOUT_THE_ID = frozenset({ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.OUTCOME_UNKNOWN})


class Submissions:
    """Submits messages and tasks, each at most once."""

    def __init__(
        self,
        receipts: Receipts,
        acceptance: Acceptance,
        limits: Limits,
        agents: Agents,
        lookup: Lookup,
        hub: Hub,
        drain: Drain,
        timings: Timings = TIMINGS,
        *,
        media_urls: bool = False,
    ) -> None:
        """``media_urls``: whether media may be URLs that the model's provider fetches."""
        self._media_urls = media_urls
        self._timings = timings
        self._receipts = receipts
        self._acceptance = acceptance
        self._limits = limits
        self._agents = agents
        self._lookup = lookup
        self._hub = hub
        self._drain = drain

    def id(self, caller: Principal, route: str, key: str | None) -> UUID:
        """The request id for a POST of this caller to this route: new, or derived from the Idempotency-Key."""
        if key is None:
            return self._receipts.mint(caller.tenant, caller.user, datetime.now(UTC))
        return self._receipts.derive(caller.tenant, caller.user, "POST", route, key)

    async def send(
        self, submission: Submission, live: LiveRequest, *, again: bool, row_seconds: float = 0.0
    ) -> StoredRequest | None:
        """Accept ``submission``, unless an earlier call did: then return its row, if there is one.

        ``again``: the id is derived from a key, so the request may exist already, or be sent right now with another
        body. ``row_seconds``: how long to wait for the row of a new request. Raises ``IDEMPOTENCY_KEY_REUSED`` and what
        ``accept`` raises.
        """
        if again and (stored := await self._earlier_if_known(submission, live)):
            return stored
        await self.accept(submission)
        if seconds := _COMPARE_SECONDS if again else row_seconds:
            await self._compare(submission, live, seconds)
        return None

    async def accept(self, submission: Submission) -> None:
        """Accept ``submission``, whether or not an earlier call did; intake takes in an id once.

        Raises ``UNSUPPORTED_PART``, ``UNKNOWN_AGENT``, ``UNAVAILABLE``, and what ``Limits.check``,
        ``Submission.begin`` and ``Acceptance.message`` raise.
        """
        if not self._media_urls:
            refuse_web_urls(submission.body.messages)
        self._agents.check(submission.agent)
        self._limits.check(
            submission.caller, submission.conversation_id, submission.body.model, submission.body.not_before
        )
        if submission.begin:
            await _begun(submission.begin)
        await self._acceptance.message(submission)
        if self._hub.turns.places:
            self._hub.turns.hint(submission.caller.conversation(submission.conversation_id), at_once=False)

    async def _earlier_if_known(self, submission: Submission, live: LiveRequest) -> StoredRequest | None:
        try:
            stored = await self._earlier(submission)
        except DatabaseUnavailableError:
            return None  # Intake decides later: an id belongs to one request, and another body is refused.
        if stored is None and live.ending and live.ending.status is Status.COMPLETED:
            # This process still has the answer, but its row is gone.
            raise OrchestraError(ErrorCode.CONVERSATION_DELETED)
        return stored

    async def _earlier(self, submission: Submission) -> StoredRequest | None:
        """The row of an earlier call with the same key and body. Raises ``IDEMPOTENCY_KEY_REUSED``."""
        stored = await self._lookup.stored(submission.caller, submission.id)
        if stored:
            self._hub.learn(submission.caller.request(submission.id), stored)
            if stored.body_hash != submission.body_hash:
                raise OrchestraError(ErrorCode.IDEMPOTENCY_KEY_REUSED)
        return stored

    async def _compare(self, submission: Submission, live: LiveRequest, seconds: float) -> None:
        """Wait for the row or an event that shows which body came first. Raises ``IDEMPOTENCY_KEY_REUSED``."""
        until = time.monotonic() + seconds
        while live.body_hash is None and not self._drain.begun and time.monotonic() < until:
            seen = live.version
            try:
                if await self._earlier(submission):
                    return
            except DatabaseUnavailableError:
                return  # It is accepted; a wait or stream compares later.
            await live.change(seen, self._timings.look_for_row)
        live.check_hash(submission.body_hash)


async def _begun(begin: Begin) -> None:
    try:
        await begin()
    except DatabaseUnavailableError as error:
        raise OrchestraError(ErrorCode.UNAVAILABLE, error.told) from error


def check_times(body: MessageBody | ChangeRequest) -> None:
    """Raise ``INVALID_REQUEST`` for a time too far ahead, or a ``not_before`` that is not before the deadline."""
    furthest = datetime.now(UTC) + _FURTHEST
    for name, moment in (("deadline", body.deadline), ("not_before", body.not_before)):
        if moment and moment > furthest:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, f"{name}: must be at most 7 days ahead")
    if body.deadline and body.not_before and body.not_before >= body.deadline:
        raise OrchestraError(ErrorCode.INVALID_REQUEST, "not_before: must be before the deadline")


def message_of(fields: dict[str, Any]) -> MessageRequested:
    """The body of a record. Raises ``INVALID_REQUEST`` and what ``refused`` returns."""
    try:
        body = MessageRequested.model_validate(fields)
    except ValidationError as error:
        raise refused(error) from None
    check_times(body)
    return body


@contextmanager
def attach_request_id(request_id: UUID) -> Iterator[None]:
    """Add the request id to errors about an existing request."""
    try:
        yield
    except RequestProblemError:
        raise
    except OrchestraError as error:
        if error.code not in _ABOUT_THE_ID:
            raise
        raise RequestProblemError(
            error.code, error.detail, request_id=request_id, retry_after=error.retry_after
        ) from error

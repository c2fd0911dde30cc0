"""Many submissions in one call: accepted a few at a time, in order within each conversation, each with its outcome."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from gateway.drain import Drain
from gateway.submission import Submission
from gateway.submit import Submissions
from gateway.timings import TIMINGS, Timings
from orchestra.store import requests
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.requests import KnownRequest
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from schemas.status import Status

# As many records of one call on their way to Kafka as an owner may have.
_AT_ONCE = 8
_COMPARE_SECONDS = 2.0
# After this, what has not been sent is refused: a client should get its outcomes before it gives up.
_MAX_SECONDS = 30.0
_LATE = OrchestraError(ErrorCode.TOO_MANY_CALLS, "this call took too long to send all of its messages")
_BEHIND = "an earlier message of this conversation was not accepted"


@dataclass(frozen=True)
class Outcome:
    """What became of a submission: ``status`` of its request, or the error."""

    submission: Submission
    status: Status | None = None
    error: OrchestraError | None = None


class Bulk:
    """Sends the submissions of bulk calls."""

    def __init__(self, database: Database, submissions: Submissions, drain: Drain, timings: Timings = TIMINGS) -> None:
        self._database = database
        self._submissions = submissions
        self._drain = drain
        self._timings = timings

    async def send(self, given: Sequence[Submission], keyed: frozenset[UUID]) -> list[Outcome]:
        """Accept submissions of one caller; an outcome for each, in order.

        ``keyed``: the ids that are derived from keys, so that their requests may exist already. After one that may be
        accepted later, the submissions behind it in its conversation are refused as well: accepted now, they would
        overtake it.
        """
        outcomes: dict[int, Outcome] = {}
        first: dict[UUID, int] = {}
        for place, each in enumerate(given):
            first.setdefault(each.id, place)
        new = set(first.values())
        for place, known in (await self._known(given, keyed)).items():
            outcomes[place] = _earlier(given[place], known)
        until = time.monotonic() + _MAX_SECONDS
        conversations = self._in_conversations(given, new - outcomes.keys())
        await asyncio.gather(*(self._work(conversations, given, outcomes, until) for _ in range(_AT_ONCE)))
        await self._compare(given, keyed, outcomes)
        return [outcomes.get(place) or _repeat(each, outcomes[first[each.id]]) for place, each in enumerate(given)]

    def _in_conversations(self, given: Sequence[Submission], places: set[int]) -> Iterator[list[int]]:
        found: dict[UUID, list[int]] = {}
        for place in sorted(places):
            found.setdefault(given[place].conversation_id, []).append(place)
        return iter(found.values())

    async def _work(
        self,
        conversations: Iterator[list[int]],
        given: Sequence[Submission],
        outcomes: dict[int, Outcome],
        until: float,
    ) -> None:
        """Send what is left, one conversation after the other; several of these run beside each other."""
        for places in conversations:
            behind: OrchestraError | None = None
            for place in places:
                outcome = Outcome(given[place], error=behind) if behind else await self._accept(given[place], until)
                outcomes[place] = outcome
                if outcome.error and ERRORS[outcome.error.code].retryable and not behind:
                    code = outcome.error.code
                    # Nothing is unknown about those that were not sent.
                    code = ErrorCode.UNAVAILABLE if code is ErrorCode.OUTCOME_UNKNOWN else code
                    behind = OrchestraError(code, _BEHIND)

    async def _accept(self, submission: Submission, until: float) -> Outcome:
        try:
            self._drain.refuse_new()
            if time.monotonic() > until:
                raise _LATE
            await self._submissions.accept(submission)
        except OrchestraError as error:
            return Outcome(submission, error=error)
        return Outcome(submission, Status.PENDING)

    async def _known(self, given: Sequence[Submission], keyed: frozenset[UUID]) -> dict[int, KnownRequest]:
        """The requests of earlier calls with the same keys, by their places; none while Postgres is away."""
        refs = {each.caller.request(each.id) for each in given if each.id in keyed}
        try:
            known = await requests.known(self._database, refs)
        except DatabaseUnavailableError:
            return {}  # Intake decides later: an id belongs to one request, and another body is refused.
        found = ((place, known.get(each.caller.request(each.id))) for place, each in enumerate(given))
        return {place: request for place, request in found if request and given[place].caller.sees(request.owner)}

    async def _compare(self, given: Sequence[Submission], keyed: frozenset[UUID], outcomes: dict[int, Outcome]) -> None:
        """Wait for rows that show which body came first under the same key, in this call or in another."""
        until, pause = time.monotonic() + _COMPARE_SECONDS, self._timings.look_for_row
        open_ = [place for place, each in outcomes.items() if each.submission.id in keyed and not each.error]
        while open_ and not self._drain.begun:
            known = await self._known([given[place] for place in open_], keyed)
            for at, request in known.items():
                submission = given[open_[at]]
                # With the same body it stays `pending`, as it was accepted, though a worker may have begun with it.
                if request.body_hash != submission.body_hash:
                    outcomes[open_[at]] = _reused(submission)
            open_ = [place for at, place in enumerate(open_) if at not in known]
            if time.monotonic() > until:
                return  # They are accepted.
            await asyncio.sleep(pause)
            pause *= 2


def _earlier(submission: Submission, known: KnownRequest) -> Outcome:
    return Outcome(submission, known.status) if known.body_hash == submission.body_hash else _reused(submission)


def _repeat(submission: Submission, first: Outcome) -> Outcome:
    """The outcome of a submission with the id of another one in the same call."""
    if first.submission.body_hash != submission.body_hash:
        return _reused(submission)
    return Outcome(submission, first.status, first.error)


def _reused(submission: Submission) -> Outcome:
    return Outcome(submission, error=OrchestraError(ErrorCode.IDEMPOTENCY_KEY_REUSED))

"""A request that ended without an answer → the submission that sends it again, as a new request of the same owner."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

from gateway.large_bodies import LargeBodies, whole_body
from gateway.people.principal import Principal
from gateway.submission import Begin, Submission, trace
from gateway.submit import Submissions, message_of
from orchestra.store import branches
from orchestra.store.audit import Author
from orchestra.store.database import Database
from orchestra.store.turns import ConversationRef
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import conversation_id_for_request
from schemas.status import Status

RETRYABLE = frozenset({Status.FAILED, Status.EXPIRED, Status.CANCELLED})
"""The states of requests that can be retried."""
# As in release 0.1.0, which retried tasks only: a retry has the same id by either route.
_ROUTE = "/v1/tasks/{id}/retry"


@dataclass(frozen=True)
class Original:
    """The request that is retried. ``owner`` None: the tenant itself."""

    id: UUID
    conversation_id: UUID
    owner: str | None
    is_task: bool

    def owned_by(self, caller: Principal) -> Principal:
        """The caller on behalf of its owner, who has its quotas and gets what is made of it."""
        return replace(caller, user=self.owner or "")


class Retries:
    """Builds the submissions of retries."""

    def __init__(
        self, database: Database, submissions: Submissions, priority_limit: int, large: LargeBodies | None
    ) -> None:
        """``large`` None: large bodies are not kept here."""
        self._database = database
        self._submissions = submissions
        self._priority_limit = priority_limit
        self._large = large

    def id(self, caller: Principal, original: Original, key: str | None) -> UUID:
        """The id of the retry: without a ``key`` a request has one, however often it is retried."""
        return self._submissions.id(original.owned_by(caller), _ROUTE.format(id=original.id), key or "")

    async def submission(
        self,
        caller: Principal,
        original: Original,
        stored: dict[str, Any],
        key: str | None,
        traceparent: str | None,
        by: Author | None = None,
    ) -> Submission:
        """The retry of a request with this stored body, for its owner, at the end of its conversation.

        Deadline and not_before are dropped, since they have passed; so is on_busy, since a retry waits for its turn.
        Raises ``INVALID_REQUEST``, what ``LargeBodies.read`` raises, and ``DatabaseUnavailableError``.
        """
        owner, id = original.owned_by(caller), self.id(caller, original, key)
        body = await whole_body(self._large, owner.owner, stored, media=True)
        conversation_id, begin = await self._conversation(owner, original, id)
        record = message_of(
            {
                **body,
                "conversation_id": conversation_id,
                "priority": caller.allowed_priority(body.get("priority"), self._priority_limit),
                "deadline": None,
                "not_before": None,
                "on_busy": None,
                "retry_of": original.id,
            }
        )
        # Audited once, however often it is sent: a repeated retry has the same id.
        change = by.change(f"requests/{original.id}", after={"retried_as": str(id)}, id=id) if by else None
        return Submission(
            owner, id, record, record.body_hash(), trace(traceparent), caller_waits=False, change=change, begin=begin
        )

    async def _conversation(self, owner: Principal, original: Original, id: UUID) -> tuple[UUID | None, Begin | None]:
        """The conversation of the retry, and what makes it. None: its own.

        A conversation that was made for a single request stays with that. What makes the conversation raises
        ``CONVERSATION_DELETED`` and ``DatabaseUnavailableError``.
        """
        if original.is_task and original.conversation_id == conversation_id_for_request(original.id):
            return None, None
        if original.conversation_id != original.id:
            return original.conversation_id, None
        place = await branches.place_of(self._database, owner.conversation(original.id))
        return id, partial(self._branch, owner, id, place) if place else None

    async def _branch(self, owner: Principal, id: UUID, place: tuple[ConversationRef, int]) -> None:
        new = owner.conversation(id)
        made = await branches.branch(self._database, new, owner.user or None, *place, {})
        # An earlier call may have made it.
        if not made and not await branches.place_of(self._database, new):
            raise OrchestraError(ErrorCode.CONVERSATION_DELETED)

"""A request that comes by OpenAI's API: accepted, and waited for, as its clients need it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from gateway.disconnects import Disconnects
from gateway.following.live import Ending, LiveRequest
from gateway.following.waiting import EndingWaiter, failure, still_running
from gateway.http.leaving import Left, unless_left
from gateway.http.problems import RequestProblemError
from gateway.http.route import Call
from gateway.settings import GatewaySettings
from gateway.submission import Submission, trace
from gateway.submit import Submissions, attach_request_id, check_times
from orchestra.store import cancels
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.requests import StoredRequest
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import MessageRequested, OnDisconnect
from schemas.status import Status

_REPEAT = "Kafka did not acknowledge the request in time; it can be repeated"
_LOOK = "Kafka did not acknowledge the request in time; whether it is answered can be seen under its id"
_AGENT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
AGENT = "agent:"
"""What precedes the name of an agent in ``model``."""


class Calls:
    """What the routes that send a request share."""

    def __init__(
        self,
        settings: GatewaySettings,
        submissions: Submissions,
        waiting: EndingWaiter,
        disconnects: Disconnects,
        database: Database,
    ) -> None:
        self._settings = settings
        self._submissions = submissions
        self._waiting = waiting
        self._disconnects = disconnects
        self._database = database

    @property
    def patience(self) -> float:
        """For how many seconds a call waits for its answer, and a stream for the next part of it."""
        return self._settings.door_wait_seconds

    def id(self, call: Call[Any], route: str, key: str | None) -> UUID:
        """The id of the request that this call sends."""
        return self._submissions.id(call.caller, route, key)

    def submission(self, call: Call[Any], id: UUID, record: MessageRequested, *, waits: bool) -> Submission:
        """The request as it is sent; its priority is lowered to what the caller may use.

        ``waits``: the client holds a connection open for the answer, or for a stream of it. Raises ``INVALID_REQUEST``.
        """
        check_times(record)
        record.priority = call.caller.allowed_priority(record.priority, self._settings.priority_limit)
        traceparent = trace(call.request.headers.get("traceparent"))
        return Submission(call.caller, id, record, record.body_hash(), traceparent, caller_waits=waits)

    async def accept(self, submission: Submission, live: LiveRequest, key: str | None) -> StoredRequest | None:
        """Accept a request; the row of an earlier call with the same key, if there is one.

        If it is not known whether a request without a key was accepted, it is cancelled before it runs: then its client
        may repeat it. If it may run already, the error has its id. Raises what ``Submissions.send`` raises.
        """
        try:
            with attach_request_id(submission.id):
                return await self._submissions.send(submission, live, again=key is not None)
        except RequestProblemError as error:
            if error.code is not ErrorCode.OUTCOME_UNKNOWN:
                raise
            # With a key a retry finds the same request; without one it must find none.
            if key is not None or await self._cancelled(submission):
                raise OrchestraError(error.code, _REPEAT, retry_after=error.retry_after) from error
            raise RequestProblemError(error.code, _LOOK, request_id=submission.id) from error

    def left(
        self, submission: Submission, live: LiveRequest, key: str | None, on_disconnect: OnDisconnect | None
    ) -> Left | None:
        """What is done if the client leaves: its request is cancelled, unless it has a key to come back with.

        ``on_disconnect`` has precedence.
        """
        goes_on = key is not None if on_disconnect is None else on_disconnect == "continue"
        return None if goes_on else self._disconnects.cancel(submission, live)

    async def ending(
        self, call: Call[Any], submission: Submission, live: LiveRequest, left: Left | None = None
    ) -> Ending:
        """The ending of a request that was completed. ``left``: called if the client leaves before that.

        Raises ``RequestProblemError`` if it ended otherwise, or has not ended in time; what ``EndingWaiter.ending``
        raises; and ``ClientDisconnect``.
        """
        ref = submission.caller.request(submission.id)
        with _about(submission.id):
            waiting = self._waiting.ending(ref, live, self.patience, call.standing(), submission.body_hash)
            ending = await unless_left(call.request.receive, waiting, left)
        if ending is None:
            raise still_running(submission, live)
        if ending.status is not Status.COMPLETED:
            raise failure(ending, submission.id)
        return ending

    async def _cancelled(self, submission: Submission) -> bool:
        try:
            ref = submission.caller.request(submission.id)
            return await cancels.prevent(self._database, ref, submission.caller.only)
        except DatabaseUnavailableError:
            return False


@contextmanager
def _about(request_id: UUID) -> Iterator[None]:
    """Make every error one about this request, which goes on."""
    try:
        yield
    except RequestProblemError:
        raise
    except OrchestraError as error:
        raise RequestProblemError(error.code, error.detail, request_id=request_id) from error


def model_and_agent(name: str | None) -> tuple[str | None, str | None]:
    """The model or the agent that ``model`` names: of `agent:NAME` the agent, of all else the model.

    Raises ``UNKNOWN_AGENT`` for a name that no agent can have.
    """
    if not name or not name.startswith(AGENT):
        return name or None, None
    agent = name.removeprefix(AGENT)
    if not _AGENT_NAME.fullmatch(agent):
        raise OrchestraError(ErrorCode.UNKNOWN_AGENT)
    return None, agent


def shown_model(submission_model: str | None, agent: str | None, default: str) -> str:
    """The name under which an answer shows its model: the one that was asked for."""
    return f"{AGENT}{agent}" if agent else submission_model or default

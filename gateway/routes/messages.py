"""``POST /v1/messages``: check, accept, and answer as the client asks: wait, stream, or 202."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from fastapi import Response

from gateway.disconnects import Disconnects
from gateway.following.cursor import StreamCursor
from gateway.following.events import Hub
from gateway.following.live import LiveRequest
from gateway.following.stream import Streams, Subscription
from gateway.following.waiting import EndingWaiter, answer, still_running
from gateway.http import openapi
from gateway.http.bodies import read_idempotency_key, validate
from gateway.http.leaving import Left, unless_left
from gateway.http.prefer import Prefer, read_prefer, wants_stream
from gateway.http.responses import accepted
from gateway.http.route import Body, Call, Route
from gateway.people.principal import Principal
from gateway.settings import GatewaySettings
from gateway.submission import Submission, trace
from gateway.submit import Submissions, attach_request_id, check_times
from orchestra.store.requests import StoredRequest
from schemas.api.keys import Scope
from schemas.api.messages import MessageReply, PostMessage
from schemas.api.requests import AcceptedRequest, RequestResource
from schemas.envelope import parse_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.status import Status
from schemas.unsupported import ignored_fields, refuse_unsupported

ROUTE = "/v1/messages"

_HEADERS = (
    openapi.header(
        "Prefer",
        "`respond-async`: respond with 202 at once. `wait=N`: respond with 202 if there is no reply after N seconds "
        "(0 to 300).",
        "wait=10",
    ),
    openapi.idempotency_key("request"),
    openapi.header("Accept", "`text/event-stream`: stream the reply, like `stream` in the body.", "text/event-stream"),
    openapi.TRACEPARENT,
)
_KNOWN = frozenset(PostMessage.model_fields) | {"max_completion_tokens"}
# Fields in which nothing can be that is not known.
_PLAIN = _KNOWN - {"tools", "tool_choice", "response_format"}
_PLAIN_IN_MESSAGES = frozenset({"role", "content", "name"})
_CONTENT = itemgetter("content")
_REPLY = openapi.stream("The reply; with `stream`, the events of the request")
_FAILED = "The request was accepted and then failed; `code` is the reason"
_ANSWERS: openapi.Responses = {
    200: {"model": MessageReply, **_REPLY},
    202: {"model": AcceptedRequest, "description": "Accepted; the URL of the request is in `Location`"},
    502: {**openapi.PROBLEM, "description": _FAILED},
}
_PROBLEMS = (
    ErrorCode.NOT_FOUND,
    ErrorCode.CONVERSATION_DELETED,
    ErrorCode.CONVERSATION_BUSY,
    ErrorCode.CANCELLED,
    ErrorCode.NOT_SUPPORTED,
    ErrorCode.UNSUPPORTED_PART,
    ErrorCode.UNSUPPORTED_OPTION,
    ErrorCode.TOOL_RESULTS_MISSING,
    ErrorCode.UNKNOWN_MODEL,
    ErrorCode.UNKNOWN_AGENT,
    ErrorCode.CONTEXT_TOO_LONG,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    ErrorCode.CONVERSATION_FULL,
    *openapi.QUOTAS,
    ErrorCode.TOO_MANY_STREAMS,
    ErrorCode.STILL_RUNNING,
    ErrorCode.EXPIRED,
)

Read = tuple[PostMessage, Sequence[str]]


class Messages:
    """The route, with its collaborators."""

    def __init__(
        self,
        settings: GatewaySettings,
        submissions: Submissions,
        hub: Hub,
        waiting: EndingWaiter,
        streams: Streams,
        disconnects: Disconnects,
    ) -> None:
        self._settings = settings
        self._submissions = submissions
        self._hub = hub
        self._waiting = waiting
        self._streams = streams
        self._disconnects = disconnects

    def routes(self) -> Sequence[Route]:
        """The row of the route table."""
        body = Body(PostMessage, read_message, any_type=True, large=True)
        return [
            Route(
                "POST", ROUTE, self.create_message, Scope.WRITE, _ANSWERS, body=body, also=_PROBLEMS, headers=_HEADERS,
                writes=True, hot=True,
            )
        ]  # fmt: skip

    async def create_message(self, call: Call[Read]) -> Response:
        """Send a message and get its reply.

        By default the call waits for the reply, for up to 60 seconds (`SYNC_LIMIT_SECONDS`). `Prefer: respond-async`
        returns at once with the URL of the request. `stream` in the body, or `Accept: text/event-stream`, streams the
        reply as server-sent events. If the client closes the connection, the request goes on, unless `on_disconnect` is
        `cancel`.
        """
        request, caller = call.request, call.caller
        prefer, key = read_prefer(request.headers.getlist("prefer")), read_idempotency_key(request)
        body, warnings = allowed(self._settings, caller, *call.body)
        stream = bool(body.stream) or wants_stream(request.headers.getlist("accept"))
        if stream:
            self._streams.check(caller)
        submission = Submission(
            caller=caller,
            id=self._submissions.id(caller, ROUTE, key),
            body=body,
            body_hash=body.body_hash(),
            traceparent=trace(request.headers.get("traceparent")),
            caller_waits=not (prefer or stream),
            warnings=warnings,
        )
        ref = caller.request(submission.id)
        with self._hub.watch(ref) as live, attach_request_id(submission.id):
            stored = await self._submissions.send(submission, live, again=key is not None)
            left = self._disconnects.cancel(submission, live) if body.on_disconnect == "cancel" else None
            if stream:
                cursor = StreamCursor(request_id=ref.id, conversation_id=submission.conversation_id, warnings=warnings)
                subscription = Subscription(ref, cursor, stored, submission.body_hash)
                headers = {"Location": f"/v1/requests/{submission.id}"}
                return self._streams.open(subscription, call.standing(), headers, left)
            return await self._answer(call, submission, live, prefer, stored, left)

    async def _answer(
        self,
        call: Call[Read],
        submission: Submission,
        live: LiveRequest,
        prefer: Prefer,
        stored: StoredRequest | None,
        left: Left | None,
    ) -> Response:
        seconds = self._settings.sync_limit_seconds if not prefer else prefer.wait or 0
        if seconds:
            waiting = self._waiting.ending(
                submission.caller.request(submission.id), live, seconds, call.standing(), submission.body_hash
            )
            if ending := await unless_left(call.request.receive, waiting, left):
                return answer(submission, ending, self._settings.llm_model)
        if not prefer:
            raise still_running(submission, live)
        return accepted(stored.resource if stored else self._resource(submission, live), prefer, submission.warnings)

    def _resource(self, submission: Submission, live: LiveRequest) -> RequestResource:
        return RequestResource(
            id=submission.id,
            status=Status.IN_PROGRESS if live.attempt and not live.failed else Status.PENDING,
            conversation_id=submission.conversation_id,
            model=submission.body.model or self._settings.llm_model,
            last_error=live.last_error,
            metadata=submission.body.metadata,
        )


def allowed(settings: GatewaySettings, caller: Principal, body: PostMessage, warnings: Sequence[str]) -> Read:
    """The body with its priority lowered to what the caller may use, and the warnings, with that one if it was.

    Raises ``INVALID_REQUEST``.
    """
    check_times(body)
    priority = caller.allowed_priority(body.priority, settings.priority_limit)
    if priority != body.priority:
        body.priority, warnings = priority, ("priority", *warnings[:9])
    if body.context is None and settings.context_default != "auto":
        body.context = settings.context_default
    return body, warnings


def read_message(raw: bytes) -> Read:
    """The body of a POST, and the names of its ignored fields. Raises ``NOT_JSON`` and what ``read_value`` raises."""
    return read_value(parse_json(raw))


def read_value(value: Any) -> Read:
    """Parsed JSON as the body of a POST, and the names of its ignored fields.

    Raises ``NOT_SUPPORTED``, ``UNSUPPORTED_PART``, ``UNSUPPORTED_OPTION`` or ``INVALID_REQUEST``.
    """
    try:
        body = validate(PostMessage, value)
    except OrchestraError:
        refuse_unsupported(value)  # A better reason, if it applies.
        raise
    if (
        _PLAIN.issuperset(value)
        and _PLAIN_IN_MESSAGES.issuperset(set().union(*value["messages"]))
        and list not in map(type, map(_CONTENT, value["messages"]))
    ):
        return body, ()
    refuse_unsupported(value)
    return body, ignored_fields(value, _KNOWN, body)

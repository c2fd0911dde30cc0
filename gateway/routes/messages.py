"""``POST /v1/messages``: check, accept, and answer in the way that the caller wants."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from fastapi import APIRouter, Request, Response

from gateway import openapi
from gateway.accept import Acceptance, Ask, trace
from gateway.answers import accepted
from gateway.auth import Principal, authenticate
from gateway.bodies import parse, read_body, read_idempotency_key
from gateway.disconnect import unless_gone
from gateway.drain import Drain
from gateway.events import Hub
from gateway.limits import Limits
from gateway.live import LiveRequest
from gateway.lookup import Lookup
from gateway.outcome import Waiting, answer
from gateway.prefer import Prefer, read_prefer, wants_stream
from gateway.problems import RequestProblemError
from gateway.settings import GatewaySettings
from gateway.stream import Following, Streams
from orchestra.ids import Receipts
from orchestra.store.database import DatabaseUnavailableError
from orchestra.store.requests import StoredRequest
from schemas.api.messages import MessageReply, PostMessage
from schemas.api.requests import AcceptedRequest, RequestResource
from schemas.errors import ErrorCode, OrchestraError
from schemas.status import Status

ROUTE = "/v1/messages"
_LATEST_DEADLINE = timedelta(days=7)
_COMPARE_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.1
# Errors that come when the caller's id is one already.
_ABOUT_THE_ID = frozenset({ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.OUTCOME_UNKNOWN})

_HEADERS = {
    "parameters": [
        openapi.header("Prefer", "`respond-async`: 202 at once. `wait=N`: 202 when N seconds (0 to 300) are over."),
        openapi.header("Idempotency-Key", "The same key with the same body is the same request. 1 to 255 characters."),
        openapi.header("Accept", "`text/event-stream`: the reply as it comes, like `stream` in the body."),
        openapi.header("traceparent", "W3C trace context, passed on."),
    ]
}
_REPLY = openapi.stream("The reply; or, for `stream`, the events of the request")
_RESPONSES: openapi.Responses = {
    **openapi.problems(
        ErrorCode.NOT_JSON,
        ErrorCode.FORBIDDEN,
        ErrorCode.CONVERSATION_DELETED,
        ErrorCode.CANCELLED,
        ErrorCode.TOO_LARGE,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_MODEL,
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        ErrorCode.CONVERSATION_FULL,
        ErrorCode.BAD_UPSTREAM,
        ErrorCode.OUTCOME_UNKNOWN,
        ErrorCode.OVERLOADED,
        ErrorCode.UNAVAILABLE,
        ErrorCode.STILL_RUNNING,
        ErrorCode.EXPIRED,
    ),
    200: {"model": MessageReply, **_REPLY},
    202: {"model": AcceptedRequest, "description": "Accepted; `Location` tells where it is found"},
}


class Messages:
    """The route, with what it needs."""

    def __init__(
        self,
        settings: GatewaySettings,
        receipts: Receipts,
        acceptance: Acceptance,
        limits: Limits,
        lookup: Lookup,
        hub: Hub,
        waiting: Waiting,
        streams: Streams,
        drain: Drain,
    ) -> None:
        self._settings = settings
        self._receipts = receipts
        self._acceptance = acceptance
        self._limits = limits
        self._lookup = lookup
        self._hub = hub
        self._waiting = waiting
        self._streams = streams
        self._drain = drain

    def router(self) -> APIRouter:
        """The route for the app."""
        router = APIRouter(tags=["messages"])
        extra = {**openapi.body(PostMessage), **_HEADERS}
        router.add_api_route(
            ROUTE, self.post, methods=["POST"], response_model=None, responses=_RESPONSES, openapi_extra=extra
        )
        return router

    async def post(self, request: Request) -> Response:
        """Ask for a reply: wait for it, stream it, or be told where it will be."""
        self._drain.refuse_new()
        prefer, caller = read_prefer(request.headers.getlist("prefer")), authenticate()
        key = read_idempotency_key(request)
        body = self._read(await read_body(request, self._settings.max_body_bytes))
        stream = bool(body.stream) or wants_stream(request.headers.getlist("accept"))
        ask = Ask(
            caller=caller,
            id=self._id(caller, key),
            body=body,
            body_hash=body.body_hash(),
            traceparent=trace(request.headers.get("traceparent")),
            caller_waits=not (prefer or stream),
        )
        ref = caller.ref(ask.id)
        with self._hub.watch(ref) as live, _about(ask.id):
            stored = await self._earlier(ask) if key else None
            if stored is None:
                self._limits.check(caller.ref(ask.conversation_id), body.model)
                await self._acceptance.message(ask)
                if key:
                    await self._compare(ask, live)
            if stream:
                following = Following(ref, ask.conversation_id, stored=stored, body_hash=ask.body_hash)
                return self._streams.open(following, {"Location": f"/v1/requests/{ask.id}"})
            return await self._answer(request, ask, live, prefer, stored)

    def _read(self, raw: bytes) -> PostMessage:
        body = parse(PostMessage, raw)
        if body.deadline and body.deadline > datetime.now(UTC) + _LATEST_DEADLINE:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "deadline: must be at most 7 days ahead")
        if body.context is None and self._settings.context_default != "auto":
            body.context = self._settings.context_default
        return body

    def _id(self, caller: Principal, key: str | None) -> UUID:
        if key is None:
            return self._receipts.mint(caller.tenant, datetime.now(UTC))
        return self._receipts.derive(caller.tenant, caller.user, "POST", ROUTE, key)

    async def _earlier(self, ask: Ask) -> StoredRequest | None:
        """The row of an earlier call with the same key and body. Raises ``IDEMPOTENCY_KEY_REUSED``."""
        stored = await self._lookup.stored(ask.caller, ask.id)
        if stored:
            self._hub.learn(ask.caller.ref(ask.id), stored)
            if stored.body_hash != ask.body_hash:
                raise OrchestraError(ErrorCode.IDEMPOTENCY_KEY_REUSED)
        return stored

    async def _compare(self, ask: Ask, live: LiveRequest) -> None:
        """Wait for the row, or an event, that tells whose body came first. Raises ``IDEMPOTENCY_KEY_REUSED``."""
        until = time.monotonic() + _COMPARE_SECONDS
        while live.body_hash is None and not self._drain.begun and time.monotonic() < until:
            seen = live.version
            try:
                if await self._earlier(ask):
                    return
            except DatabaseUnavailableError:
                return  # It is accepted; whoever waits for it compares later.
            await live.change(seen, _LOOK_AGAIN_SECONDS)
        live.check_hash(ask.body_hash)

    async def _answer(
        self, request: Request, ask: Ask, live: LiveRequest, prefer: Prefer, stored: StoredRequest | None
    ) -> Response:
        seconds = self._settings.sync_limit_seconds if not prefer else prefer.wait or 0
        if seconds:
            waiting = self._waiting.ending(ask.caller.ref(ask.id), live, seconds, ask.body_hash)
            if ending := await unless_gone(request, waiting):
                return answer(ask, ending, self._settings.llm_model)
        if not prefer:
            raise RequestProblemError(ErrorCode.STILL_RUNNING, request_id=ask.id)
        return accepted(stored.resource if stored else self._resource(ask, live), prefer)

    def _resource(self, ask: Ask, live: LiveRequest) -> RequestResource:
        return RequestResource(
            id=ask.id,
            status=Status.IN_PROGRESS if live.attempt else Status.PENDING,
            conversation_id=ask.conversation_id,
            model=ask.body.model or self._settings.llm_model,
        )


@contextmanager
def _about(request_id: UUID) -> Iterator[None]:
    """Let errors that concern a known id say so."""
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

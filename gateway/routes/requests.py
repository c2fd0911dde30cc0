"""Requests: list them; one of them: look, wait for it, stream it, cancel it."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from gateway.accept import Acceptance
from gateway.drain import Drain
from gateway.following.events import Hub
from gateway.following.live import Ending
from gateway.following.lookup import Lookup
from gateway.following.stream import Following, Streams, has_seen, read_last_event_id
from gateway.following.waiting import Waiting
from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.http.bodies import read_id
from gateway.http.cursors import read_time_cursor, write_cursor
from gateway.http.prefer import read_prefer
from gateway.people.callers import Callers
from orchestra.http.disconnect import unless_gone
from orchestra.store import requests
from orchestra.store.database import Database
from schemas.api.conversations import Page
from schemas.api.keys import Scope
from schemas.api.requests import RequestQuery, RequestResource
from schemas.errors import ErrorCode

_PROBLEMS = openapi.problems(
    ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND, ErrorCode.INVALID_REQUEST, ErrorCode.UNAVAILABLE
)
_BUSY = openapi.problems(ErrorCode.TOO_MANY_STREAMS)
_CANCEL_PROBLEMS = openapi.problems(
    ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND, ErrorCode.OUTCOME_UNKNOWN, ErrorCode.OVERLOADED,
    ErrorCode.UNAVAILABLE,
)  # fmt: skip
_LIST_PROBLEMS = openapi.problems(
    ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.INVALID_REQUEST, ErrorCode.TOO_MANY_CALLS,
    ErrorCode.UNAVAILABLE,
)  # fmt: skip
_WAIT = {
    "parameters": [openapi.header("Prefer", "`wait=N`: answer when it has ended, or N seconds (0 to 300) are over.")]
}
_RESUME = {"parameters": [openapi.header("Last-Event-ID", "Go on after this event. Also `?last_event_id=`.")]}


class Requests:
    """The routes, with what they need."""

    def __init__(
        self,
        callers: Callers,
        database: Database,
        acceptance: Acceptance,
        lookup: Lookup,
        hub: Hub,
        waiting: Waiting,
        streams: Streams,
        drain: Drain,
    ) -> None:
        self._callers = callers
        self._database = database
        self._acceptance = acceptance
        self._lookup = lookup
        self._hub = hub
        self._waiting = waiting
        self._streams = streams
        self._drain = drain

    def router(self) -> APIRouter:
        """The routes for the app."""
        router, one = APIRouter(prefix="/v1/requests", tags=["requests"]), "/{request_id}"
        resource: openapi.Responses = {200: {"model": RequestResource, "description": "The request"}}
        cancelling: openapi.Responses = {
            200: {"model": RequestResource, "description": "It had ended; nothing is changed"},
            202: {"model": RequestResource, "description": "It will be cancelled, unless it ends first"},
        }
        events: openapi.Responses = {
            200: openapi.stream("Its events, the ending last"),
            204: {"description": "`Last-Event-ID` is that of its ending: there is no more to come"},
        }
        page: openapi.Responses = {200: {"model": Page[RequestResource], "description": "The newest first"}}
        router.add_api_route("", self.list, methods=["GET"], response_model=None, responses={**_LIST_PROBLEMS, **page})
        router.add_api_route(
            one, self.get, methods=["GET"], response_model=None, responses={**_PROBLEMS, **resource},
            openapi_extra=_WAIT,
        )  # fmt: skip
        router.add_api_route(
            f"{one}/events", self.events, methods=["GET"], response_model=None,
            responses={**_PROBLEMS, **_BUSY, **events}, openapi_extra=_RESUME,
        )  # fmt: skip
        router.add_api_route(
            f"{one}/cancel", self.cancel, methods=["POST"], response_model=None,
            responses={**_CANCEL_PROBLEMS, **cancelling},
        )  # fmt: skip
        return router

    async def list(self, request: Request, query: Annotated[RequestQuery, Query()]) -> Response:
        """The caller's requests, the newest first."""
        async with self._callers.listing(request) as caller:
            before = read_time_cursor(query.cursor)
            found, more = await requests.page(self._database, caller.tenant, caller.only, query, before, query.limit)
        last = found[-1] if more else None
        following = write_cursor(last.created_at, last.id) if last and last.created_at else None
        return json_answer(Page[RequestResource](data=found, next=following))

    async def get(self, request: Request, request_id: str) -> Response:
        """The request as it stands, or, with `Prefer: wait=N`, as it ended within N seconds."""
        caller, id = await self._callers.identify(request, Scope.READ), read_id(request_id)
        prefer = read_prefer(request.headers.getlist("prefer"))
        if not prefer.wait:
            return json_answer(await self._lookup.resource(caller, id))
        ref = caller.ref(id)
        with self._hub.watch(ref) as live:
            resource = await self._lookup.resource(caller, id)
            if not resource.status.terminal:
                standing = self._callers.standing(request, Scope.READ, caller)
                await unless_gone(request.receive, self._waiting.ending(ref, live, prefer.wait, standing))
                resource = await self._lookup.resource(caller, id)
        return json_answer(resource, headers={"Preference-Applied": f"wait={prefer.wait}"})

    async def events(self, request: Request, request_id: str, last_event_id: str | None = None) -> Response:
        """What happens to the request as it happens, as server-sent events; resumed after `Last-Event-ID`."""
        caller, id = await self._callers.identify(request, Scope.READ), read_id(request_id)
        self._streams.check(caller)
        stored = await self._lookup.stored(caller, id)
        resource = stored.resource if stored else await self._lookup.resource(caller, id)
        after = read_last_event_id(request.headers.get("last-event-id") or last_event_id)
        if has_seen(after, resource):
            return Response(status_code=204)  # An EventSource asks no more (HTML standard, 9.2).
        following = Following(
            caller.ref(id), resource.conversation_id, after, stored, ending=None if stored else _dead(resource)
        )
        return self._streams.open(following, self._callers.standing(request, Scope.READ, caller))

    async def cancel(self, request: Request, request_id: str) -> Response:
        """Cancel the request, unless it has ended."""
        self._drain.refuse_new()
        caller, id = await self._callers.identify(request, Scope.WRITE), read_id(request_id)
        resource = await self._lookup.resource(caller, id)
        if resource.status.terminal:
            return json_answer(resource)
        await self._acceptance.cancel(caller, id, resource.conversation_id)
        return json_answer(resource.model_copy(update={"cancel_requested": True}), 202)


def _dead(resource: RequestResource) -> Ending | None:
    """The ending of a request whose record became a dead letter."""
    return Ending(resource.status, 0, error=resource.error) if resource.status.terminal else None

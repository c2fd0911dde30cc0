"""Requests: list them; one of them: look, wait for it, stream it, cancel it."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from gateway.accept import Acceptance
from gateway.following.events import Hub
from gateway.following.live import Ending
from gateway.following.lookup import Lookup
from gateway.following.stream import Following, Streams, has_seen, read_last_event_id
from gateway.following.waiting import Waiting
from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.http.cursors import next_after, read_time_cursor
from gateway.http.prefer import read_prefer
from gateway.http.route import Call, Route
from orchestra.http.disconnect import unless_gone
from orchestra.store import requests
from orchestra.store.database import Database
from schemas.api.conversations import Page
from schemas.api.keys import Scope
from schemas.api.requests import RequestQuery, RequestResource
from schemas.errors import ErrorCode

_WAIT = openapi.header("Prefer", "`wait=N`: answer when it has ended, or N seconds (0 to 300) are over.")
_RESUME = openapi.header("Last-Event-ID", "Go on after this event. Also `?last_event_id=`.")


class Requests:
    """The routes, with what they need."""

    def __init__(
        self,
        database: Database,
        acceptance: Acceptance,
        lookup: Lookup,
        hub: Hub,
        waiting: Waiting,
        streams: Streams,
    ) -> None:
        self._database = database
        self._acceptance = acceptance
        self._lookup = lookup
        self._hub = hub
        self._waiting = waiting
        self._streams = streams

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one = "/v1/requests", "/v1/requests/{request_id}"
        page = {"model": Page[RequestResource], "description": "The newest first"}
        resource = {"model": RequestResource, "description": "The request"}
        cancelling: openapi.Responses = {
            200: {"model": RequestResource, "description": "It had ended; nothing is changed"},
            202: {"model": RequestResource, "description": "It will be cancelled, unless it ends first"},
        }
        events: openapi.Responses = {
            200: openapi.stream("Its events, the ending last"),
            204: {"description": "`Last-Event-ID` is that of its ending: there is no more to come"},
        }
        busy = [ErrorCode.TOO_MANY_STREAMS]
        return [
            Route("GET", path, self.list, Scope.READ, {200: page}, lists=True),
            Route("GET", one, self.get, Scope.READ, {200: resource}, headers=[_WAIT]),
            Route("GET", f"{one}/events", self.events, Scope.READ, events, also=busy, headers=[_RESUME]),
            Route("POST", f"{one}/cancel", self.cancel, Scope.WRITE, cancelling, writes=True),
        ]

    async def list(self, call: Call[None], query: Annotated[RequestQuery, Query()]) -> Response:
        """The caller's requests, the newest first."""
        before, caller = read_time_cursor(query.cursor), call.caller
        found, more = await requests.page(self._database, caller.tenant, caller.only, query, before, query.limit)
        return json_answer(Page[RequestResource](data=found, next=next_after(found, more=more)))

    async def get(self, call: Call[None], request_id: UUID) -> Response:
        """The request as it stands, or, with `Prefer: wait=N`, as it ended within N seconds."""
        request, caller = call.request, call.caller
        prefer = read_prefer(request.headers.getlist("prefer"))
        if not prefer.wait:
            return json_answer(await self._lookup.resource(caller, request_id))
        ref = caller.request(request_id)
        with self._hub.watch(ref) as live:
            resource = await self._lookup.resource(caller, request_id)
            if not resource.status.terminal:
                await unless_gone(request.receive, self._waiting.ending(ref, live, prefer.wait, call.standing()))
                resource = await self._lookup.resource(caller, request_id)
        return json_answer(resource, headers={"Preference-Applied": f"wait={prefer.wait}"})

    async def events(self, call: Call[None], request_id: UUID, last_event_id: str | None = None) -> Response:
        """What happens to the request as it happens, as server-sent events; resumed after `Last-Event-ID`."""
        caller = call.caller
        self._streams.check(caller)
        stored = await self._lookup.stored(caller, request_id)
        resource = stored.resource if stored else await self._lookup.resource(caller, request_id)
        after = read_last_event_id(call.request.headers.get("last-event-id") or last_event_id)
        if has_seen(after, resource):
            return Response(status_code=204)  # An EventSource asks no more (HTML standard, 9.2).
        following = Following(
            caller.request(request_id),
            resource.conversation_id,
            after,
            stored,
            ending=None if stored else _dead(resource),
        )
        return self._streams.open(following, call.standing())

    async def cancel(self, call: Call[None], request_id: UUID) -> Response:
        """Cancel the request, unless it has ended."""
        resource = await self._lookup.resource(call.caller, request_id)
        if resource.status.terminal:
            return json_answer(resource)
        await self._acceptance.cancel(call.caller, request_id, resource.conversation_id)
        return json_answer(resource.model_copy(update={"cancel_requested": True}), 202)


def _dead(resource: RequestResource) -> Ending | None:
    """The ending of a request whose record became a dead letter."""
    return Ending(resource.status, 0, error=resource.error) if resource.status.terminal else None

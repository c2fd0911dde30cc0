"""Requests: list them, get one, wait for it, stream it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from gateway import waits
from gateway.following.cursor import StreamCursor, has_seen, read_last_event_id
from gateway.following.events import Hub
from gateway.following.live import Ending
from gateway.following.lookup import Lookup, without_texts
from gateway.following.stream import Streams, Subscription
from gateway.following.waiting import EndingWaiter
from gateway.http import openapi
from gateway.http.cursors import read_time_cursor, searched, write_cursor
from gateway.http.prefer import read_prefer
from gateway.http.responses import json_answer
from gateway.http.route import Call, Route
from orchestra.http.disconnect import unless_gone
from orchestra.store import request_lists
from orchestra.store.database import Database
from schemas.api.keys import Scope
from schemas.api.requests import RequestDetail, RequestPage, RequestQuery
from schemas.api.waiting import WaitingState
from schemas.errors import ErrorCode

_WAIT = openapi.header(
    "Prefer", "`wait=N`: respond when the request has ended, or after N seconds (0 to 300).", "wait=10"
)
_RESUME = openapi.header("Last-Event-ID", "Id of the last event received: resume after it.", "1.18")
_LastEventId = Annotated[
    str | None, Query(description="Like the header `Last-Event-ID`, for clients that cannot set it.", examples=["1.18"])
]


class Requests:
    """The routes, with their collaborators."""

    def __init__(
        self,
        database: Database,
        lookup: Lookup,
        hub: Hub,
        waiting: EndingWaiter,
        streams: Streams,
    ) -> None:
        self._database = database
        self._lookup = lookup
        self._hub = hub
        self._waiting = waiting
        self._streams = streams

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one = "/v1/requests", "/v1/requests/{request_id}"
        page = {"model": RequestPage, "description": "One page, newest first"}
        detail = {"model": RequestDetail, "description": "The request"}
        why = {"model": WaitingState, "description": "Why it waits"}
        events: openapi.Responses = {
            200: openapi.stream("The events of the request, its ending last"),
            204: {"description": "`Last-Event-ID` is that of the ending: no more events follow"},
        }
        busy = [ErrorCode.TOO_MANY_STREAMS]
        return [
            Route("GET", path, self.list_requests, Scope.READ, {200: page}, lists=True),
            Route("GET", one, self.get_request, Scope.READ, {200: detail}, headers=[_WAIT]),
            Route("GET", f"{one}/waiting", self.get_request_wait, Scope.READ, {200: why}, lists=True),
            Route("GET", f"{one}/events", self.stream_request, Scope.READ, events, also=busy, headers=[_RESUME]),
        ]

    async def list_requests(self, call: Call[None], query: Annotated[RequestQuery, Query()]) -> Response:
        """List the caller's requests, newest first; with the scope `operate`, those of the tenant.

        Operators get requests of other owners without their texts. A call examines a limited number of requests. If it
        reaches that limit before the page is full, `searched_to` says how far it searched, and `next` continues from
        there.
        """
        caller = call.caller
        before, after = read_time_cursor(query.cursor), read_time_cursor(query.newer_than)
        asked = request_lists.Asked(caller.tenant, caller.as_operator.only, query, before, after)
        found = await request_lists.page(self._database, asked, query.limit)
        first = found.data[0] if found.data else None
        newest = write_cursor(first.created_at, first.id) if first else None
        shown = replace(found, data=[without_texts(caller, each, each.owner) for each in found.data])
        return json_answer(searched(RequestPage, shown, newest=newest))

    async def get_request(self, call: Call[None], request_id: UUID) -> Response:
        """Get a request.

        With `Prefer: wait=N` the call waits for up to N seconds until the request has ended.
        """
        request, caller = call.request, call.caller
        prefer = read_prefer(request.headers.getlist("prefer"))
        if not prefer.wait:
            return json_answer(await self._lookup.detail(caller, request_id))
        ref = caller.request(request_id)
        with self._hub.watch(ref) as live:
            detail = await self._lookup.detail(caller, request_id)
            if not detail.status.terminal:
                await unless_gone(request.receive, self._waiting.ending(ref, live, prefer.wait, call.standing()))
                detail = await self._lookup.detail(caller, request_id)
        return json_answer(detail, headers={"Preference-Applied": f"wait={prefer.wait}"})

    async def get_request_wait(self, call: Call[None], request_id: UUID) -> Response:
        """Get the reason why a request waits.

        The answer includes how many requests are ahead of it, and about how long it will wait. The call reads a bounded
        number of rows, however long the queue is.
        """
        known = await self._lookup.steered(call.caller, request_id)
        return json_answer(await waits.explain(self._database, call.caller.request(request_id), known))

    async def stream_request(self, call: Call[None], request_id: UUID, last_event_id: _LastEventId = None) -> Response:
        """Stream the events of a request, as server-sent events.

        A new stream starts with the text so far. With `Last-Event-ID` it resumes after that event.
        """
        caller = call.caller
        self._streams.check(caller)
        stored = await self._lookup.stored(caller, request_id)
        resource = stored.resource if stored else await self._lookup.resource(caller, request_id)
        after = read_last_event_id(call.request.headers.get("last-event-id") or last_event_id)
        if has_seen(after, resource):
            return Response(status_code=204)  # It makes an EventSource stop reconnecting (HTML standard, 9.2).
        cursor = StreamCursor(after, request_id=request_id, conversation_id=resource.conversation_id)
        # Of a record that became a dead letter there is no row.
        ending = Ending.of(resource) if not stored and resource.status.terminal else None
        subscription = Subscription(caller.request(request_id), cursor, stored, ending=ending)
        return self._streams.open(subscription, call.standing())

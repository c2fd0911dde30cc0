"""OpenAI's Responses API: create, get, stream, cancel and delete responses, and list their input."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Response

from gateway.accept import Acceptance
from gateway.deletion import Deletion
from gateway.following.events import Hub
from gateway.following.live import Ending
from gateway.following.lookup import Lookup
from gateway.following.stream import Streams, Subscription
from gateway.following.waiting import EndingWaiter
from gateway.http import openapi
from gateway.http.bodies import read_idempotency_key
from gateway.http.leaving import Left
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.large_bodies import LargeBodies, whole_body
from gateway.openai import ids
from gateway.openai.asked import items_in, read_response, record_of
from gateway.openai.calls import Calls
from gateway.openai.errors import DoorError
from gateway.openai.items import (
    input_items,
    messages_of,
    output_items,
    read_item_id,
    references,
    refusal,
)
from gateway.openai.paths import PREFIX, under_v1_too
from gateway.openai.response_object import AskedFor, unix
from gateway.openai.stream_responses import ResponseWriter
from gateway.people.principal import Principal
from gateway.settings import GatewaySettings
from gateway.submission import Begin, Submission
from gateway.timings import TIMINGS, Timings
from orchestra.http.disconnect import unless_gone
from orchestra.receipts import Receipts
from orchestra.store import branches, conversations
from orchestra.store import responses as store
from orchestra.store.database import Database
from orchestra.store.requests import StoredRequest
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.api.audit import Action
from schemas.api.keys import Scope
from schemas.api.requests import RequestResource
from schemas.content import calls_in, refusal_in
from schemas.errors import ErrorCode, OrchestraError
from schemas.openai.responses import (
    AN_ITEM,
    CreateResponse,
    DeletedResponse,
    ItemList,
    ResponseEvent,
    ResponseObject,
    ResponseStatus,
)
from schemas.requests import MessageRequested
from schemas.status import Status

ROUTE = f"{PREFIX}/responses"
_PROBLEMS = (
    ErrorCode.NOT_FOUND,
    ErrorCode.CONTEXT_TOO_LONG,
    ErrorCode.UNKNOWN_MODEL,
    ErrorCode.TOOL_RESULTS_MISSING,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    ErrorCode.CONVERSATION_FULL,
    ErrorCode.STILL_RUNNING,
    ErrorCode.TOO_MANY_STREAMS,
    *openapi.QUOTAS,
)
# A response that was accepted has a row soon.
_ROW_SECONDS = 2.0
_CANCEL_SECONDS = 5.0
# Responses that one response may go on from, if their messages have to be sent along with it.
_MAX_EARLIER = 100
# Ids of requests, and so of the conversations of single responses, are of this version.
_OF_A_REQUEST = 8

Order = Annotated[
    Literal["asc", "desc"], Query(description="`asc`: oldest first. `desc`: newest first.", examples=["desc"])
]
After = Annotated[
    str | None, Query(max_length=512, description="Id of the last item of the previous page.", examples=[AN_ITEM])
]
PageLimit = Annotated[int, Query(ge=1, le=100, description="Maximum number of items on the page.", examples=[20])]
Include = Annotated[
    list[str] | None, Query(alias="include[]", description="Accepted; it does not change the answer.", examples=[[]])
]
_Stream = Annotated[bool, Query(description="Stream the events of the response.")]
_After = Annotated[
    int | None,
    Query(ge=0, description="`sequence_number` of the last event received: resume the stream after it.", examples=[4]),
]
_Obfuscation = Annotated[bool | None, Query(description="Accepted; it does not change the events.")]


@dataclass(frozen=True)
class Found:
    """A stored response. ``body``: of its record. ``messages``: its own, without the instructions."""

    resource: RequestResource
    asked_for: AskedFor
    stored: StoredRequest | None
    body: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Context:
    """What a response goes on from. ``earlier``: messages that are sent along, because they are stored nowhere else.

    ``stored``: the history of the conversation comes before its own messages. ``begin``: makes the conversation.
    """

    conversation_id: UUID
    stored: bool
    earlier: Sequence[Mapping[str, Any]] = ()
    begin: Begin | None = None


class Responses:
    """The routes, with their collaborators."""

    def __init__(
        self,
        settings: GatewaySettings,
        calls: Calls,
        acceptance: Acceptance,
        deletion: Deletion,
        lookup: Lookup,
        hub: Hub,
        waiting: EndingWaiter,
        streams: Streams,
        database: Database,
        receipts: Receipts,
        large: LargeBodies | None = None,
        timings: Timings = TIMINGS,
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._acceptance = acceptance
        self._deletion = deletion
        self._lookup = lookup
        self._hub = hub
        self._waiting = waiting
        self._streams = streams
        self._database = database
        self._receipts = receipts
        self._large = large
        self._timings = timings

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        one = f"{ROUTE}/{{response_id}}"
        response = {"model": ResponseObject, "description": "The response"}
        events = openapi.data_stream("The response; with `stream`, its events, then `[DONE]`", ResponseEvent)
        answer: openapi.Responses = {200: {**response, **events}}
        gone = {"model": DeletedResponse, "description": "Deleted"}
        items = {"model": ItemList, "description": "One page of items"}
        body = Body(CreateResponse, read_response, any_type=True, large=True)
        return under_v1_too(
            [
                Route(
                    "POST", ROUTE, self.create_response, Scope.WRITE, answer, body=body, also=_PROBLEMS,
                    headers=[openapi.idempotency_key("response"), openapi.TRACEPARENT], writes=True, hot=True,
                ),
                Route("GET", one, self.get_response, Scope.READ, answer, also=[ErrorCode.TOO_MANY_STREAMS]),
                Route(
                    "POST", f"{one}/cancel", self.cancel_response, Scope.WRITE, {200: response}, writes=True,
                    action=Action.REQUEST_CANCEL,
                ),
                Route(
                    "DELETE", one, self.delete_response, Scope.WRITE, {200: gone}, writes=True,
                    action=Action.REQUEST_DELETE,
                ),
                Route("GET", f"{one}/input_items", self.list_input_items, Scope.READ, {200: items}, lists=True),
            ]
        )  # fmt: skip

    async def create_response(self, call: Call[CreateResponse]) -> Response:
        """Create a response.

        The call returns when the response has ended, and waits for up to 590 seconds (`DOOR_WAIT_SECONDS`). With
        `stream` its events are streamed; with `background` the call returns at once. If the client closes the
        connection earlier, the response is cancelled, unless the call has an `Idempotency-Key` or `on_disconnect` says
        otherwise.
        """
        caller, body = call.caller, call.body
        key = read_idempotency_key(call.request)
        if body.stream:
            self._streams.check(caller)
        id = self._calls.id(call, ROUTE, key)
        record, begin = await self._record(caller, id, body, repeated=key is not None)
        submission = replace(self._calls.submission(call, id, record, waits=not body.background), begin=begin)
        ref = caller.request(id)
        asked_for = self._asked_for(submission, body.instructions)
        with self._hub.watch(ref) as live:
            if stored := await self._calls.accept(submission, live, key):
                created_at = self._created_at(caller, id, stored.resource.created_at)
                asked_for = replace(asked_for, created_at=created_at)
            body.input = None  # It may be large, and the wait may be long.
            headers = {"x-request-id": ids.spell("req_", id)}
            left = None if body.background else self._calls.left(submission, live, key, body.on_disconnect)
            if body.stream:
                return self._stream(
                    call, ref, asked_for, stored, body_hash=submission.body_hash, headers=headers, left=left,
                    patience=None if body.background else self._calls.patience,
                )  # fmt: skip
            if body.background:
                return json_answer(asked_for.shown("queued"), headers=headers)
            ending = await self._calls.ending(call, submission, live, left)
            return json_answer(asked_for.ended(ending, int(time.time())), headers=headers)

    async def get_response(
        self,
        call: Call[None],
        response_id: str,
        stream: _Stream = False,  # noqa: FBT002  FastAPI passes it by name
        starting_after: _After = None,
        include: Include = None,  # noqa: ARG002  taken
        include_obfuscation: _Obfuscation = None,  # noqa: ARG002  taken
    ) -> Response:
        """Get a response, or stream its events.

        With `starting_after` a stream is resumed: an event has the same number in every stream of the response.
        """
        if starting_after is not None and not stream:
            raise refusal("invalid_value", "starting_after", "needs `stream=true`")
        if not stream:
            found = await self._find(call.caller, response_id)
            return json_answer(found.asked_for.stored(found.resource))
        self._streams.check(call.caller)
        # Its events have other numbers in the background, and all gateways must number them alike.
        found = await self._find_as_asked(call.caller, response_id)
        # Of a record that became a dead letter there is no row.
        ending = None if found.stored else Ending.of(found.resource)
        ref = call.caller.request(found.resource.id)
        return self._stream(call, ref, found.asked_for, found.stored, after=starting_after, ending=ending)

    async def cancel_response(self, call: Call[None], response_id: str) -> Response:
        """Cancel a response that was created in the background, unless it has ended."""
        caller = call.caller
        found = await self._find_as_asked(caller, response_id)
        if not found.asked_for.asked.background:
            raise refusal("invalid_value", "response_id", "only a response in the background can be cancelled")
        id = found.resource.id
        if not found.resource.status.terminal:
            with self._hub.watch(caller.request(id)) as live:
                change = call.by.cancel(id, found.resource.status)
                await self._acceptance.cancel(caller, id, found.resource.conversation_id, change)
                waiting = self._waiting.ending(caller.request(id), live, _CANCEL_SECONDS, call.standing())
                await unless_gone(call.request.receive, waiting)
            found = await self._find(caller, response_id)
        return json_answer(found.asked_for.stored(found.resource))

    async def delete_response(self, call: Call[None], response_id: str) -> Response:
        """Delete a response.

        Responses that continue from it no longer see it. What it added to a conversation stays there.
        """
        caller = call.caller
        found = await self._find(caller, response_id)
        id, conversation_id = found.resource.id, found.resource.conversation_id
        if conversation_id == id:
            await self._deletion.delete(caller, id, call.by.once(f"requests/{id}"))
        else:
            if not found.resource.status.terminal:
                # Without a row yet there is nothing else to be audited.
                change = call.by.once(f"requests/{id}") if conversation_id is None else None
                await self._acceptance.cancel(caller, id, conversation_id, change)
            if conversation_id is not None:
                await store.remove(self._database, caller.request(id), caller.conversation(conversation_id), call.by)
        return json_answer(DeletedResponse(id=response_id))

    async def list_input_items(
        self,
        call: Call[None],
        response_id: str,
        limit: PageLimit = 20,
        order: Order = "desc",
        after: After = None,
        include: Include = None,  # noqa: ARG002  taken
    ) -> Response:
        """List the input items of a response, without those of the responses before it."""
        found = await self._find(call.caller, response_id)
        items = input_items(found.messages, found.resource.id)
        return json_answer(page_of(items[::-1] if order == "desc" else items, limit, after))

    def _stream(
        self,
        call: Call[Any],
        ref: RequestRef,
        asked_for: AskedFor,
        stored: StoredRequest | None,
        *,
        after: int | None = None,
        ending: Ending | None = None,
        body_hash: str | None = None,
        headers: Mapping[str, str] | None = None,
        left: Left | None = None,
        patience: float | None = None,
    ) -> Response:
        finished_at = unix(stored.resource.finished_at) if stored else None

        def show(of: Ending | ResponseStatus) -> ResponseObject:
            if isinstance(of, Ending):
                return asked_for.ended(of, finished_at or int(time.time()))
            return asked_for.shown(of)

        background = asked_for.asked.background or False
        writer = ResponseWriter(ref.id, show, background=background, after=after)
        subscription = Subscription(ref, writer, stored, body_hash, ending)
        return self._streams.open(subscription, call.standing(), headers, left, patience)

    async def _record(
        self, caller: Principal, id: UUID, body: CreateResponse, *, repeated: bool
    ) -> tuple[MessageRequested, Begin | None]:
        """The record, and what makes its conversation."""
        items = items_in(body)
        messages = messages_of(items, await self._named(caller, references(items)))
        context = await self._context(caller, id, body, repeated=repeated)
        record = record_of(
            body, messages, conversation_id=context.conversation_id, stored_context=context.stored,
            earlier=context.earlier,
        )  # fmt: skip
        return record, context.begin

    async def _context(self, caller: Principal, id: UUID, body: CreateResponse, *, repeated: bool) -> Context:
        if body.conversation is not None:
            return Context(await self._conversation(caller, body.conversation), stored=True)
        if body.previous_response_id is None:
            return Context(id, stored=False)
        parent = await self._parent(caller, body.previous_response_id)
        if (earlier := await self._unstored(caller, parent)) is not None:
            return Context(id, stored=False, earlier=earlier)
        place = await branches.last_message(self._database, caller.request(parent.resource.id), caller.only)
        if place is None:
            raise _not_found_before()
        return Context(id, stored=True, begin=partial(self._branch, caller, id, place, repeated=repeated))

    async def _branch(self, caller: Principal, id: UUID, place: tuple[ConversationRef, int], *, repeated: bool) -> None:
        made = await branches.branch(
            self._database, caller.conversation(id), caller.user or None, *place, {}, only=caller.only
        )
        # With an Idempotency-Key an earlier call may have made it.
        if not made and not repeated:
            raise _not_found_before()

    async def _conversation(self, caller: Principal, named: Any) -> UUID:
        text = named if isinstance(named, str) else named.id
        try:
            id = ids.read("conv_", text)
        except OrchestraError:
            id = None
        if (
            id is None
            or id.version == _OF_A_REQUEST
            or not await conversations.get(self._database, caller.conversation(id), caller.only)
        ):
            detail = "conversation: no conversation has this id"
            raise DoorError(
                "conversation_not_found", detail, param="conversation", status=HTTPStatus.NOT_FOUND,
                code=ErrorCode.NOT_FOUND,
            )  # fmt: skip
        return id

    async def _parent(self, caller: Principal, text: str) -> Found:
        """The response to go on from. Raises ``DoorError`` unless it was answered and is kept."""
        try:
            found = await self._find(caller, text)
        except OrchestraError as error:
            if error.code is ErrorCode.NOT_FOUND:
                raise _not_found_before() from None
            raise
        if not found.resource.status.terminal:
            detail = "previous_response_id: this response has not ended yet"
            raise DoorError("previous_response_not_ready", detail, param="previous_response_id")
        if found.resource.status is not Status.COMPLETED:
            raise _not_found_before()
        return found

    async def _unstored(self, caller: Principal, parent: Found) -> list[Mapping[str, Any]] | None:
        """All messages up to the answer of a response, if its input has some that are in no conversation.

        Those are its own messages of the assistant, and what comes before them. None otherwise.
        """
        if all(message["role"] != "assistant" for message in parent.messages):
            return None
        found, chain = parent, [parent]
        while found.body.get("context") != "given":
            before = found.asked_for.asked.previous_response_id
            if before is None or len(chain) == _MAX_EARLIER:
                return None  # It belongs to a conversation, which has the rest.
            found = await self._parent(caller, before)
            chain.append(found)
        return [message for each in reversed(chain) for message in await self._said(caller, each)]

    async def _said(self, caller: Principal, found: Found) -> list[Mapping[str, Any]]:
        """The messages of a response without its instructions, with the data of media, and its answer."""
        resource, own = found.resource, found.messages
        if found.stored and "body_ref" in found.body:
            own = _own(await self._whole(caller, found.stored, found.body, media=True))
        answer: dict[str, Any] = {"role": "assistant"}
        if calls := calls_in(resource.output or ()):
            answer["tool_calls"] = calls
        if refusal := refusal_in(resource.output or ()):
            answer["refusal"] = refusal
        if resource.reply or not (calls or refusal):
            answer["content"] = resource.reply or ""
        return [*own, answer]

    async def _named(self, caller: Principal, wanted: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The stored items with these ids."""
        places = {id: place for id in wanted if (place := read_item_id(id))}
        found: dict[UUID, Found] = {}
        for request_id in {place.request_id for place in places.values()}:
            try:
                found[request_id] = await self._find(caller, ids.spell("resp_", request_id))
            except OrchestraError as error:
                if error.code is not ErrorCode.NOT_FOUND:
                    raise
        items: dict[str, Mapping[str, Any]] = {}
        for id, place in places.items():
            if response := found.get(place.request_id):
                items |= {each["id"]: each for each in _items(response, of_input=place.of_input) if each["id"] == id}
        return items

    async def _find(self, caller: Principal, text: str) -> Found:
        """A stored response. Raises ``NOT_FOUND``, also for one that must not be kept."""
        id = ids.read("resp_", text)
        resource, stored = await self._row(caller, id)
        body: dict[str, Any] = {}
        whole = body
        if stored:
            ref = caller.request(id)
            body = (await store.bodies(self._database, [ref])).get(ref) or {}
            if body.get("door") != "responses" or body.get("store") is False:
                raise OrchestraError(ErrorCode.NOT_FOUND)
            whole = await self._whole(caller, stored, body, media=False)
        created_at = self._created_at(caller, id, resource.created_at)
        own = _own(whole)
        lead = whole["messages"][0]["content"] if len(own) < len(whole.get("messages", ())) else None
        asked_for = AskedFor(id, resource.conversation_id, whole, lead, created_at, self._settings.llm_model)
        return Found(resource, asked_for, stored, body, own)

    async def _find_as_asked(self, caller: Principal, text: str) -> Found:
        """The response, for calls that depend on how it was asked for: ``UNAVAILABLE`` until its row shows that."""
        found = await self._find(caller, text)
        if not (found.stored or found.resource.status.terminal):
            raise OrchestraError(ErrorCode.UNAVAILABLE, "no worker has read this response yet", retry_after=1)
        return found

    async def _whole(
        self, caller: Principal, stored: StoredRequest, body: Mapping[str, Any], *, media: bool
    ) -> dict[str, Any]:
        return await whole_body(self._large, (caller.tenant, stored.owner or ""), {**body}, media=media)

    async def _row(self, caller: Principal, id: UUID) -> tuple[RequestResource, StoredRequest | None]:
        """The row, once a worker has written it; what is known without it if that takes long."""
        until = time.monotonic() + _ROW_SECONDS
        while True:
            if stored := await self._lookup.stored(caller, id):
                return stored.resource, stored
            resource = await self._lookup.resource(caller, id)
            if resource.status.terminal or time.monotonic() > until:
                return resource, None
            await asyncio.sleep(self._timings.look_for_row)

    def _asked_for(self, submission: Submission, instructions: str | None) -> AskedFor:
        # Without the messages, which may be long.
        body = submission.body.model_dump(mode="json", exclude_none=True, exclude={"messages"})
        id, created_at = submission.id, self._created_at(submission.caller, submission.id, None)
        return AskedFor(id, submission.conversation_id, body, instructions, created_at, self._settings.llm_model)

    def _created_at(self, caller: Principal, id: UUID, stored: datetime | None) -> int:
        """Unix time at which the response was created: that in its id, so that all gateways agree on it."""
        now = datetime.now(UTC)
        receipt = self._receipts.verify(caller.tenant, None, id, now)
        return int(((receipt and receipt.minted_at) or stored or now).timestamp())


def page_of(items: Sequence[dict[str, Any]], limit: int, after: str | None) -> ItemList:
    """A page of a list of items that is known whole. Raises ``DoorError`` for an ``after`` that is not in it."""
    start = 0
    if after is not None:
        start = next((at for at, item in enumerate(items, start=1) if item["id"] == after), 0)
        if not start:
            raise refusal("invalid_value", "after", "no item of this list has this id")
    data = list(items[start : start + limit])
    return ItemList(
        data=data,
        has_more=start + limit < len(items),
        first_id=data[0]["id"] if data else None,
        last_id=data[-1]["id"] if data else None,
    )


def _items(found: Found, *, of_input: bool) -> list[dict[str, Any]]:
    resource = found.resource
    if of_input:
        return input_items(found.messages, resource.id)
    return output_items(resource.id, resource.reply or "", resource.output)


def _own(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The messages of a body without the instructions."""
    messages: list[Mapping[str, Any]] = body.get("messages") or []
    return messages[1:] if (body.get("asked") or {}).get("instructions") else messages


def _not_found_before() -> DoorError:
    detail = "previous_response_id: no stored response that was answered has this id"
    return DoorError("previous_response_not_found", detail, param="previous_response_id")

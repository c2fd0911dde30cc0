"""Conversations: create, list, get, read their messages, branch, copy, delete."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Query, Response

from gateway.deletion import Deletion
from gateway.following.cursor import no_such_turn, read_turn_event_id
from gateway.following.stream import ConversationStart, Streams
from gateway.http import openapi
from gateway.http.cursors import Cursor, Limit, cut, read_number_cursor, read_time_cursor, write_cursor
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.limits import Limits
from gateway.people.principal import Principal
from gateway.timings import TIMINGS, Timings
from orchestra.store import branches, conversations, messages, next_turns
from orchestra.store.branches import MAX_COPIED_BYTES, MAX_COPIED_MESSAGES, Copied
from orchestra.store.database import Database
from orchestra.store.turns import ConversationRef
from schemas import fields
from schemas.api.audit import Action
from schemas.api.conversations import (
    BranchConversation,
    ConversationPage,
    ConversationResource,
    CopyConversation,
    CreateConversation,
    MessagePage,
)
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import is_of_one_request, may_be_made_by_an_owner

# Ids derived from Kafka keys are of this version: a user who claimed one first would own what others send to it.
_COMPUTED = "id: must not be a UUID of version 5, which others can compute; leave it out, or choose a random one"
_OF_ONE_REQUEST = "id: must not be a UUID of version 8, as requests have; leave it out, or choose a random one"
_TAKEN = "id: another conversation has it"
_NO_SUCH_REQUEST = "after_request: the conversation has no completed request with this id"
_NO_SUCH_MESSAGE = "after_message: the conversation has no message with this id"
_TOO_LARGE = (
    f"at most {MAX_COPIED_MESSAGES} messages and {MAX_COPIED_BYTES // 1024 // 1024} MiB can be copied; a branch has no "
    "limit"
)

_RESUME = openapi.header("Last-Event-ID", "Id of the last event received: resume after it.", f"{fields.A_REQUEST}:1.18")
_LastEventId = Annotated[
    str | None,
    Query(
        description="Like the header `Last-Event-ID`, for clients that cannot set it; or the id of a request: start "
        "after its turn.",
        examples=[f"{fields.A_REQUEST}:1.18", fields.A_REQUEST],
    ),
]


class Conversations:
    """The routes, with their collaborators."""

    def __init__(
        self,
        database: Database,
        deletion: Deletion,
        limits: Limits,
        streams: Streams,
        timings: Timings = TIMINGS,
    ) -> None:
        self._timings = timings
        self._streams = streams
        self._database = database
        self._deletion = deletion
        self._limits = limits

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one = "/v1/conversations", "/v1/conversations/{conversation_id}"
        resource = {"model": ConversationResource, "description": "The conversation"}
        made: openapi.Responses = {
            200: {"model": ConversationResource, "description": "It existed already; nothing was changed"},
            201: {"model": ConversationResource, "description": "Created; its URL is in `Location`"},
        }
        page = {"model": ConversationPage, "description": "One page, newest first"}
        history = {"model": MessagePage, "description": "One page, oldest first"}
        events: openapi.Responses = {200: openapi.stream("The events of all turns, in their order", of_turns=True)}
        busy = [ErrorCode.TOO_MANY_STREAMS]
        gone = {"description": "Deleted, with its messages; its open requests are being cancelled"}
        body, also = Body(CreateConversation, required=False), (ErrorCode.NOT_FOUND, *openapi.STORING)
        return [
            Route("POST", path, self.create_conversation, Scope.WRITE, made, body=body, also=also),
            Route("GET", path, self.list_conversations, Scope.READ, {200: page}, lists=True),
            Route("GET", one, self.get_conversation, Scope.READ, {200: resource}),
            Route("GET", f"{one}/messages", self.list_messages, Scope.READ, {200: history}, lists=True),
            Route(
                "POST", f"{one}/branch", self.branch_conversation, Scope.WRITE, made, also=also,
                body=Body(BranchConversation, required=False), action=Action.CONVERSATION_BRANCH,
            ),
            Route(
                "POST", f"{one}/copy", self.copy_conversation, Scope.WRITE, made, lists=True,
                also=(*also, ErrorCode.CONVERSATION_TOO_LARGE), body=Body(CopyConversation, required=False),
                action=Action.CONVERSATION_COPY,
            ),
            Route("GET", f"{one}/events", self.stream_conversation, Scope.READ, events, also=busy, headers=[_RESUME]),
            Route(
                "DELETE", one, self.delete_conversation, Scope.WRITE, {204: gone}, writes=True,
                action=Action.CONVERSATION_DELETE,
            ),
        ]  # fmt: skip

    async def create_conversation(self, call: Call[CreateConversation]) -> Response:
        """Create a conversation.

        The client may choose its id. If the conversation exists already, it is returned unchanged.
        """
        caller, wanted = call.caller, call.body

        async def create(ref: ConversationRef) -> bool:
            return await conversations.create(self._database, ref, caller.user or None, wanted.metadata)

        return await self._make(caller, wanted.id, create)

    async def list_conversations(self, call: Call[None], limit: Limit = 20, cursor: Cursor = None) -> Response:
        """List the caller's conversations, newest first.

        Admins see those of all owners of the tenant.
        """
        before, caller = read_time_cursor(cursor), call.caller
        found = await conversations.page(self._database, caller.tenant, before, limit + 1, caller.only)
        data, following = cut(found, limit)
        return json_answer(ConversationPage(data=data, next=following))

    async def get_conversation(self, call: Call[None], conversation_id: UUID) -> Response:
        """Get a conversation, with its open requests."""
        return json_answer(await self._get(call.caller, conversation_id))

    async def list_messages(
        self, call: Call[None], conversation_id: UUID, limit: Limit = 20, cursor: Cursor = None
    ) -> Response:
        """List the messages of a conversation, oldest first."""
        after, caller = read_number_cursor(cursor) or 0, call.caller
        conversation = caller.conversation(conversation_id)
        data, more = await messages.page(self._database, conversation, after, limit, caller.only)
        if not data:
            await self._get(caller, conversation_id)
        following = write_cursor(data[-1].id) if more else None
        return json_answer(MessagePage(data=data, next=following))

    async def branch_conversation(self, call: Call[BranchConversation], conversation_id: UUID) -> Response:
        """Branch a conversation.

        The new conversation begins with the messages of this one: all of them, or those up to a given place. They are
        shared, not copied: a message that is deleted in the original is gone from the branch, too. Messages added later
        to one of the two are not in the other. The client may choose the id. If this conversation already has a branch
        with that id, it is returned unchanged.
        """
        caller, wanted, parent = call.caller, call.body, call.caller.conversation(conversation_id)

        async def branch(ref: ConversationRef) -> bool:
            up_to = await self._place(caller, parent, wanted)
            owner = caller.user or None
            return await branches.branch(
                self._database, ref, owner, parent, up_to, wanted.metadata, caller.only, call.by
            )

        return await self._make(caller, wanted.id, branch, lambda found: found.branch_of == conversation_id)

    async def copy_conversation(self, call: Call[CopyConversation], conversation_id: UUID) -> Response:
        """Copy a conversation.

        The new conversation has copies of all messages, which count towards its owner's stored data: at most 10,000
        messages and 32 MiB, while a branch has no limit. The client may choose its id. If a conversation with that id
        exists, and is neither this one nor a branch, it is returned unchanged.
        """
        caller, wanted, original = call.caller, call.body, call.caller.conversation(conversation_id)

        async def copy(ref: ConversationRef) -> bool:
            owner = caller.user or None
            copied = await branches.copy(self._database, ref, owner, original, wanted.metadata, caller.only, call.by)
            if copied is Copied.TOO_LARGE:
                raise OrchestraError(ErrorCode.CONVERSATION_TOO_LARGE, _TOO_LARGE)
            return copied is Copied.MADE

        return await self._make(
            caller, wanted.id, copy, lambda found: not found.branch_of and found.id != conversation_id
        )

    async def stream_conversation(
        self, call: Call[None], conversation_id: UUID, last_event_id: _LastEventId = None
    ) -> Response:
        """Stream the events of all turns of a conversation, in their order, as server-sent events.

        A new stream starts with the first turn. With `Last-Event-ID` it resumes after that event, whatever its turn.
        `Last-Event-ID` may also be the id of a request: the stream then starts after that turn. It continues with new
        turns as they are accepted, and ends with the event `deleted` when the conversation is deleted.
        """
        caller = call.caller
        self._streams.check(caller)
        ref = caller.conversation(conversation_id)
        seen = read_turn_event_id(call.request.headers.get("last-event-id") or last_event_id)
        await self._until_there(caller, conversation_id)
        start = ConversationStart()
        if seen:
            turn, after = seen
            seq = await next_turns.number_of(self._database, ref, caller.request(turn))
            if seq is None:
                raise no_such_turn()
            start = ConversationStart(seq, turn if after else None, after)
        return self._streams.open_conversation(ref, start, call.standing())

    async def delete_conversation(self, call: Call[None], conversation_id: UUID) -> Response:
        """Delete a conversation with its messages, and cancel its open requests."""
        change = call.by.once(f"conversations/{conversation_id}")
        if not await self._deletion.delete(call.caller, conversation_id, change):
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return Response(status_code=204)

    async def _make(
        self,
        caller: Principal,
        id: UUID | None,
        make: Callable[[ConversationRef], Awaitable[bool]],
        may_be: Callable[[ConversationResource], bool] = lambda _: True,
    ) -> Response:
        """Create a conversation with ``make``, unless it exists. ``id``: as the client has chosen.

        ``may_be``: whether a conversation that has the id already may come from an earlier call like this one.
        """
        self._limits.check_storage(caller)
        ref = caller.conversation(id or uuid4())
        found = await conversations.get(self._database, ref, caller.only) if id else None
        made = False
        if found is None:
            if refusal := _refusal(caller, ref):
                raise OrchestraError(ErrorCode.INVALID_REQUEST, refusal)
            made = await make(ref)
            found = await conversations.get(self._database, ref, caller.only)
        if found is None:  # Deleted, or another user's: a client cannot tell the two apart.
            raise OrchestraError(ErrorCode.NOT_FOUND)
        if not made and not may_be(found):
            raise OrchestraError(ErrorCode.INVALID_REQUEST, _TAKEN)
        return json_answer(found, 201 if made else 200, {"Location": f"/v1/conversations/{found.id}"})

    async def _place(self, caller: Principal, parent: ConversationRef, wanted: BranchConversation) -> int:
        """The last message that a branch begins with."""
        message, missing = wanted.after_message, _NO_SUCH_MESSAGE
        if wanted.after_request:
            missing = _NO_SUCH_REQUEST
            last = await branches.last_message(self._database, caller.request(wanted.after_request), caller.only)
            if last is None:
                raise OrchestraError(ErrorCode.NOT_FOUND, missing)
            message = last[1]
        found = await branches.position(self._database, parent, message, caller.only)
        if found is None:
            raise OrchestraError(ErrorCode.NOT_FOUND, missing)
        return found

    async def _get(self, caller: Principal, id: UUID) -> ConversationResource:
        conversation = await conversations.get(self._database, caller.conversation(id), caller.only)
        if conversation is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return conversation

    async def _until_there(self, caller: Principal, id: UUID) -> None:
        """Wait a moment for a conversation whose first message was only just accepted. Raises ``NOT_FOUND``."""
        until, pause = time.monotonic() + self._timings.row_of_task, self._timings.look_for_row
        while True:
            try:
                await self._get(caller, id)
                return
            except OrchestraError:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(pause)
            pause *= 2


def _refusal(caller: Principal, conversation: ConversationRef) -> str | None:
    """Why this caller must not create a conversation with this id."""
    if is_of_one_request(conversation.id):
        return _OF_ONE_REQUEST
    return _COMPUTED if caller.user and not may_be_made_by_an_owner(conversation.id) else None

"""Conversations: create, list, get, read their messages, delete."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Query, Response

from gateway.accept import Acceptance
from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.http.cursors import cut, read_number_cursor, read_time_cursor, write_cursor
from gateway.http.route import Body, Call, Route
from gateway.limits import Limits
from gateway.people.principal import Principal
from orchestra.store import cancels, conversations, messages
from orchestra.store.database import Database
from schemas.api.conversations import ConversationResource, CreateConversation, Page, StoredMessage
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import may_be_made_by_an_owner

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=512)]

# Who comes first would own what others say in it: ids of Kafka keys are of this version.
_COMPUTED = "id: must not be a UUID of version 5, which others can compute; leave it out, or choose a random one"


class Conversations:
    """The routes, with what they need."""

    def __init__(self, database: Database, acceptance: Acceptance, limits: Limits) -> None:
        self._database = database
        self._acceptance = acceptance
        self._limits = limits

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one = "/v1/conversations", "/v1/conversations/{conversation_id}"
        resource = {"model": ConversationResource, "description": "The conversation"}
        made: openapi.Responses = {
            200: {"model": ConversationResource, "description": "It was there; nothing is changed"},
            201: {"model": ConversationResource, "description": "Made; `Location` tells where it is found"},
        }
        page = {"model": Page[ConversationResource], "description": "The newest first"}
        said = {"model": Page[StoredMessage], "description": "The oldest first"}
        gone = {"description": "Deleted, with its messages and open requests"}
        body, also = Body(CreateConversation, required=False), (ErrorCode.NOT_FOUND, ErrorCode.STORAGE_FULL)
        return [
            Route("POST", path, self.create, Scope.WRITE, made, body=body, also=also),
            Route("GET", path, self.list, Scope.READ, {200: page}, lists=True),
            Route("GET", one, self.get, Scope.READ, {200: resource}),
            Route("GET", f"{one}/messages", self.messages, Scope.READ, {200: said}, lists=True),
            Route("DELETE", one, self.delete, Scope.WRITE, {204: gone}, writes=True),
        ]

    async def create(self, call: Call[CreateConversation]) -> Response:
        """Make a conversation, under an id of the caller's choice if there is one."""
        caller, wanted = call.caller, call.body
        self._limits.check_storage(caller)
        ref = caller.conversation(wanted.id or uuid4())
        may_make = not caller.user or may_be_made_by_an_owner(ref[1])
        made = may_make and await conversations.create(self._database, ref, caller.user or None, wanted.metadata)
        conversation = await conversations.get(self._database, ref, caller.only)
        if conversation is None and not may_make:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, _COMPUTED)
        if conversation is None:  # Deleted, or somebody else's, which look the same.
            raise OrchestraError(ErrorCode.NOT_FOUND)
        headers = {"Location": f"/v1/conversations/{conversation.id}"}
        return json_answer(conversation, 201 if made else 200, headers)

    async def list(self, call: Call[None], limit: Limit = 20, cursor: Cursor = None) -> Response:
        """The caller's conversations, the newest first."""
        before, caller = read_time_cursor(cursor), call.caller
        found = await conversations.page(self._database, caller.tenant, before, limit + 1, caller.only)
        data, following = cut(found, limit)
        return json_answer(Page[ConversationResource](data=data, next=following))

    async def get(self, call: Call[None], conversation_id: UUID) -> Response:
        """A conversation, with the requests in it that are not answered yet."""
        return json_answer(await self._get(call.caller, conversation_id))

    async def messages(
        self, call: Call[None], conversation_id: UUID, limit: Limit = 20, cursor: Cursor = None
    ) -> Response:
        """What was said in a conversation, the oldest first."""
        after, caller = read_number_cursor(cursor) or 0, call.caller
        conversation = caller.conversation(conversation_id)
        data, more = await messages.page(self._database, conversation, after, limit, caller.only)
        if not data:
            await self._get(caller, conversation_id)
        following = write_cursor(data[-1].id) if more else None
        return json_answer(Page[StoredMessage](data=data, next=following))

    async def delete(self, call: Call[None], conversation_id: UUID) -> Response:
        """Delete a conversation with its messages; what is open in it is cancelled."""
        caller = call.caller
        hidden = await cancels.mark_deleted(self._database, caller.conversation(conversation_id), caller.only)
        if hidden is not None:
            # Again for one that was deleted before: its record may not have been acknowledged.
            await self._acceptance.delete_conversation(caller, conversation_id)
        if not hidden:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return Response(status_code=204)

    async def _get(self, caller: Principal, id: UUID) -> ConversationResource:
        conversation = await conversations.get(self._database, caller.conversation(id), caller.only)
        if conversation is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return conversation

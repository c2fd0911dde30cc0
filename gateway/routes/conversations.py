"""Conversations: create, list, get, read their messages, delete."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from fastapi import Response

from gateway.accept import Acceptance
from gateway.http import openapi
from gateway.http.cursors import Cursor, Limit, cut, read_number_cursor, read_time_cursor, write_cursor
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.limits import Limits
from gateway.people.principal import Principal
from orchestra.store import cancels, conversations, messages
from orchestra.store.database import Database
from schemas.api.conversations import (
    ConversationPage,
    ConversationResource,
    CreateConversation,
    MessagePage,
)
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import may_be_made_by_an_owner

# Ids derived from Kafka keys are of this version: a user who claimed one first would own what others send to it.
_COMPUTED = "id: must not be a UUID of version 5, which others can compute; leave it out, or choose a random one"


class Conversations:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, acceptance: Acceptance, limits: Limits) -> None:
        self._database = database
        self._acceptance = acceptance
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
        gone = {"description": "Deleted, with its messages; its open requests are being cancelled"}
        body, also = Body(CreateConversation, required=False), (ErrorCode.NOT_FOUND, ErrorCode.STORAGE_FULL)
        return [
            Route("POST", path, self.create_conversation, Scope.WRITE, made, body=body, also=also),
            Route("GET", path, self.list_conversations, Scope.READ, {200: page}, lists=True),
            Route("GET", one, self.get_conversation, Scope.READ, {200: resource}),
            Route("GET", f"{one}/messages", self.list_messages, Scope.READ, {200: history}, lists=True),
            Route("DELETE", one, self.delete_conversation, Scope.WRITE, {204: gone}, writes=True),
        ]

    async def create_conversation(self, call: Call[CreateConversation]) -> Response:
        """Create a conversation.

        The client may choose its id. If the conversation exists already, it is returned unchanged.
        """
        caller, wanted = call.caller, call.body
        self._limits.check_storage(caller)
        ref = caller.conversation(wanted.id or uuid4())
        may_make = not caller.user or may_be_made_by_an_owner(ref[1])
        made = may_make and await conversations.create(self._database, ref, caller.user or None, wanted.metadata)
        conversation = await conversations.get(self._database, ref, caller.only)
        if conversation is None and not may_make:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, _COMPUTED)
        if conversation is None:  # Deleted, or another user's: a client cannot tell the two apart.
            raise OrchestraError(ErrorCode.NOT_FOUND)
        headers = {"Location": f"/v1/conversations/{conversation.id}"}
        return json_answer(conversation, 201 if made else 200, headers)

    async def list_conversations(self, call: Call[None], limit: Limit = 20, cursor: Cursor = None) -> Response:
        """List the caller's conversations, newest first."""
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

    async def delete_conversation(self, call: Call[None], conversation_id: UUID) -> Response:
        """Delete a conversation with its messages, and cancel its open requests."""
        caller = call.caller
        hidden = await cancels.mark_deleted(self._database, caller.conversation(conversation_id), caller.only)
        if hidden is not None:
            # Even if it was deleted before: the record of that may not have been acknowledged.
            await self._acceptance.delete_conversation(caller, conversation_id)
        if not hidden:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return Response(status_code=204)

    async def _get(self, caller: Principal, id: UUID) -> ConversationResource:
        conversation = await conversations.get(self._database, caller.conversation(id), caller.only)
        if conversation is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return conversation

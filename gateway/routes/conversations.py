"""Conversations: create, list, get, read their messages, delete."""

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request, Response

from gateway.accept import Acceptance
from gateway.drain import Drain
from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.http.bodies import read_id, read_json
from gateway.http.cursors import read_number_cursor, read_time_cursor, write_cursor
from gateway.limits import Limits
from gateway.people.callers import Callers
from gateway.people.principal import Principal
from orchestra.store import cancels, conversations, messages
from orchestra.store.database import Database
from schemas.api.conversations import ConversationResource, CreateConversation, Page, StoredMessage
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import may_be_made_by_an_owner

_COMMON = openapi.problems(
    ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.INVALID_REQUEST, ErrorCode.TOO_MANY_CALLS,
    ErrorCode.UNAVAILABLE,
)  # fmt: skip
_FOUND = openapi.problems(
    ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND, ErrorCode.INVALID_REQUEST, ErrorCode.UNAVAILABLE
)
_BUSY = openapi.problems(ErrorCode.TOO_MANY_CALLS)
_CREATED = openapi.problems(
    ErrorCode.NOT_JSON, ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND, *openapi.BODY,
    ErrorCode.INVALID_REQUEST, ErrorCode.STORAGE_FULL, ErrorCode.UNAVAILABLE,
)  # fmt: skip
_DELETED = openapi.problems(
    ErrorCode.UNAUTHORIZED,
    ErrorCode.FORBIDDEN,
    ErrorCode.NOT_FOUND,
    ErrorCode.OUTCOME_UNKNOWN,
    ErrorCode.OVERLOADED,
    ErrorCode.UNAVAILABLE,
)

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=512)]

# Who comes first would own what others say in it: ids of Kafka keys are of this version.
_COMPUTED = "id: must not be a UUID of version 5, which others can compute; leave it out, or choose a random one"


class Conversations:
    """The routes, with what they need."""

    def __init__(
        self,
        callers: Callers,
        database: Database,
        acceptance: Acceptance,
        limits: Limits,
        drain: Drain,
        most_bytes: int,
    ) -> None:
        self._callers = callers
        self._database = database
        self._acceptance = acceptance
        self._limits = limits
        self._drain = drain
        self._most_bytes = most_bytes

    def router(self) -> APIRouter:
        """The routes for the app."""
        router = APIRouter(prefix="/v1/conversations", tags=["conversations"])
        one: openapi.Responses = {200: {"model": ConversationResource, "description": "The conversation"}}
        made: openapi.Responses = {
            200: {"model": ConversationResource, "description": "It was there; nothing is changed"},
            201: {"model": ConversationResource, "description": "Made; `Location` tells where it is found"},
        }
        page: openapi.Responses = {200: {"model": Page[ConversationResource], "description": "The newest first"}}
        said: openapi.Responses = {200: {"model": Page[StoredMessage], "description": "The oldest first"}}
        gone: openapi.Responses = {204: {"description": "Deleted, with its messages and open requests"}}
        extra = openapi.body(CreateConversation, required=False)
        for path, method, call, answers, more in (
            ("", "POST", self.create, {**_CREATED, **made}, extra),
            ("", "GET", self.list, {**_COMMON, **page}, None),
            ("/{conversation_id}", "GET", self.get, {**_FOUND, **one}, None),
            ("/{conversation_id}/messages", "GET", self.messages, {**_FOUND, **_BUSY, **said}, None),
            ("/{conversation_id}", "DELETE", self.delete, {**_DELETED, **gone}, None),
        ):
            router.add_api_route(
                path, call, methods=[method], response_model=None, responses=answers, openapi_extra=more
            )
        return router

    async def create(self, request: Request) -> Response:
        """Make a conversation, under an id of the caller's choice if he has one."""
        caller = await self._callers.identify(request, Scope.WRITE)
        wanted = await read_json(request, CreateConversation, self._most_bytes)
        self._limits.check_storage(caller)
        ref = caller.ref(wanted.id or uuid4())
        may_make = not caller.user or may_be_made_by_an_owner(ref[1])
        made = may_make and await conversations.create(self._database, ref, caller.user or None, wanted.metadata)
        conversation = await conversations.get(self._database, ref, caller.only)
        if conversation is None and not may_make:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, _COMPUTED)
        if conversation is None:  # Deleted, or somebody else's, which look the same.
            raise OrchestraError(ErrorCode.NOT_FOUND)
        headers = {"Location": f"/v1/conversations/{conversation.id}"}
        return json_answer(conversation, 201 if made else 200, headers)

    async def list(self, request: Request, limit: Limit = 20, cursor: Cursor = None) -> Response:
        """The caller's conversations, the newest first."""
        async with self._callers.listing(request) as caller:
            before = read_time_cursor(cursor)
            found = await conversations.page(self._database, caller.tenant, before, limit + 1, caller.only)
        last = found[limit - 1] if len(found) > limit else None
        following = write_cursor(last.created_at, last.id) if last else None
        return json_answer(Page[ConversationResource](data=found[:limit], next=following))

    async def get(self, request: Request, conversation_id: str) -> Response:
        """A conversation, with the requests in it that are not answered yet."""
        caller = await self._callers.identify(request, Scope.READ)
        return json_answer(await self._get(caller, read_id(conversation_id)))

    async def messages(
        self, request: Request, conversation_id: str, limit: Limit = 20, cursor: Cursor = None
    ) -> Response:
        """What was said in a conversation, the oldest first."""
        async with self._callers.listing(request) as caller:
            id, after = read_id(conversation_id), read_number_cursor(cursor) or 0
            found = await messages.page(self._database, caller.ref(id), after, limit + 1, caller.only)
            if not found:
                await self._get(caller, id)
        following = write_cursor(found[limit - 1].id) if len(found) > limit else None
        return json_answer(Page[StoredMessage](data=found[:limit], next=following))

    async def delete(self, request: Request, conversation_id: str) -> Response:
        """Delete a conversation with its messages; what is open in it is cancelled."""
        self._drain.refuse_new()
        caller, id = await self._callers.identify(request, Scope.WRITE), read_id(conversation_id)
        hidden = await cancels.mark_deleted(self._database, caller.ref(id), caller.only)
        if hidden is not None:
            # Again for one that was deleted before: its record may not have been acknowledged.
            await self._acceptance.delete_conversation(caller, id)
        if not hidden:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return Response(status_code=204)

    async def _get(self, caller: Principal, id: UUID) -> ConversationResource:
        conversation = await conversations.get(self._database, caller.ref(id), caller.only)
        if conversation is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return conversation

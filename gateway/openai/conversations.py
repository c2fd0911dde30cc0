"""OpenAI's Conversations API, over the conversations of our own."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import orjson
from fastapi import Response
from pydantic import BaseModel

from gateway.deletion import Deletion
from gateway.http import openapi
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.limits import Limits
from gateway.openai import ids
from gateway.openai.asked import read, validated
from gateway.openai.errors import DoorError
from gateway.openai.items import (
    GONE,
    answer_items,
    item_id,
    items_of_message,
    last_status,
    messages_of,
    output_item,
    output_of,
    read_item_id,
    read_stored_item_id,
    refusal,
    stored_item_id,
)
from gateway.openai.paths import PREFIX
from gateway.openai.response_object import unix
from gateway.openai.responses import After, Include, Order, PageLimit
from gateway.people.principal import Principal
from orchestra.store import conversations
from orchestra.store import items as store
from orchestra.store.database import Database
from orchestra.store.turns import ConversationRef
from schemas.api.audit import Action
from schemas.api.conversations import ConversationResource, StoredMessage
from schemas.api.keys import Scope
from schemas.content import NOT_FETCHED, is_web_url
from schemas.envelope import parse_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.openai.conversations import (
    AddItems,
    CreateOpenAIConversation,
    DeletedConversation,
    OpenAIConversation,
    UpdateOpenAIConversation,
)
from schemas.openai.responses import ItemList
from schemas.requests import Message

_ROUTE = f"{PREFIX}/conversations"
_INHERITED = "it belongs to the conversation that this one is a branch of; delete it there"
# What an image or a document counts in a prompt, in bytes: about a thousand tokens.
_WEIGHT_OF_MEDIA = 3000
# Ids of requests, and so of the conversations of single responses, are of this version.
_OF_A_REQUEST = 8


class ConversationItems:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, deletion: Deletion, limits: Limits, *, media_urls: bool = False) -> None:
        """``media_urls``: whether media may be URLs that the model's provider fetches."""
        self._media_urls = media_urls
        self._database = database
        self._deletion = deletion
        self._limits = limits

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        one, items = f"{_ROUTE}/{{conv_id}}", f"{_ROUTE}/{{conv_id}}/items"
        item = f"{items}/{{item_id}}"
        shown = {"model": OpenAIConversation, "description": "The conversation"}
        page = {"model": ItemList, "description": "One page of items"}
        found = {"model": dict[str, Any], "description": "The item"}
        gone = {"model": DeletedConversation, "description": "Deleted, with its items"}
        create, update = _body(CreateOpenAIConversation, required=False), _body(UpdateOpenAIConversation)
        full = openapi.STORING
        return [
            Route("POST", _ROUTE, self.create_openai_conversation, Scope.WRITE, {200: shown}, body=create, also=full),
            Route("GET", one, self.get_openai_conversation, Scope.READ, {200: shown}),
            Route(
                "POST", one, self.update_openai_conversation, Scope.WRITE, {200: shown}, body=update,
                action=Action.CONVERSATION_UPDATE,
            ),
            Route(
                "DELETE", one, self.delete_openai_conversation, Scope.WRITE, {200: gone}, writes=True,
                action=Action.CONVERSATION_DELETE,
            ),
            Route("GET", items, self.list_items, Scope.READ, {200: page}, lists=True),
            Route("POST", items, self.create_items, Scope.WRITE, {200: page}, body=_body(AddItems), also=full),
            Route("GET", item, self.get_item, Scope.READ, {200: found}),
            Route("DELETE", item, self.delete_item, Scope.WRITE, {200: shown}, action=Action.ITEM_DELETE),
        ]  # fmt: skip

    async def create_openai_conversation(self, call: Call[CreateOpenAIConversation]) -> Response:
        """Create a conversation."""
        caller, wanted = call.caller, call.body
        self._limits.check_storage(caller)
        rows = self._rows(wanted.items or [])
        ref = caller.conversation(uuid4())
        await conversations.create(self._database, ref, caller.user or None, wanted.metadata or {})
        if rows:
            await store.add(self._database, ref, rows, caller.only)
        return json_answer(await self._shown(caller, ref))

    async def get_openai_conversation(self, call: Call[None], conv_id: str) -> Response:
        """Get a conversation."""
        return json_answer(await self._shown(call.caller, _ref(call.caller, conv_id)))

    async def update_openai_conversation(self, call: Call[UpdateOpenAIConversation], conv_id: str) -> Response:
        """Change the metadata of a conversation.

        The new metadata replaces all that it had.
        """
        caller, ref = call.caller, _ref(call.caller, conv_id)
        if not await store.set_metadata(self._database, ref, call.body.metadata or {}, caller.only, call.by):
            raise _not_found()
        return json_answer(await self._shown(caller, ref))

    async def delete_openai_conversation(self, call: Call[None], conv_id: str) -> Response:
        """Delete a conversation with its items, and cancel its responses that have not ended."""
        ref = _ref(call.caller, conv_id)
        if not await self._deletion.delete(call.caller, ref.id, call.by.once(f"conversations/{ref.id}")):
            raise _not_found()
        return json_answer(DeletedConversation(id=conv_id))

    async def list_items(
        self,
        call: Call[None],
        conv_id: str,
        limit: PageLimit = 20,
        order: Order = "desc",
        after: After = None,
        include: Include = None,  # noqa: ARG002  taken
    ) -> Response:
        """List the items of a conversation."""
        caller, ref, newest = call.caller, _ref(call.caller, conv_id), order == "desc"
        start, skipping = (store.HIGHEST if newest else 0), after is not None
        if after is not None:
            if (last := await self._message(caller, ref, after)) is None:
                await self._shown(caller, ref)
                raise DoorError("invalid_value", "after: no item of this conversation has this id", param="after")
            start = last.id
        found: list[dict[str, Any]] = []
        while len(found) <= limit:
            rows = await store.messages(self._database, ref, start, limit + 1, caller.only, newest=newest)
            for row in rows:
                for item in _items(row)[:: -1 if newest else 1]:
                    if not skipping:
                        found.append(item)
                    skipping = skipping and item["id"] != after
            if not rows:
                break
            start = rows[-1].id + (-1 if newest else 1)
        if not found:
            await self._shown(caller, ref)
        return json_answer(_page(found[:limit], more=len(found) > limit))

    async def create_items(self, call: Call[AddItems], conv_id: str, include: Include = None) -> Response:  # noqa: ARG002
        """Create items in a conversation.

        They do not start a response.
        """
        caller, ref = call.caller, _ref(call.caller, conv_id)
        self._limits.check_storage(caller)
        added = await store.add(self._database, ref, self._rows(call.body.items), caller.only)
        if added is None:
            raise _not_found()
        rows = await store.messages(self._database, ref, added[0], len(added), caller.only, newest=False)
        return json_answer(_page([item for row in rows for item in _items(row)], more=False))

    async def get_item(
        self,
        call: Call[None],
        conv_id: str,
        item_id: str,
        include: Include = None,  # noqa: ARG002  taken
    ) -> Response:
        """Get an item of a conversation."""
        _, item = await self._item(call.caller, _ref(call.caller, conv_id), item_id)
        return Response(orjson.dumps(item), media_type="application/json")

    async def delete_item(self, call: Call[None], conv_id: str, item_id: str) -> Response:
        """Delete an item of a conversation.

        Later responses no longer see it.
        """
        caller, ref = call.caller, _ref(call.caller, conv_id)
        message, _ = await self._item(caller, ref, item_id)
        if not await store.replace(self._database, ref, message.id, _without(message, item_id), call.by):
            raise refusal("invalid_value", "item_id", _INHERITED)
        return json_answer(await self._shown(caller, ref))

    def _rows(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """Input items as rows of messages. Raises ``DoorError``."""
        given = messages_of(items, {}, "items")
        messages = validated(given, "items")
        for each, message in zip(given, messages, strict=True):
            if not self._media_urls and any(map(is_web_url, message.parts)):
                raise refusal("unsupported_value", f"items[{each.at}]", NOT_FETCHED)
        return [_row(message) for message in messages]

    async def _shown(self, caller: Principal, ref: ConversationRef) -> OpenAIConversation:
        found = await conversations.get(self._database, ref, caller.only)
        if found is None:
            raise _not_found()
        return _conversation(found)

    async def _message(self, caller: Principal, ref: ConversationRef, item_id: str) -> StoredMessage | None:
        """The message that has an item with this id."""
        if place := read_item_id(item_id):
            if place.of_input:
                return None
            return await store.answer(self._database, ref, place.request_id, caller.only)
        if (id := read_stored_item_id(item_id)) is None:
            return None
        found = await store.messages(self._database, ref, id, 1, caller.only, newest=False)
        return found[0] if found and found[0].id == id else None

    async def _item(
        self, caller: Principal, ref: ConversationRef, item_id: str
    ) -> tuple[StoredMessage, dict[str, Any]]:
        message = await self._message(caller, ref, item_id)
        for item in _items(message) if message else ():
            if item["id"] == item_id and message:
                return message, item
        await self._shown(caller, ref)
        raise OrchestraError(ErrorCode.NOT_FOUND, "no item of this conversation has this id")


def _ref(caller: Principal, text: str) -> ConversationRef:
    id = ids.read("conv_", text)
    if id.version == _OF_A_REQUEST:
        raise _not_found()
    return caller.conversation(id)


def _body(model: type[BaseModel], *, required: bool = True) -> Body:
    return Body(model, lambda raw: read(model, parse_json(raw)), required=required)


def _row(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.role == "assistant":
        if not message.plain or message.parts:
            row["output"] = answer_items(message.model_dump(exclude_none=True))
        return row
    if message.parts:
        media = sum(part["type"] != "text" for part in message.parts)
        row |= {"parts": message.parts, "weight": len(message.text.encode()) + media * _WEIGHT_OF_MEDIA}
    if message.tool_call_id is not None:
        row["tool_call_id"] = message.tool_call_id
    return row


def _items(message: StoredMessage) -> list[dict[str, Any]]:
    """The items of a stored message, in order, with their ids. Those that were deleted are left out."""
    if message.role == "assistant":
        bare = output_of(message.content, message.output)
        incomplete = message.finish_reason in ("length", "content_filter")
        return [
            output_item(item, _id(message, item["type"], at), last_status(at, bare, incomplete=incomplete))
            for at, item in enumerate(bare)
            if item != GONE
        ]
    chat = {"role": message.role, "content": message.parts or message.content, "tool_call_id": message.tool_call_id}
    return [{"id": _id(message, item["type"], at), **item} for at, item in enumerate(items_of_message(chat))]


def _id(message: StoredMessage, kind: str, at: int) -> str:
    """The id of an item: of an answer the same as in its response."""
    if message.role == "assistant" and message.request_id:
        return item_id(kind, message.request_id, at)
    return stored_item_id(kind, message.id, at)


def _without(message: StoredMessage, item_id: str) -> tuple[str, list[Any]] | None:
    """The text and items that a message keeps without this item; None: nothing."""
    if message.output is None:
        return None
    kept: list[dict[str, Any]] = [
        GONE if _id(message, item["type"], at) == item_id else {**item} for at, item in enumerate(message.output)
    ]
    parts = [part for item in kept if item["type"] == "message" for part in item["content"]]
    text = "".join(part["text"] for part in parts if part["type"] == "output_text")
    return None if all(item == GONE for item in kept) else (text, kept)


def _conversation(resource: ConversationResource) -> OpenAIConversation:
    return OpenAIConversation(
        id=ids.spell("conv_", resource.id), created_at=unix(resource.created_at) or 0, metadata=resource.metadata
    )


def _page(data: list[dict[str, Any]], *, more: bool) -> ItemList:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return ItemList(data=data, has_more=more, first_id=first, last_id=last)


def _not_found() -> OrchestraError:
    return OrchestraError(ErrorCode.NOT_FOUND, "no conversation has this id")

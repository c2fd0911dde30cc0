"""Conversations: create, get, list, delete them, and read or stream what is in them."""

from collections.abc import Mapping
from uuid import UUID, uuid4

from orchestra.client.caller import Call, Caller
from orchestra.client.options import body_of
from orchestra.client.pages import AsyncItems, items_by_cursor
from orchestra.client.requests import one
from orchestra.client.stream import AsyncConversationStream
from schemas.api.conversations import ConversationPage, ConversationResource, MessagePage, StoredMessage

_PATH = "/v1/conversations"


class AsyncConversations:
    """The conversations of the caller. Calls raise ``ClientError``, with code ``not_found`` for an unknown id."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self, *, id: UUID | str | None = None, metadata: Mapping[str, str] | None = None
    ) -> ConversationResource:
        """Create a conversation; one that exists is returned unchanged. ``id``: None for a random one.

        ``metadata``: up to 16 pairs. A message with an unknown ``conversation_id`` also creates one.
        """
        # With an id of ours a repeated call creates no second one.
        body = body_of(id=id or uuid4(), metadata=metadata)
        return (await self._caller.call(Call("POST", _PATH, content=body))).read(ConversationResource)

    async def get(self, conversation_id: UUID | str) -> ConversationResource:
        """A conversation, with the ids of its open requests."""
        return (await self._caller.call(Call("GET", one(_PATH, conversation_id)))).read(ConversationResource)

    def messages(self, conversation_id: UUID | str, *, page_size: int = 100) -> AsyncItems[StoredMessage]:
        """Iterate over the messages of a conversation, oldest first. ``page_size``: 1 to 100."""
        path = f"{one(_PATH, conversation_id)}/messages"
        return items_by_cursor(self._caller, path, MessagePage, {"limit": page_size})

    def stream(self, conversation_id: UUID | str, *, last_event_id: str | None = None) -> AsyncConversationStream:
        """Stream the events of all turns of a conversation, in their order, also of turns that are still to come.

        It begins with the first turn, or after the event with ``last_event_id``; the id of a request is the place
        behind its turn. It ends when the conversation is deleted. Reading it raises ``ClientError``.
        """
        return AsyncConversationStream(self._caller, UUID(str(conversation_id)), last_event_id)

    async def branch(
        self,
        conversation_id: UUID | str,
        *,
        after_request: UUID | str | None = None,
        after_message: int | None = None,
        id: UUID | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ConversationResource:
        """Create a conversation that begins with the messages of this one: all of them, or up to a place.

        ``after_request``, ``after_message``: the last request, or the last message, of which it has the messages.
        ``id``: None for a random one; a conversation that exists is returned unchanged.
        """
        body = body_of(id=id or uuid4(), metadata=metadata, after_request=after_request, after_message=after_message)
        call = Call("POST", f"{one(_PATH, conversation_id)}/branch", content=body)
        return (await self._caller.call(call)).read(ConversationResource)

    async def copy(
        self,
        conversation_id: UUID | str,
        *,
        id: UUID | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ConversationResource:
        """Create a conversation with copies of all messages of this one.

        ``id``: None for a random one; a conversation that exists is returned unchanged.
        """
        body = body_of(id=id or uuid4(), metadata=metadata)
        call = Call("POST", f"{one(_PATH, conversation_id)}/copy", content=body)
        return (await self._caller.call(call)).read(ConversationResource)

    async def delete(self, conversation_id: UUID | str) -> None:
        """Delete a conversation with its messages, and cancel its open requests."""
        await self._caller.call(Call("DELETE", one(_PATH, conversation_id), is_deletion=True))

    def list(self, *, page_size: int = 100) -> AsyncItems[ConversationResource]:
        """Iterate over the conversations, newest first. ``page_size``: 1 to 100."""
        return items_by_cursor(self._caller, _PATH, ConversationPage, {"limit": page_size})

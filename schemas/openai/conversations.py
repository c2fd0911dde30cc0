"""OpenAI's Conversations API."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.json_schema import described
from schemas.requests import Metadata

MAX_ITEMS = 20
"""Maximum number of items that one call adds."""

_ID = described("The conversation's id.", "conv_019b0a52c1d87d3e9f0a4b6c8d2e1f30")
_Items = Annotated[list[dict[str, Any]], Field(max_length=MAX_ITEMS)]
_AN_ITEM = [{"type": "message", "role": "user", "content": "What is a log?"}]
_METADATA = described("Up to 16 key-value pairs of the client's own.", {"topic": "logs"})


class CreateOpenAIConversation(BaseModel):
    """Body of OpenAI's ``POST /conversations``."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[_Items | None, described("The first items, oldest first; at most 20.", _AN_ITEM)] = None
    metadata: Annotated[Metadata | None, _METADATA] = None


class UpdateOpenAIConversation(BaseModel):
    """Body of OpenAI's ``POST /conversations/{id}``."""

    model_config = ConfigDict(extra="forbid")

    metadata: Annotated[Metadata | None, _METADATA]


class AddItems(BaseModel):
    """Body of OpenAI's ``POST /conversations/{id}/items``."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[_Items, Field(min_length=1), described("The items to add, oldest first; at most 20.", _AN_ITEM)]


class OpenAIConversation(BaseModel):
    """A conversation in OpenAI's form."""

    id: Annotated[str, _ID]
    object: Annotated[Literal["conversation"], described("Always `conversation`.")] = "conversation"
    created_at: Annotated[int, described("Unix time of its creation, in seconds.", 1_795_000_000)]
    metadata: Annotated[dict[str, str], described("As sent.", {"topic": "logs"})]


class DeletedConversation(BaseModel):
    """Response to OpenAI's ``DELETE /conversations/{id}``."""

    id: Annotated[str, _ID]
    object: Annotated[Literal["conversation.deleted"], described("Always `conversation.deleted`.")] = (
        "conversation.deleted"
    )
    deleted: Annotated[Literal[True], described("Always true.")] = True

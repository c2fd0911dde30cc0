"""Bodies of ``POST /openai/v1/chat/completions``, in the shapes of OpenAI's API ("Create chat completion").

What OpenAI's servers always send is required here even where its own types let it be absent: clients in strictly typed
languages read it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from schemas import fields
from schemas.content import OF_A_FIELD, ToolCall, absent
from schemas.generation import FinishReason, MaxTokens, Options, Priority
from schemas.json_schema import described
from schemas.requests import Messages, Metadata, ModelName, Moment, OnDisconnect

ServiceTier = Literal["auto", "default", "flex", "priority"]

TIERS: dict[str, Priority] = {"flex": 2, "priority": 8}
"""Priorities of tiers; those of the others are the default."""

_MODEL = described("Name of a model, or `agent:` and the name of an agent; absent: the default model.", "llama3")
ON_DISCONNECT = described(
    "What to do if the client closes the connection before the answer is complete: `cancel` the request (default, "
    "unless the call has an `Idempotency-Key`) or `continue`.",
    "continue",
)
SERVICE_TIER = described("`flex`: priority 2. `priority`: priority 8. Others: the default priority, 5.", "auto")
PRIORITY = described("0 to 9; higher runs first. It takes precedence over `service_tier`.", 7)
_IGNORED = described("Ignored.", "a")

_ID = described("The completion's id. It contains the request's.", "chatcmpl-7b1f0c526d4e8a309c112f8e4b6a9d01")
_CREATED = described("When the request was accepted, in seconds since 1970.", 1769860798)
_SHOWN_MODEL = described("The model that was asked for, or the default model.", "llama3")
_SHOWN_TIER = described("As sent, if it was `flex` or `priority`; otherwise `default`.", "default")
_CHOICE = described("Always 0: there is one choice.", 0)
_CALL = described("Number of the tool call within the answer, from 0.", 0)
_REASONING = described("The model's reasoning, if it was requested; absent otherwise.", "The user wants")


class StreamOptions(BaseModel):
    """What a stream contains besides the answer."""

    model_config = ConfigDict(extra="ignore")

    include_usage: Annotated[
        StrictBool | None, described("Whether to send a last chunk that has the tokens used, and no choice.", True)
    ] = None
    include_obfuscation: Annotated[StrictBool | None, described("Ignored: chunks are not padded.", False)] = None


class CreateChatCompletion(Options):
    """Body of ``POST /openai/v1/chat/completions``.

    Other fields are refused by name, unless they are null or have a neutral value, such as `n: 1`.
    """

    model_config = ConfigDict(extra="forbid")

    messages: Messages
    model: Annotated[ModelName | None, _MODEL] = None
    max_completion_tokens: Annotated[MaxTokens | None, described("Another name of `max_tokens`.", 256)] = None
    stream: Annotated[StrictBool | None, described("Answer with server-sent events.", False)] = None
    stream_options: Annotated[StreamOptions | None, described("What the stream contains besides the answer.")] = None
    metadata: Annotated[Metadata | None, fields.METADATA] = None
    store: Annotated[StrictBool | None, fields.STORE] = None
    service_tier: Annotated[ServiceTier | None, SERVICE_TIER] = None
    priority: Annotated[Priority | None, PRIORITY] = None
    deadline: Annotated[Moment | None, fields.DEADLINE] = None
    on_disconnect: Annotated[OnDisconnect | None, ON_DISCONNECT] = None
    safety_identifier: Annotated[Any, _IGNORED] = None
    prompt_cache_key: Annotated[Any, _IGNORED] = None
    prompt_cache_options: Annotated[Any, _IGNORED] = None
    prompt_cache_retention: Annotated[Any, _IGNORED] = None

    @model_validator(mode="after")
    def _one_limit(self) -> "CreateChatCompletion":
        newer, older = self.max_completion_tokens, self.max_tokens
        if None not in (newer, older) and newer != older:
            detail = "max_completion_tokens: another name of max_tokens; give only one of them"
            raise PydanticCustomError(OF_A_FIELD, detail)
        return self


class ChatMessageOut(BaseModel):
    """The answer."""

    role: Annotated[Literal["assistant"], described("The speaker.")] = "assistant"
    content: Annotated[str | None, described("The text; null if there is none.", "Hello world")]
    refusal: Annotated[str | None, described("The model's refusal to answer; null if there is none.", None)]
    tool_calls: Annotated[
        list[ToolCall] | None, described("The tool calls of the model; absent if it made no calls.")
    ] = Field(None, exclude_if=absent)
    reasoning_content: Annotated[str | None, _REASONING] = Field(None, exclude_if=absent)


class ChatChoice(BaseModel):
    """The one choice of an answer."""

    index: Annotated[Literal[0], _CHOICE] = 0
    message: Annotated[ChatMessageOut, described("What the model says.")]
    logprobs: Annotated[None, described("Always null.")] = None
    finish_reason: Annotated[FinishReason, fields.FINISH_REASON]


class PromptTokensDetails(BaseModel):
    """Details of the prompt's tokens."""

    cached_tokens: Annotated[int, described("Tokens that the provider had in its cache.", 16)] = 0
    audio_tokens: Annotated[Literal[0], described("Always 0: audio is not counted separately.")] = 0


class CompletionTokensDetails(BaseModel):
    """Details of the answer's tokens."""

    reasoning_tokens: Annotated[int, described("Tokens that were used for reasoning.", 64)] = 0
    audio_tokens: Annotated[Literal[0], described("Always 0.")] = 0
    accepted_prediction_tokens: Annotated[Literal[0], described("Always 0.")] = 0
    rejected_prediction_tokens: Annotated[Literal[0], described("Always 0.")] = 0


class CompletionUsage(BaseModel):
    """Tokens used by the attempt that answered."""

    prompt_tokens: Annotated[int, described("Tokens of the prompt.", 21)]
    completion_tokens: Annotated[int, described("Tokens of the answer.", 5)]
    total_tokens: Annotated[int, described("Both together.", 26)]
    prompt_tokens_details: Annotated[PromptTokensDetails, described("Details of `prompt_tokens`.")]
    completion_tokens_details: Annotated[CompletionTokensDetails, described("Details of `completion_tokens`.")]


class ChatCompletion(BaseModel):
    """An answer."""

    id: Annotated[str, _ID]
    object: Annotated[Literal["chat.completion"], described("Always `chat.completion`.")] = "chat.completion"
    created: Annotated[int, _CREATED]
    model: Annotated[str, _SHOWN_MODEL]
    choices: Annotated[list[ChatChoice], described("The answer, as the one choice.")]
    usage: Annotated[CompletionUsage, described("Tokens used.")]
    service_tier: Annotated[ServiceTier, _SHOWN_TIER] = "default"
    system_fingerprint: Annotated[None, described("Always null.")] = None
    metadata: Annotated[Metadata | None, described("As sent; absent if none was.", {"order": "7"})] = Field(
        None, exclude_if=absent
    )


class FunctionDelta(BaseModel):
    """A piece of a call of a function."""

    name: Annotated[str | None, described("Name of the function; only in the first piece of a call.", "weather")] = (
        Field(None, exclude_if=absent)
    )
    arguments: Annotated[str, described("The next piece of its arguments, which are JSON.", '{"city": ')] = ""


class ToolCallDelta(BaseModel):
    """A piece of a tool call."""

    index: Annotated[int, _CALL]
    id: Annotated[str | None, described("The call's id; only in its first piece.", "call_1")] = Field(
        None, exclude_if=absent
    )
    type: Annotated[Literal["function"] | None, described("Its kind; only in its first piece.")] = Field(
        None, exclude_if=absent
    )
    function: Annotated[FunctionDelta, described("The next piece of the called function's name and arguments.")]


class ChatDelta(BaseModel):
    """The next piece of an answer. It is empty in the last chunk of the answer."""

    role: Annotated[Literal["assistant"] | None, described("The speaker; only in the first chunk.")] = Field(
        None, exclude_if=absent
    )
    content: Annotated[str | None, described("The next piece of the text.", "world")] = Field(None, exclude_if=absent)
    refusal: Annotated[str | None, described("The next piece of a refusal.", "I cannot help")] = Field(
        None, exclude_if=absent
    )
    reasoning_content: Annotated[str | None, _REASONING] = Field(None, exclude_if=absent)
    tool_calls: Annotated[list[ToolCallDelta] | None, described("The next pieces of tool calls.")] = Field(
        None, exclude_if=absent
    )


class ChunkChoice(BaseModel):
    """The next piece of the one choice."""

    index: Annotated[Literal[0], _CHOICE] = 0
    delta: Annotated[ChatDelta, described("The next piece of the answer.")]
    logprobs: Annotated[None, described("Always null.")] = None
    finish_reason: Annotated[FinishReason | None, fields.FINISH_REASON]


class ChatCompletionChunk(BaseModel):
    """One event of a stream: the next piece of an answer."""

    id: Annotated[str, _ID]
    object: Annotated[Literal["chat.completion.chunk"], described("Always `chat.completion.chunk`.")]
    created: Annotated[int, _CREATED]
    model: Annotated[str, _SHOWN_MODEL]
    service_tier: Annotated[ServiceTier, _SHOWN_TIER]
    system_fingerprint: Annotated[None, described("Always null.")]
    choices: Annotated[
        list[ChunkChoice], Field(max_length=1), described("The one choice; none in the chunk with the usage.")
    ]
    usage: Annotated[
        CompletionUsage | None,
        described("Tokens used; absent unless asked for, and null in all chunks before the last one."),
    ] = Field(None, exclude_if=absent)

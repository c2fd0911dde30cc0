"""The HTTP interface between workers and the LLM service: ``POST /generate`` and ``GET /models``."""

import operator
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from schemas import fields
from schemas.content import OF_A_FIELD, DialogueMessage, Output, ResponseFormat, Text, Tool, ToolChoice, absent, neutral
from schemas.errors import ErrorCode
from schemas.json_schema import described

GenerationErrorCode = Literal[
    ErrorCode.RATE_LIMITED,
    ErrorCode.OVERLOADED,
    ErrorCode.UNAVAILABLE,
    ErrorCode.TIMEOUT,
    ErrorCode.INVALID_REQUEST,
    ErrorCode.UNSUPPORTED_PART,
    ErrorCode.UNSUPPORTED_OPTION,
    ErrorCode.CONTEXT_TOO_LONG,
    ErrorCode.UNKNOWN_MODEL,
    ErrorCode.AUTH,
    ErrorCode.CONTENT_FILTER,
    ErrorCode.BAD_UPSTREAM,
    ErrorCode.EMPTY_REPLY,
    ErrorCode.QUOTA_EXHAUSTED,
    ErrorCode.REFUSED_BY_PROVIDER,
]
# Longest body of `POST /generate`: up to 16 MiB of media of a conversation's history, or files of 20 MiB as base64,
# with all texts.
MAX_BODY_BYTES = 32 * 1024 * 1024
# Longest file that a worker sends to a model whose `max_inline_bytes` is not configured.
MAX_INLINE_BYTES = 20 * 1024 * 1024
# HTTP header of `POST /generate` with the id of the request, for the service's logs.
REQUEST_ID = "x-request-id"
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]


def _number(value: Any) -> Any:
    # pydantic would accept true as 1, and a text with a number in it.
    if isinstance(value, bool | str):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic wants a ValueError
    return value


def _listed(value: Any) -> Any:
    # OpenAI's API also accepts a single text.
    if not isinstance(value, str | list | None):
        raise ValueError("must be a text or a list of texts")  # noqa: TRY004  pydantic wants a ValueError
    return [value] if isinstance(value, str) else value


_StopText = Annotated[str, Field(min_length=1, max_length=256)]
_StopTexts = Annotated[list[_StopText], Field(max_length=16)]
ANumber = BeforeValidator(_number)
Priority = Annotated[int, Field(ge=0, le=9), ANumber]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000), ANumber]
Temperature = Annotated[
    Annotated[float, Field(ge=0, le=2), ANumber] | None,
    described("Randomness: 0 is the most predictable, 2 the most varied.", 0.7),
]
_Penalty = Annotated[float, Field(ge=-2, le=2), ANumber] | None
FrequencyPenalty = Annotated[
    _Penalty,
    described("Above 0, a token becomes less likely with each time that it has occurred; below 0, more likely.", 0.5),
]
PresencePenalty = Annotated[
    _Penalty, described("Above 0, tokens that have occurred become less likely; below 0, more likely.", 0.5)
]
TopP = Annotated[
    Annotated[float, Field(gt=0, le=1), ANumber] | None,
    described("Nucleus sampling: only the most likely tokens, which together have this probability, are used.", 0.9),
]


def _unset(value: object) -> bool:
    """Whether leaving the field out means the same, so that bodies without it stay as they were."""
    return value in (None, "", [])


class ChatMessage(DialogueMessage):
    """One message of a dialogue, as the LLM service gets it."""

    state: Annotated[
        dict[str, Any] | None,
        described("What the provider sent with this answer for later calls; it is returned to it unchanged."),
    ] = None


class Sampling(BaseModel):
    """How the model chooses its words. An absent field means the provider's default."""

    temperature: Temperature = None
    top_p: TopP = None
    max_tokens: Annotated[
        MaxTokens | None,
        described("Maximum number of tokens in the answer; it is cut off there.", 256),
    ] = None
    stop: Annotated[
        _StopTexts | None,
        BeforeValidator(_listed, json_schema_input_type=_StopTexts | _StopText | None),
        described("Up to 16 texts. The answer ends before the first of them that the model would write.", ["\n\n"]),
    ] = None
    seed: Annotated[
        Annotated[int, Field(ge=-(2**63), lt=2**63), ANumber] | None,
        described("Equal requests with the same seed get the same answer, as far as the provider supports it.", 7),
    ] = Field(None, exclude_if=absent)
    frequency_penalty: Annotated[FrequencyPenalty, neutral(0, 0.0)] = Field(None, exclude_if=absent)
    presence_penalty: Annotated[PresencePenalty, neutral(0, 0.0)] = Field(None, exclude_if=absent)
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None,
        described("How much the model reasons before it answers, if it is able to.", "low"),
    ] = Field(None, exclude_if=absent)


def _or_text(schema: dict[str, Any]) -> None:
    # The published schema's counterpart of `neutral`.
    text = {"type": "object", "properties": {"type": {"const": "text"}}, "required": ["type"]}
    schema["anyOf"].append({**text, "additionalProperties": False})


_OR_TEXT = Field(json_schema_extra=_or_text)


class Options(Sampling):
    """What the model may and must do. An absent field means the provider's default."""

    tools: Annotated[
        Annotated[list[Tool], Field(max_length=128)] | None,
        neutral([]),
        described(
            "The functions that the model may call.",
            [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        ),
    ] = None
    tool_choice: Annotated[
        ToolChoice | None,
        described(
            "Whether the model calls tools. `none`: it calls none. `auto` (default): it decides. `required`: it calls "
            "at least one. An object names the tool that it must call.",
            "auto",
        ),
    ] = None
    parallel_tool_calls: Annotated[
        StrictBool | None, described("Whether the model may call several tools in one answer.", False)
    ] = None
    response_format: Annotated[
        ResponseFormat | None,
        neutral({"type": "text"}),
        _OR_TEXT,
        described("The form of the answer: a JSON object, or JSON that matches a schema.", {"type": "json_object"}),
    ] = None
    user: Annotated[
        Annotated[Text, Field(max_length=512)] | None,
        described("Id of the end user, by which the provider can detect abuse.", "u-17"),
    ] = None
    reasoning: Annotated[
        Literal["include"] | None, described("`include`: return the model's reasoning with the answer.", "include")
    ] = None

    @model_validator(mode="after")
    def _choice_among_tools(self) -> "Options":
        choice = self.tool_choice
        if self.tools is None:
            if choice not in (None, "none", "auto"):
                raise PydanticCustomError(OF_A_FIELD, "tool_choice: there are no tools to choose from")
            if choice or self.parallel_tool_calls is not None:
                self.tool_choice = self.parallel_tool_calls = None
        elif isinstance(choice, dict) and choice["function"]["name"] not in _names(self.tools):
            raise PydanticCustomError(OF_A_FIELD, "tool_choice: names a function that is not among the tools")
        return self


def _names(tools: Sequence[Tool]) -> set[str]:
    return {tool["function"]["name"] for tool in tools}


class GenerateRequest(Options):
    """Body of ``POST /generate``. Unknown fields are ignored, as in the v0 API."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[
        str, Field(max_length=200), described("Name or alias of the model; empty: the service's default.", "llama3")
    ] = ""
    messages: Annotated[list[ChatMessage], Field(min_length=1), described("The dialogue, oldest first.")]
    stream: Annotated[bool, described("Stream the answer as NDJSON lines.", True)] = False

    @property
    def text_only(self) -> bool:
        """Whether the answer can only be a text, as in release 0.1.0: its stream then has no other pieces."""
        return not (self.tools or self.response_format or self.reasoning) and all(each.plain for each in self.messages)


class Usage(BaseModel):
    """Tokens used by one attempt. Fields without a value are left out."""

    input_tokens: Annotated[int, Field(ge=0), described("Tokens of the prompt.", 21)] = 0
    output_tokens: Annotated[int, Field(ge=0), described("Tokens of the answer.", 5)] = 0
    cached_tokens: Annotated[
        Annotated[int, Field(ge=0)] | None, described("Tokens of the prompt that the provider had in its cache.", 16)
    ] = Field(None, exclude_if=absent)
    reasoning_tokens: Annotated[
        Annotated[int, Field(ge=0)] | None, described("Tokens of the answer that were used for reasoning.", 64)
    ] = Field(None, exclude_if=absent)
    cost: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
        described("Price in US dollars, if the model has one.", 0.00031),
    ] = Field(None, exclude_if=_unset)
    model: Annotated[
        str | None, described("The model that answered, if it is not the one that was requested.", "llama3")
    ] = Field(None, exclude_if=_unset)


class GenerateReply(BaseModel):
    """Response to a ``POST /generate`` without ``stream``."""

    content: Annotated[str, described("The text of the answer.", "Hello world")]
    usage: Annotated[Usage, described("Tokens used.")]
    finish_reason: Annotated[FinishReason, fields.FINISH_REASON] = "stop"
    output: Output = None


class GenerationError(BaseModel):
    """Why a generation failed."""

    code: Annotated[GenerationErrorCode, fields.CODE]
    detail: Annotated[str, fields.DETAIL]
    retry_after: Annotated[
        Annotated[float, Field(ge=0)] | None,
        described("Seconds to wait before the next call; null if the provider did not name a time.", 2.5),
    ] = None


class DeltaLine(BaseModel):
    """A line of the NDJSON stream: a piece of text."""

    delta: Annotated[str, described("The next piece of the text.", "world")]


class ToolHead(BaseModel):
    """A tool call that begins."""

    index: Annotated[int, Field(ge=0), described("Number of the call within the answer, from 0.", 0)]
    id: Annotated[str, described("The call's id.", "call_1")]
    name: Annotated[str, described("Name of the function.", "weather")]


class ToolLine(BaseModel):
    """A line of the NDJSON stream: a tool call begins. The calls before it are complete."""

    tool: Annotated[ToolHead, described("Which call begins.")]


class ToolPiece(BaseModel):
    """A piece of the arguments of a tool call."""

    index: Annotated[int, Field(ge=0), described("Number of the call within the answer, from 0.", 0)]
    text: Annotated[str, described("The next piece of its arguments, which are JSON.", '{"city": ')]


class ToolDeltaLine(BaseModel):
    """A line of the NDJSON stream: a piece of the arguments of the call that began last."""

    tool_delta: Annotated[ToolPiece, described("The piece.")]


class ReasoningLine(BaseModel):
    """A line of the NDJSON stream: a piece of the model's reasoning, if it was asked for."""

    reasoning: Annotated[str, described("The next piece of the reasoning.", "The user wants")]


class RefusalLine(BaseModel):
    """A line of the NDJSON stream: a piece of the model's refusal to answer."""

    refusal: Annotated[str, described("The next piece of the refusal.", "I cannot help")]


class StateLine(BaseModel):
    """A line of the NDJSON stream: data to send back with this answer in later requests to the same provider."""

    state: Annotated[dict[str, Any], described("It belongs to the provider and is not interpreted.")]


class Restart(BaseModel):
    """The model that starts over."""

    model: Annotated[str, described("Name of the model.", "llama3")]


class RestartLine(BaseModel):
    """A line of the NDJSON stream: discard the text so far, a fallback model starts over."""

    restart: Annotated[Restart, described("Which model starts over.")]


class DoneLine(BaseModel):
    """Last line of a complete stream. A stream that ends without it was cut off."""

    done: Annotated[Literal[True], described("Always true.")] = True
    usage: Annotated[Usage, described("Tokens used.")]
    finish_reason: Annotated[FinishReason, fields.FINISH_REASON] = "stop"


class ErrorLine(BaseModel):
    """Last line of a stream that failed after it started."""

    error: Annotated[GenerationError, described("Why it failed.")]


class Price(BaseModel):
    """The price of tokens in US dollars per million."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Annotated[float, Field(ge=0, allow_inf_nan=False), described("Price of a million prompt tokens.", 3.0)]
    output: Annotated[float, Field(ge=0, allow_inf_nan=False), described("Price of a million answer tokens.", 15.0)]


_Count = Annotated[int, Field(ge=1)]


class ModelInfo(BaseModel):
    """One model of ``GET /models``. What is not configured or was not checked is absent."""

    name: Annotated[str, described("The name by which requests name it.", "llama3")]
    aliases: Annotated[list[str], described("Other names for it.", ["default"])] = []
    provider: Annotated[str, described("The provider that runs it.", "ollama")]
    context_tokens: Annotated[_Count, described("Maximum number of tokens of prompt and answer together.", 8192)]
    max_output_tokens: Annotated[_Count, described("Maximum number of tokens in an answer.", 1024)]
    fallbacks: Annotated[list[str], described("Models that are tried if it fails, in order.", ["small"])] = Field(
        [], exclude_if=_unset
    )
    price: Annotated[Price | None, described("The price of its tokens.")] = Field(None, exclude_if=_unset)
    max_concurrency: Annotated[_Count | None, described("Maximum number of calls at the same time.", 4)] = Field(
        None, exclude_if=_unset
    )
    requests_per_minute: Annotated[_Count | None, described("Maximum number of calls per minute.", 60)] = Field(
        None, exclude_if=_unset
    )
    structured_output: Annotated[
        bool, described("Whether the provider can enforce a JSON Schema for its answers.", True)
    ] = Field(False, exclude_if=partial(operator.is_, False))
    max_inline_bytes: Annotated[
        _Count | None, described("Maximum length in bytes of a file in a message; absent: 20 MiB.", 5_000_000)
    ] = Field(None, exclude_if=_unset)
    media_urls: Annotated[
        list[Literal["image_url", "file"]],
        described("Types of parts for which a larger file is passed on by its URL.", ["image_url"]),
    ] = Field([], exclude_if=_unset)
    reachable: Annotated[
        bool | None, described("Whether its provider responds now; only with `?check=true`.", True)
    ] = Field(None, exclude_if=_unset)
    detail: Annotated[str, described("Why it is not reachable.")] = Field("", exclude_if=_unset)


class ModelList(BaseModel):
    """Response to ``GET /models``."""

    data: Annotated[list[ModelInfo], described("The configured models.")]
    default: Annotated[str, described("The model of requests that name none.", "llama3")] = ""
    other: Annotated[
        ModelInfo | None, described("Limits of every model that is not listed; null: they are unknown.")
    ] = None

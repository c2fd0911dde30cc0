"""The HTTP interface between workers and the LLM service: ``POST /generate`` and ``GET /models``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas import fields
from schemas.errors import ErrorCode
from schemas.json_schema import described

GenerationErrorCode = Literal[
    ErrorCode.RATE_LIMITED,
    ErrorCode.OVERLOADED,
    ErrorCode.UNAVAILABLE,
    ErrorCode.TIMEOUT,
    ErrorCode.INVALID_REQUEST,
    ErrorCode.CONTEXT_TOO_LONG,
    ErrorCode.UNKNOWN_MODEL,
    ErrorCode.AUTH,
    ErrorCode.CONTENT_FILTER,
    ErrorCode.BAD_UPSTREAM,
    ErrorCode.EMPTY_REPLY,
    ErrorCode.QUOTA_EXHAUSTED,
    ErrorCode.REFUSED_BY_PROVIDER,
]
# HTTP header of `POST /generate` with the id of the request, for the service's logs.
REQUEST_ID = "x-request-id"
FinishReason = Literal["stop", "length", "content_filter"]


def _number(value: Any) -> Any:
    # pydantic would accept true as 1, and a text with a number in it.
    if isinstance(value, bool | str):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic wants a ValueError
    return value


ANumber = BeforeValidator(_number)
Priority = Annotated[int, Field(ge=0, le=9), ANumber]


def _unset(value: object) -> bool:
    """Whether leaving the field out means the same, so that bodies without it stay as they were."""
    return value in (None, "", [])


class ChatMessage(BaseModel):
    """One message of a dialogue."""

    model_config = ConfigDict(extra="ignore")

    role: Annotated[Literal["system", "user", "assistant"], described("The speaker.", "user")]
    content: Annotated[str, described("The text of the message.", "What is a log?")]


class Sampling(BaseModel):
    """How the model chooses its words. An absent field means the provider's default."""

    temperature: Annotated[
        Annotated[float, Field(ge=0, le=2), ANumber] | None,
        described("Randomness: 0 is the most predictable, 2 the most varied.", 0.7),
    ] = None
    top_p: Annotated[
        Annotated[float, Field(gt=0, le=1), ANumber] | None,
        described("Nucleus sampling: choose among the tokens that make up this share of the probability.", 0.9),
    ] = None
    max_tokens: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000), ANumber] | None,
        described("Maximum number of tokens in the answer; it is cut off there.", 256),
    ] = None
    stop: Annotated[
        Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)] | None,
        described("The answer ends before any of these texts.", ["\n\n"]),
    ] = None


class GenerateRequest(Sampling):
    """Body of ``POST /generate``. Unknown fields are ignored, as in the v0 API."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[
        str, Field(max_length=200), described("Name or alias of the model; empty: the service's default.", "llama3")
    ] = ""
    messages: Annotated[list[ChatMessage], Field(min_length=1), described("The dialogue, oldest first.")]
    stream: Annotated[bool, described("Stream the answer as NDJSON lines.", True)] = False


class Usage(BaseModel):
    """Tokens used by one attempt. Null values are left out wherever it is sent."""

    input_tokens: Annotated[int, Field(ge=0), described("Tokens of the prompt.", 21)] = 0
    output_tokens: Annotated[int, Field(ge=0), described("Tokens of the answer.", 5)] = 0
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


class GenerationError(BaseModel):
    """Why a generation failed."""

    code: Annotated[GenerationErrorCode, fields.CODE]
    detail: Annotated[str, fields.DETAIL]
    retry_after: Annotated[
        Annotated[float, Field(ge=0)] | None, described("Seconds to wait, if the provider said so.", 2.5)
    ] = None


class DeltaLine(BaseModel):
    """A line of the NDJSON stream: a piece of text."""

    delta: Annotated[str, described("The next piece of the text.", "world")]


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

    input: Annotated[float, Field(ge=0, allow_inf_nan=False), described("Of prompt tokens.", 3.0)]
    output: Annotated[float, Field(ge=0, allow_inf_nan=False), described("Of answer tokens.", 15.0)]


_Count = Annotated[int, Field(ge=1)]


class ModelInfo(BaseModel):
    """One model of ``GET /models``. What is not configured or was not checked is absent."""

    name: Annotated[str, described("The name under which requests ask for it.", "llama3")]
    aliases: Annotated[list[str], described("Other names for it.", ["default"])] = []
    provider: Annotated[str, described("Where it runs.", "ollama")]
    context_tokens: Annotated[_Count, described("Maximum number of tokens of prompt and answer together.", 8192)]
    max_output_tokens: Annotated[_Count, described("Maximum number of tokens in an answer.", 1024)]
    fallbacks: Annotated[list[str], described("Models to try in its place, in order.", ["small"])] = Field(
        [], exclude_if=_unset
    )
    price: Annotated[Price | None, described("What its tokens cost.")] = Field(None, exclude_if=_unset)
    max_concurrency: Annotated[_Count | None, described("Maximum number of generations at a time.", 4)] = Field(
        None, exclude_if=_unset
    )
    requests_per_minute: Annotated[_Count | None, described("Maximum number of calls per minute.", 60)] = Field(
        None, exclude_if=_unset
    )
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

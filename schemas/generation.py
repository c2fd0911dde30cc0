"""What a worker and the LLM service say to each other over HTTP: ``POST /generate`` and ``GET /models``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas.errors import ErrorCode

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
# The HTTP header in which a caller of `POST /generate` names the request that it is about, for the service's logs.
REQUEST_ID = "x-request-id"
FinishReason = Literal["stop", "length", "content_filter"]


def _number(value: Any) -> Any:
    # pydantic takes true for 1, and a text for the number in it.
    if isinstance(value, bool | str):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic wants a ValueError
    return value


ANumber = BeforeValidator(_number)


def _unset(value: object) -> bool:
    """Whether a field says no more than one that is not there: bodies without news stay as they were."""
    return value in (None, "", [])


class ChatMessage(BaseModel):
    """One message of a dialogue."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(BaseModel):
    """How the model chooses its words; a field left out keeps the provider's own default."""

    temperature: Annotated[float, Field(ge=0, le=2), ANumber] | None = None
    top_p: Annotated[float, Field(gt=0, le=1), ANumber] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000), ANumber] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)] | None = None


class GenerateRequest(Sampling):
    """Body of ``POST /generate``. Unknown fields are ignored, as the old service did."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[str, Field(max_length=200, description="Empty means the service's default.")] = ""
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool = False


class Usage(BaseModel):
    """Tokens that one attempt used. ``cost`` is in US dollars; what is null is left out on every wire."""

    input_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] = 0
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, exclude_if=_unset, description="US dollars, where the model has a price."
    )
    model: str | None = Field(
        None, exclude_if=_unset, description="The model that answered, where it is not the one that was asked."
    )


class GenerateReply(BaseModel):
    """Answer without ``stream``."""

    content: str
    usage: Usage
    finish_reason: FinishReason = "stop"


class GenerationError(BaseModel):
    """Why a generation failed. ``retry_after`` is in seconds, passed on from upstream."""

    code: GenerationErrorCode
    detail: str
    retry_after: Annotated[float, Field(ge=0)] | None = None


class DeltaLine(BaseModel):
    """A line of the NDJSON stream: a piece of text."""

    delta: str


class Restart(BaseModel):
    """Who begins anew."""

    model: str


class RestartLine(BaseModel):
    """A line of the NDJSON stream: the text so far is void, another model begins from the beginning."""

    restart: Restart


class DoneLine(BaseModel):
    """Last line of a whole stream. A stream without it is broken."""

    done: Literal[True] = True
    usage: Usage
    finish_reason: FinishReason = "stop"


class ErrorLine(BaseModel):
    """Last line of a stream that failed after it began."""

    error: GenerationError


class Price(BaseModel):
    """What tokens cost: US dollars per million."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ModelInfo(BaseModel):
    """One line of ``GET /models``. What was not configured or not looked at is left out."""

    name: str
    aliases: list[str] = []
    provider: str
    context_tokens: Annotated[int, Field(ge=1)]
    max_output_tokens: Annotated[int, Field(ge=1)]
    fallbacks: list[str] = Field([], exclude_if=_unset, description="Models that are asked in its place, in order.")
    price: Price | None = Field(None, exclude_if=_unset)
    max_concurrency: Annotated[int, Field(ge=1)] | None = Field(None, exclude_if=_unset)
    requests_per_minute: Annotated[int, Field(ge=1)] | None = Field(None, exclude_if=_unset)
    reachable: bool | None = Field(
        None, exclude_if=_unset, description="Whether its provider answers now; only with `?check=true`."
    )
    detail: str = Field("", exclude_if=_unset, description="Why it is not reachable.")


class ModelList(BaseModel):
    """Answer of ``GET /models``."""

    data: list[ModelInfo]
    default: str = Field("", description="Model of a request that names none.")
    other: ModelInfo | None = Field(
        None, description="Limits of every name that is not listed; null: they are unknown."
    )

"""OpenAI's Responses API: the body of a call, what a record keeps of it, and the response object."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from schemas import fields
from schemas.content import absent, storable
from schemas.generation import FrequencyPenalty, MaxTokens, PresencePenalty, Priority, Temperature, TopP
from schemas.json_schema import described
from schemas.openai.chat import ON_DISCONNECT, PRIORITY, SERVICE_TIER, ServiceTier
from schemas.requests import Metadata, Moment, OnDisconnect

_Text = Annotated[str, AfterValidator(storable)]
_Label = Annotated[_Text, Field(max_length=512)]
_Id = Annotated[str, Field(max_length=512)]
_A_RESPONSE = "resp_019b0a52c1d88d3e9f0a4b6c8d2e1f30"
AN_ITEM = "msg_019b0a52c1d88d3e9f0a4b6c8d2e1f300000"
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
Summary = Literal["auto", "concise", "detailed"]
Truncation = Literal["auto", "disabled"]
Include = Literal["reasoning.encrypted_content"]

# Parameters that are not offered, with the values that mean the same as leaving them out.
NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "access_programs": ({},),
    "background_options": ({},),
    "context_management": ([],),
    "image": ({},),
    "max_tool_calls": (),
    "moderation": (),
    "prompt": (),
    "top_logprobs": (0,),
}
# Hints for caches of the provider and for the encoding of a stream. Without them the answer is the same.
IGNORED = frozenset({"prompt_cache_options", "prompt_cache_retention", "stream_options"})


class Reasoning(BaseModel):
    """How the model reasons."""

    model_config = ConfigDict(extra="ignore")

    effort: Annotated[
        Effort | None, described("How much the model reasons before it answers, if it is able to.", "low")
    ] = None
    summary: Annotated[
        Summary | None,
        described("If it is set, whatever its value, the answer contains the model's reasoning.", "auto"),
    ] = None
    generate_summary: Annotated[Summary | None, described("The former name of `summary`.")] = None


class TextOptions(BaseModel):
    """The format of the answer's text."""

    model_config = ConfigDict(extra="ignore")

    format: Annotated[
        dict[str, Any] | None,
        described("`text`, `json_object`, or `json_schema` with `name` and `schema`.", {"type": "text"}),
    ] = None
    verbosity: Annotated[Literal["low", "medium", "high"] | None, described("Only `medium` is offered.")] = None


class ConversationRef(BaseModel):
    """A conversation by its id."""

    id: Annotated[_Id, described("The conversation's id.", "conv_019b0a52c1d87d3e9f0a4b6c8d2e1f30")]


class CreateResponse(BaseModel):
    """Body of ``POST /openai/v1/responses``. Parameters that are not offered are refused by name."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[
        Annotated[_Text, Field(max_length=200)] | None,
        described("Name of a model, or `agent:` and the name of an agent; null: the default model.", "llama3"),
    ] = None
    input: Annotated[
        _Text | list[dict[str, Any]] | None, described("A text, or a list of items, oldest first.", "What is a log?")
    ] = None
    instructions: Annotated[
        _Text | None, described("Instructions before the context. They apply to this response alone.", "Be brief.")
    ] = None
    previous_response_id: Annotated[
        _Id | None, described("The completed response to continue from; not together with `conversation`.", _A_RESPONSE)
    ] = None
    conversation: Annotated[
        Annotated[_Id, Field(min_length=1)] | ConversationRef | None,
        described(
            "The conversation to continue: its items are the context, and the items of this response are added to it.",
            "conv_019b0a52c1d87d3e9f0a4b6c8d2e1f30",
        ),
    ] = None
    store: Annotated[
        StrictBool | None, described("False: the response is not kept after it has ended; not with `background`.", True)
    ] = None
    stream: Annotated[StrictBool | None, described("Answer with server-sent events.", False)] = None
    background: Annotated[StrictBool | None, described("Respond at once; fetch the response later.", False)] = None
    tools: Annotated[
        Annotated[list[dict[str, Any]], Field(max_length=128)] | None,
        described("The functions that the model may call.", [{"type": "function", "name": "weather"}]),
    ] = None
    tool_choice: Annotated[
        str | dict[str, Any] | None, described("`none`, `auto`, `required`, or the function to call.", "auto")
    ] = None
    parallel_tool_calls: Annotated[
        StrictBool | None, described("Whether the model may call several tools at once.", True)
    ] = None
    text: Annotated[TextOptions | None, described("The format of the answer's text.")] = None
    reasoning: Annotated[Reasoning | None, described("How the model reasons.")] = None
    max_output_tokens: Annotated[
        MaxTokens | None,
        described("Maximum number of tokens in the answer; it is cut off there.", 256),
    ] = None
    temperature: Temperature = None
    top_p: TopP = None
    presence_penalty: PresencePenalty = None
    frequency_penalty: FrequencyPenalty = None
    truncation: Annotated[
        Truncation | None,
        described(
            "What happens if the input alone does not fit into the model's context. `auto`: its oldest items are left "
            "out. `disabled` (default): the response fails. Of earlier items, only those that fit are ever sent.",
            "disabled",
        ),
    ] = None
    include: Annotated[list[Include] | None, described("Accepted; it does not change the answer.")] = None
    metadata: Annotated[Metadata | None, described("Up to 16 key-value pairs of the client's own.")] = None
    service_tier: Annotated[ServiceTier | None, SERVICE_TIER] = None
    user: Annotated[_Label | None, described("Id of the end user, by which the provider can detect abuse.", "u-17")] = (
        None
    )
    safety_identifier: Annotated[_Label | None, described("The newer name of `user`.", "u-17")] = None
    prompt_cache_key: Annotated[
        _Label | None, described("Returned with the response; it has no other effect.", "chat-7")
    ] = None
    priority: Annotated[Priority | None, PRIORITY] = None
    deadline: Annotated[Moment | None, fields.DEADLINE] = None
    on_disconnect: Annotated[OnDisconnect | None, ON_DISCONNECT] = None


class AskedResponse(BaseModel):
    """What a record keeps to show a response as it was asked for, beside the body itself: its ``asked``.

    ``instructions``: the first message is the instructions. ``conversation``: the response belongs to one that it
    named. ``model``: as it was asked for, if it names an agent.
    """

    model_config = ConfigDict(extra="ignore")

    model: Annotated[str | None, Field(exclude_if=absent)] = None
    instructions: Annotated[bool | None, Field(exclude_if=absent)] = None
    background: Annotated[bool | None, Field(exclude_if=absent)] = None
    conversation: Annotated[bool | None, Field(exclude_if=absent)] = None
    previous_response_id: Annotated[str | None, Field(exclude_if=absent)] = None
    truncation: Annotated[Truncation | None, Field(exclude_if=absent)] = None
    tool_choice: Annotated[str | None, Field(exclude_if=absent)] = None
    parallel_tool_calls: Annotated[bool | None, Field(exclude_if=absent)] = None
    summary: Annotated[Summary | None, Field(exclude_if=absent)] = None
    service_tier: Annotated[ServiceTier | None, Field(exclude_if=absent)] = None
    user: Annotated[str | None, Field(exclude_if=absent)] = None
    safety_identifier: Annotated[str | None, Field(exclude_if=absent)] = None
    prompt_cache_key: Annotated[str | None, Field(exclude_if=absent)] = None


ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class InputTokensDetails(BaseModel):
    """Details of the prompt's tokens."""

    cached_tokens: Annotated[int, described("Tokens that the provider had in its cache.", 0)] = 0
    cache_write_tokens: Annotated[int, described("Always 0: it is not known.", 0)] = 0


class OutputTokensDetails(BaseModel):
    """Details of the answer's tokens."""

    reasoning_tokens: Annotated[int, described("Tokens that were used for reasoning.", 0)] = 0


class ResponseUsage(BaseModel):
    """Tokens used by a response."""

    input_tokens: Annotated[int, described("Tokens of the prompt.", 21)]
    input_tokens_details: Annotated[InputTokensDetails, described("Details of `input_tokens`.")]
    output_tokens: Annotated[int, described("Tokens of the answer.", 5)]
    output_tokens_details: Annotated[OutputTokensDetails, described("Details of `output_tokens`.")]
    total_tokens: Annotated[int, described("Both together.", 26)]


class ResponseError(BaseModel):
    """Why a response failed."""

    code: Annotated[str, described("One of the codes of OpenAI's API.", "server_error")]
    message: Annotated[
        str, described("LLM Orchestra's error code, and what went wrong.", "timeout: The model was silent")
    ]


class IncompleteDetails(BaseModel):
    """Why a response is incomplete."""

    reason: Annotated[
        Literal["max_output_tokens", "content_filter"],
        described("What cut the answer off: the token limit, or the provider's filter."),
    ]


class ShownReasoning(BaseModel):
    """How the model was asked to reason."""

    effort: Annotated[str | None, described("As sent.", "low")] = None
    summary: Annotated[str | None, described("As sent.", "auto")] = None


class ResponseObject(BaseModel):
    """A response. Every field is always present, except ``conversation`` and ``user``."""

    id: Annotated[str, described("The response's id.", _A_RESPONSE)]
    object: Annotated[Literal["response"], described("Always `response`.")] = "response"
    created_at: Annotated[int, described("Unix time of its creation, in seconds.", 1_795_000_000)]
    status: Annotated[ResponseStatus, described("Its state.")]
    background: Annotated[bool, described("Whether it was created in the background.", False)] = False
    completed_at: Annotated[
        int | None, described("Unix time of its end, in seconds; null unless `status` is `completed`.", 1_795_000_003)
    ] = None
    error: Annotated[ResponseError | None, described("Why it failed; null unless `status` is `failed`.")] = None
    incomplete_details: Annotated[
        IncompleteDetails | None, described("Why it is incomplete; null unless `status` is `incomplete`.")
    ] = None
    instructions: Annotated[str | None, described("As sent.", "Be brief.")] = None
    max_output_tokens: Annotated[int | None, described("As sent.", 256)] = None
    max_tool_calls: Annotated[None, described("Always null.")] = None
    model: Annotated[str, described("The model that was requested, or the default model.", "llama3")]
    output: Annotated[list[dict[str, Any]], described("The items of the answer, in order.", [])] = []
    parallel_tool_calls: Annotated[bool, described("As sent.", True)] = True
    previous_response_id: Annotated[str | None, described("As sent.", _A_RESPONSE)] = None
    prompt_cache_key: Annotated[str | None, described("As sent.", "chat-7")] = None
    reasoning: Annotated[ShownReasoning | None, described("How the model was asked to reason.")]
    safety_identifier: Annotated[str | None, described("As sent.", "u-17")] = None
    service_tier: Annotated[str, described("As sent; `default` for `auto`.", "default")] = "default"
    store: Annotated[bool, described("As sent.", True)] = True
    temperature: Annotated[float, described("As sent; 1 if it was left out.", 1.0)] = 1.0
    text: Annotated[dict[str, Any], described("The format of the answer's text.", {"format": {"type": "text"}})]
    tool_choice: Annotated[str | dict[str, Any], described("As sent.", "auto")] = "auto"
    tools: Annotated[list[dict[str, Any]], described("As sent.", [])] = []
    top_logprobs: Annotated[int, described("Always 0.", 0)] = 0
    top_p: Annotated[float, described("As sent; 1 if it was left out.", 1.0)] = 1.0
    presence_penalty: Annotated[float, described("As sent; 0 if it was left out.", 0.0)] = 0.0
    frequency_penalty: Annotated[float, described("As sent; 0 if it was left out.", 0.0)] = 0.0
    truncation: Annotated[Truncation, described("As sent.")] = "disabled"
    usage: Annotated[
        ResponseUsage | None, described("Tokens used; null unless `status` is `completed` or `incomplete`.")
    ] = None
    metadata: Annotated[dict[str, str], described("As sent.", {"topic": "logs"})] = {}
    conversation: Annotated[
        ConversationRef | None, described("The conversation that the call named; absent otherwise.")
    ] = Field(None, exclude_if=absent)
    user: Annotated[str | None, described("As sent.", "u-17")] = Field(None, exclude_if=absent)


class ResponseEvent(BaseModel):
    """An event of a response. Each type of event has more fields."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, described("Type of the event.", "response.output_text.delta")]
    sequence_number: Annotated[int, described("Number of the event, the same in every stream of the response.", 4)]


class DeletedResponse(BaseModel):
    """Response to a ``DELETE /responses/{id}``."""

    id: Annotated[str, described("The response's id.", _A_RESPONSE)]
    object: Annotated[Literal["response"], described("Always `response`.")] = "response"
    deleted: Annotated[Literal[True], described("Always true.")] = True


class ItemList(BaseModel):
    """A page of items. ``first_id`` and ``last_id`` are absent if it is empty."""

    object: Annotated[Literal["list"], described("Always `list`.")] = "list"
    data: Annotated[list[dict[str, Any]], described("The items.", [])]
    has_more: Annotated[bool, described("Whether there are more items after these.", False)]
    first_id: Annotated[str | None, described("Id of the first item.", AN_ITEM)] = Field(None, exclude_if=absent)
    last_id: Annotated[str | None, described("Id of the last item, the `after` of the next page.", AN_ITEM)] = Field(
        None, exclude_if=absent
    )

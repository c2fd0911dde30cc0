"""The response object of OpenAI's Responses API, from a request's body and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.following.live import Ending
from gateway.openai import ids
from gateway.openai.errors import in_responses
from gateway.openai.items import output_items
from schemas.api.requests import RequestResource
from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage
from schemas.openai.responses import (
    AskedResponse,
    ConversationRef,
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    ResponseError,
    ResponseObject,
    ResponseStatus,
    ResponseUsage,
    ShownReasoning,
)
from schemas.replies import RequestError
from schemas.status import Status

_STATUSES: dict[Status, ResponseStatus] = {
    Status.PENDING: "queued",
    Status.IN_PROGRESS: "in_progress",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.EXPIRED: "failed",
    Status.CANCELLED: "cancelled",
}
_REASONS: dict[FinishReason | None, IncompleteDetails] = {
    "length": IncompleteDetails(reason="max_output_tokens"),
    "content_filter": IncompleteDetails(reason="content_filter"),
}
# OpenAI's list of codes is closed, and strict clients know only that; ours is in the message.
_CODES = {
    ErrorCode.RATE_LIMITED: "rate_limit_exceeded",
    ErrorCode.QUOTA_EXHAUSTED: "rate_limit_exceeded",
    ErrorCode.INVALID_REQUEST: "invalid_prompt",
    ErrorCode.UNSUPPORTED_PART: "invalid_prompt",
    ErrorCode.UNSUPPORTED_OPTION: "invalid_prompt",
    ErrorCode.TOOL_RESULTS_MISSING: "invalid_prompt",
    ErrorCode.CONTEXT_TOO_LONG: "invalid_prompt",
    ErrorCode.CONTENT_FILTER: "invalid_prompt",
}


@dataclass(frozen=True)
class AskedFor:
    """A response as it was asked for. ``body``: of its record, as JSON; its messages are not needed.

    ``created_at``: Unix time. ``default_model``: of requests that name none.
    """

    id: UUID
    conversation_id: UUID | None
    body: Mapping[str, Any]
    instructions: str | None
    created_at: int
    default_model: str

    @property
    def asked(self) -> AskedResponse:
        """What the record keeps of the call beside the body itself."""
        return AskedResponse.model_validate(self.body.get("asked") or {})

    def shown(
        self,
        status: ResponseStatus,
        output: list[dict[str, Any]] | None = None,
        *,
        usage: Usage | None = None,
        error: RequestError | None = None,
        reason: FinishReason | None = None,
        completed_at: int | None = None,
    ) -> ResponseObject:
        """The response in this state. ``reason``: why its answer ended."""
        body, asked = self.body, self.asked
        incomplete = _REASONS.get(reason) if status == "incomplete" else None
        return ResponseObject(
            id=ids.spell("resp_", self.id),
            created_at=self.created_at,
            status=status,
            background=asked.background or False,
            completed_at=completed_at if status == "completed" else None,
            error=_error(error) if status == "failed" else None,
            incomplete_details=incomplete,
            instructions=self.instructions,
            max_output_tokens=body.get("max_tokens"),
            model=asked.model or body.get("model") or self.default_model,
            output=output or [],
            parallel_tool_calls=asked.parallel_tool_calls is not False,
            previous_response_id=asked.previous_response_id,
            prompt_cache_key=asked.prompt_cache_key,
            reasoning=ShownReasoning(effort=body.get("reasoning_effort"), summary=asked.summary),
            safety_identifier=asked.safety_identifier,
            service_tier=_tier(asked.service_tier),
            store=body.get("store") is not False,
            temperature=_or(body.get("temperature"), 1.0),
            text={"format": _format(body.get("response_format")), "verbosity": "medium"},
            tool_choice=_choice(body.get("tool_choice")) or asked.tool_choice or "auto",
            tools=[_tool(tool["function"]) for tool in body.get("tools") or ()],
            top_p=_or(body.get("top_p"), 1.0),
            presence_penalty=_or(body.get("presence_penalty"), 0.0),
            frequency_penalty=_or(body.get("frequency_penalty"), 0.0),
            truncation=asked.truncation or "disabled",
            usage=usage_of(usage) if usage and status in ("completed", "incomplete") else None,
            metadata=body.get("metadata") or {},
            conversation=self._conversation if asked.conversation else None,
            user=asked.user,
        )

    def ended(self, ending: Ending, finished_at: int | None) -> ResponseObject:
        """The response as it ended. ``finished_at``: Unix time."""
        status, reason = _STATUSES[ending.status], ending.finish_reason
        output: list[dict[str, Any]] = []
        if status == "completed":
            status = "incomplete" if reason in _REASONS else "completed"
            output = output_items(self.id, ending.reply or "", ending.output, incomplete=status == "incomplete")
        return self.shown(
            status, output, usage=ending.usage, error=error_of(ending), reason=reason, completed_at=finished_at
        )

    def stored(self, resource: RequestResource) -> ResponseObject:
        """The response as its row shows it."""
        if not resource.status.terminal:
            return self.shown(_STATUSES[resource.status])
        ending = Ending(
            resource.status, resource.attempts or 0, resource.reply, resource.usage, resource.error, resource.model,
            resource.finish_reason, resource.output,
        )  # fmt: skip
        return self.ended(ending, unix(resource.finished_at))

    @property
    def _conversation(self) -> ConversationRef | None:
        return ConversationRef(id=ids.spell("conv_", self.conversation_id)) if self.conversation_id else None


def error_of(ending: Ending) -> RequestError | None:
    """Why a request failed."""
    if ending.status is Status.EXPIRED:
        return RequestError(code=ErrorCode.EXPIRED, detail="it was not answered before its deadline")
    return ending.error


def usage_of(usage: Usage) -> ResponseUsage:
    """The tokens used, in OpenAI's shape."""
    return ResponseUsage(
        input_tokens=usage.input_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens or 0),
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning_tokens or 0),
        total_tokens=usage.input_tokens + usage.output_tokens,
    )


def unix(moment: datetime | None) -> int | None:
    """A time in whole seconds since 1970."""
    return None if moment is None else int(moment.timestamp())


def _error(error: RequestError | None) -> ResponseError:
    code, detail = (error.code, in_responses(error.detail)) if error else (ErrorCode.INTERNAL, "")
    return ResponseError(code=_CODES.get(code, "server_error"), message=f"{code}: {detail}" if detail else str(code))


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _tier(asked: str | None) -> str:
    return "default" if asked in (None, "auto") else asked


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", **{name: function.get(name) for name in names}}


def _choice(choice: Any) -> Any:
    if isinstance(choice, Mapping):
        return {"type": "function", "name": choice["function"]["name"]}
    return choice


def _format(asked: Mapping[str, Any] | None) -> dict[str, Any]:
    if asked is None:
        return {"type": "text"}
    if asked["type"] != "json_schema":
        return dict(asked)
    schema = asked["json_schema"]
    names = ("name", "description", "schema", "strict")
    return {"type": "json_schema", **{name: schema.get(name) for name in names}}

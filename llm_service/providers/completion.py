"""A chat completion of an OpenAI-compatible server, streamed or whole → its text, its usage, its end.

Everything readable is read, wherever a server puts it. The rest is an error, never an empty answer.
"""

from typing import Any

from llm_service.providers.base import EndOfText, answered, counted, estimate_tokens
from llm_service.providers.error_document import is_error
from llm_service.providers.refusals import stated
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import FinishReason, Usage

_TOOLS = ("tool_calls", "function_call")
# Fields of a message that are not part of its text. Any other field may be an answer that we cannot read.
_NO_TEXT = frozenset(
    "role name reasoning reasoning_content reasoning_details thinking thinking_blocks provider_specific_fields".split()
)
_KNOWN = _NO_TEXT | {"content", "refusal", *_TOOLS}
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning")
_TOO_LONG = ("length", "max_tokens", "model_length")
_NOT_ENDED = {
    "content_filter": ErrorCode.CONTENT_FILTER,
    "safety": ErrorCode.CONTENT_FILTER,
    "sensitive": ErrorCode.CONTENT_FILTER,
    "error": ErrorCode.BAD_UPSTREAM,
    "network_error": ErrorCode.BAD_UPSTREAM,
    # vLLM's and DeepSeek's.
    "abort": ErrorCode.BAD_UPSTREAM,
    "insufficient_system_resource": ErrorCode.OVERLOADED,
}


class Completion:
    """One answer. Feed it each document; ``finish`` is why it ended, None until the server says so."""

    def __init__(self) -> None:
        self.finish: FinishReason | None = None
        self._usage: dict[str, object] = {}
        self._spoken = self._tools = self._skipped = False

    def read(self, document: dict[str, Any]) -> str:
        """The text in a document, perhaps none. Raises `OrchestraError`, or ``TypeError`` and similar."""
        choices = document.get("choices")
        if document.get("error") or (choices is None and is_error(document)):
            raise stated(document)
        if "usage" in document and isinstance(usage := document["usage"], dict) and any(usage.values()):
            self._usage = usage
        if choices:
            choice = choices[0]
            if choice.get("index"):  # Of several choices the first is ours, wherever it is in the list.
                choice = next((each for each in choices if not each.get("index")), {})
            return self._choice(choice)
        return ""

    def ending(self, input_estimate: int, text_bytes: int) -> EndOfText:
        """How the answer ended. ``size``: bytes of its text. Raises what `answered` raises."""
        usage = Usage(
            input_tokens=counted(self._usage.get("prompt_tokens"), input_estimate),
            output_tokens=counted(self._usage.get("completion_tokens"), estimate_tokens(text_bytes)),
        )
        ending = EndOfText(usage, self.finish or "stop")
        return answered(ending, text=text_bytes > 0, tools=self._tools, skipped=self._skipped)

    def _choice(self, choice: dict[str, Any]) -> str:
        if choice.get("finish_reason"):
            self._end(choice["finish_reason"])
        delta = choice.get("delta")
        if isinstance(delta, dict) and isinstance(content := delta.get("content"), str) and content:
            self._spoken = True
            return content
        if choice.get("error"):
            raise stated(choice["error"])
        if text := self._said(delta):
            self._spoken = True
            return text
        # Some servers put pieces into ``message``; others repeat the whole text in the last one.
        return "" if self._spoken else self._said(choice.get("message")) or self._said(choice.get("text"))

    def _end(self, reason: object) -> None:
        finish = _finish(reason)
        self.finish = "length" if self.finish == "length" else finish
        self._tools = self._tools or reason in _TOOLS

    def _said(self, message: object) -> str:
        """The text of a message. Other content is noted."""
        if message is None or isinstance(message, str):
            return message or ""
        if not isinstance(message, dict):
            raise TypeError
        if not message:
            return ""
        self._tools = self._tools or any(message.get(name) for name in _TOOLS)
        self._skipped = self._skipped or any(message[name] for name in message.keys() - _KNOWN)
        return self._text(message.get("content")) or self._text(message.get("refusal"))

    def _text(self, content: object) -> str:
        """A text, or the texts among the parts of a content. Reasoning is not part of the answer."""
        if content is None or isinstance(content, str):
            return content or ""
        if not isinstance(content, list):
            raise TypeError
        return "".join([self._part(part) for part in content])

    def _part(self, part: object) -> str:
        if isinstance(part, str):
            return part
        if not isinstance(part, dict):
            raise TypeError
        kind = part.get("type")
        text = "" if kind in _THOUGHTS else part.get("text") or part.get("refusal")
        if isinstance(text, str):
            return text
        self._skipped = True
        return ""


def _finish(reason: object) -> FinishReason:
    said = str(reason).lower()
    if said in _NOT_ENDED:
        raise OrchestraError(_NOT_ENDED[said], f"The model's provider ended the answer as {said}.")
    return "length" if said in _TOO_LONG else "stop"

"""The bytes of an OpenAI-compatible answer → its text and how it ended."""

from llm_service.providers.answer_text import AnswerText
from llm_service.providers.base import EndOfText
from llm_service.providers.completion import Completion
from llm_service.providers.framing import Framing, no_answer, parsed
from llm_service.providers.refusals import stated
from orchestra.http.event_stream import SseEvent
from schemas.errors import ErrorCode, OrchestraError

_END_MARK = "[DONE]"
_WRONG_SHAPE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)


class ReplyParser:
    """One answer. Feed it all bytes, then `close` it. ``done``: the server has sent its end mark.

    Once its ``completion`` has a finish reason it is complete; after that only the usage matters.
    """

    def __init__(self, *, input_estimate: int, reply_bytes: int) -> None:
        self.done = False
        self._input_estimate = input_estimate
        self._framing = Framing(reply_bytes)
        self.completion = Completion()
        self._answer = AnswerText(reply_bytes)

    def feed(self, chunk: bytes) -> str:
        """The text that these bytes complete, perhaps none. Raises `OrchestraError`."""
        return self._answer.add("".join(map(self._text, self._framing.feed(chunk))))

    def close(self) -> str:
        """The remaining text after the last byte. Raises `OrchestraError`."""
        rest, whole = self._framing.close()
        text = ""
        if rest and whole:
            text = self._answer.add(self._whole(rest.data))
        elif rest and (rest.data == _END_MARK or _is_json(rest.data)):
            # An incomplete event is dropped, as in the standard.
            text = self._answer.add(self._text(rest))
        return text + self._answer.close()

    def ending(self) -> EndOfText:
        """How the answer ended. Raises ``bad_upstream`` if it was cut off, and what `answered` raises."""
        # Servers without finish reasons have an end mark. The end of a connection proves nothing.
        if self.completion.finish is None and not self.done:
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer was cut off.")
        return self.completion.ending(self._input_estimate, self._answer.size)

    def _text(self, event: SseEvent) -> str:
        data = event.data
        if self.done:
            return ""
        if data == _END_MARK:
            self.done = True
            return ""
        try:
            if event.name == "error":
                raise stated(parsed(data) if _is_json(data) else data)
            return self.completion.read(parsed(data))
        except _WRONG_SHAPE:
            self.done = data.strip() == _END_MARK
            # Named events, such as a ping, are not part of the answer.
            if self.done or not data.strip() or event.name != "message":
                return ""
            raise no_answer() from None

    def _whole(self, document: str) -> str:
        """The text of a document instead of a stream: the answer is complete if its JSON is."""
        try:
            answer = parsed(document)
            if isinstance(answer, list):  # Format of errors of Gemini's OpenAI-compatible server.
                answer = answer[0]
            text = self.completion.read(answer)
            if not isinstance(answer["choices"], list):
                raise TypeError
        except _WRONG_SHAPE:
            raise no_answer() from None
        self.done = True
        return text


def _is_json(data: str) -> bool:
    try:
        parsed(data)
    except (ValueError, RecursionError):
        return False
    return True

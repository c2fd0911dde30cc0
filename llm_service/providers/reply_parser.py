"""The bytes of an OpenAI-compatible answer → its pieces and how it ended."""

from collections.abc import Sequence

from llm_service.providers.answer_text import AnswerText
from llm_service.providers.assembly import Assembly
from llm_service.providers.base import Call, EndOfText, Piece
from llm_service.providers.completion import Completion, ItemCompletion
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

    def __init__(self, call: Call, *, reply_bytes: int) -> None:
        self.done = False
        self._call = call
        self._framing = Framing(reply_bytes)
        self._answer = AnswerText(reply_bytes)
        self._assembly: Assembly | None = None
        self.completion = Completion()
        if not call.text_only:
            self._assembly = Assembly(reply_bytes, reasoning=call.options.reasoning is not None)
            self.completion = ItemCompletion(self._assembly)

    def feed(self, chunk: bytes) -> Sequence[Piece]:
        """The pieces that these bytes complete, perhaps none. Raises `OrchestraError`."""
        text = "".join(map(self._text, self._framing.feed(chunk)))
        if self._assembly:
            return self._assembly.take()
        text = self._answer.add(text)
        return (text,) if text else ()

    def close(self) -> Sequence[Piece]:
        """The remaining pieces after the last byte. Raises `OrchestraError`."""
        rest, whole = self._framing.close()
        text = ""
        if rest and whole:
            text = self._whole(rest.data)
        elif rest and (rest.data == _END_MARK or _is_json(rest.data)):
            # An incomplete event is dropped, as in the standard.
            text = self._text(rest)
        if self._assembly:
            return self._closed(self._assembly)
        text = self._answer.add(text) + self._answer.close()
        return (text,) if text else ()

    def ending(self) -> EndOfText:
        """How the answer ended. Raises ``bad_upstream`` if it was cut off, and what `answered` raises."""
        # Servers without finish reasons have an end mark. The end of a connection proves nothing.
        if self.completion.finish is None and not self.done:
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer was cut off.")
        return self.completion.ending(self._call, (self._assembly or self._answer).size)

    def _closed(self, assembly: Assembly) -> Sequence[Piece]:
        cut = self.completion.finish == "length" or (self.completion.finish is None and not self.done)
        pieces: list[Piece] = [*assembly.close(cut=cut)]
        if assembly.has_calls and (state := self._call.state(self.completion.kept)):
            pieces.append(state)
        return pieces

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

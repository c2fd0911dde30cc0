"""The text of one answer, piece by piece: storable as UTF-8 and in Postgres, and of limited length."""

from llm_service.providers.base import storable
from llm_service.providers.framing import too_long


class AnswerText:
    """Call `add` with each piece from the server, then `close`. ``size``: bytes of UTF-8 so far.

    A server that splits a text by UTF-16 units may send the halves of a character in two pieces: they are joined.
    """

    def __init__(self, max_bytes: int) -> None:
        self.size = 0
        self._max_bytes = max_bytes
        self._half = ""

    def add(self, text: str) -> str:
        """The text to pass on, perhaps none. Raises ``bad_upstream`` if the answer exceeds its maximum length."""
        if self._half:
            text = self._half + text
        if "\0" in text:
            text = text.replace("\0", "\ufffd")
        try:
            self.size += len(text.encode())
        except UnicodeEncodeError:
            whole = text[:-1] if "\ud800" <= text[-1] <= "\udbff" else text
            self._half = text[len(whole) :]
            text = storable(whole)
            self.size += len(text.encode())
        if self.size > self._max_bytes:
            raise too_long()
        return text

    def close(self) -> str:
        """The replacement of a half character at the end, perhaps nothing. Raises like `add`."""
        if not self._half:
            return ""
        half, self._half = self._half, ""
        return self.add(storable(half))

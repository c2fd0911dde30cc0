"""The text of one answer, piece by piece, as UTF-8 and Postgres can hold it, and no longer than it may be."""

from llm_service.providers.base import storable
from llm_service.providers.framing import too_long


class AnswerText:
    """Give it each piece that a server tells, then `close` it. ``size``: bytes of UTF-8 so far.

    A server that cuts a text by UTF-16 units may tell a character in halves, in two pieces: they are joined.
    """

    def __init__(self, most_bytes: int) -> None:
        self.size = 0
        self._most_bytes = most_bytes
        self._half = ""

    def add(self, text: str) -> str:
        """The text to pass on, perhaps none. Raises ``bad_upstream`` when all of it is too much."""
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
        if self.size > self._most_bytes:
            raise too_long()
        return text

    def close(self) -> str:
        """What stands for a half whose other one never came, perhaps nothing. Raises as `add` does."""
        if not self._half:
            return ""
        half, self._half = self._half, ""
        return self.add(storable(half))

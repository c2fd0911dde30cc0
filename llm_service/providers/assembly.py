"""The pieces of an answer as a server sends them → the same in the order of the answer's items.

Servers mix the pieces of parallel tool calls, number all calls 0, or give them no ids. Readers get one item after the
other: while the arguments of a call are not complete JSON, all that belongs behind it waits.
"""

import re
from collections import deque
from collections.abc import Iterator
from typing import Literal
from uuid import uuid4

from llm_service.providers.answer_text import AnswerText
from llm_service.providers.framing import no_answer, parsed, too_long
from orchestra.transcript import Piece
from schemas.content import MAX_CALLS
from schemas.errors import ErrorCode, OrchestraError

# What a later request may contain (`schemas.content`): a reply with any other name or id could never be sent back.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ID = re.compile(r"[!-~]{1,512}")
Kind = Literal["text", "refusal", "reasoning"]
_KINDS: tuple[Kind, ...] = ("reasoning", "text", "refusal")
_OUTSIDE, _INSIDE = re.compile(r'["{}\[\]]'), re.compile(r'["\\]')


class Assembly:
    """One answer of at most ``max_bytes`` of UTF-8, all kinds of text and the names and ids of calls together.

    Say what arrives, then `take` what may be passed on. ``reasoning``: whether that is passed on, too.
    """

    def __init__(self, max_bytes: int, *, reasoning: bool) -> None:
        self.size = 0
        self.answered = False
        """Whether there is any answer: a text, a refusal or a call."""
        self._max_bytes = max_bytes
        self._reasoning = reasoning
        self._texts = {kind: AnswerText(max_bytes) for kind in _KINDS}
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._waiting: deque[_Said | _Call] = deque()

    @property
    def has_calls(self) -> bool:
        """Whether the model called a tool."""
        return bool(self._calls)

    def say(self, kind: Kind, text: str) -> None:
        """A piece of a text, perhaps an empty one. Raises ``bad_upstream`` if the answer exceeds its limit."""
        if text:
            self._said(kind, self._added(self._texts[kind], text))

    def call(self, place: int | None, id: str | None, name: str | None, arguments: str) -> str:
        """A piece of a tool call, as the server numbers and names it; returns the id that the call has here.

        Raises ``bad_upstream`` for too many calls, too long an answer, a name that no tool can have, and for arguments
        of a call behind which others were passed on already.
        """
        call = self._found(place, id, name, arguments) or self._begun(place, id)
        if name and not call.name:
            if not _NAME.fullmatch(name):
                raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model called a tool by a name that none can have.")
            call.name = name
            self.count(len(name))
        if arguments:
            call.add(self._added(call.text, arguments))
        return call.id

    def count(self, size: int) -> None:
        """Count further bytes, of data that is kept with the answer, towards its limit. Raises ``bad_upstream``."""
        self.size += size
        if self.size > self._max_bytes:
            raise too_long()

    def take(self) -> list[str | Piece]:
        """What may be passed on by now, in order; a ``str`` is a piece of text."""
        return list(self._passed_on())

    def close(self, *, cut: bool) -> list[str | Piece]:
        """The rest, after the last piece. ``cut``: the limit on tokens ended the answer, perhaps inside of a call.

        Raises ``bad_upstream`` for a call without a name.
        """
        for kind in _KINDS:
            self._said(kind, self._texts[kind].close())
        last = self._calls[-1] if cut and self._calls else None
        for call in self._calls:
            if not call.name:
                raise no_answer()
            call.end(whole=call is not last)
        return self.take()

    def _added(self, text: AnswerText, piece: str) -> str:
        before = text.size
        added = text.add(piece)
        self.count(text.size - before)
        return added

    def _said(self, kind: Kind, text: str) -> None:
        if not text:
            return
        self.answered = self.answered or kind != "reasoning"
        if kind == "reasoning" and not self._reasoning:
            return
        last = self._waiting[-1] if self._waiting else None
        if not isinstance(last, _Said) or last.kind != kind:
            last = _Said(kind)
            self._waiting.append(last)
        last.texts.append(text)

    def _passed_on(self) -> Iterator[str | Piece]:
        """What no longer waits. The last call stays, even if it is complete: more of it may come."""
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, _Said):
                text = "".join(first.texts)
                yield text if first.kind == "text" else Piece(first.kind, text)
            else:
                yield from first.take()
                if not (first.ended or (first.complete and first.name and len(self._waiting) > 1)):
                    return
                first.passed = True
            self._waiting.popleft()

    def _found(self, place: int | None, id: str | None, name: str | None, arguments: str) -> "_Call | None":
        """The call that a piece continues; None if it begins one."""
        here = self._at.get(place) if place is not None else self._calls[-1] if self._calls else None
        if id and (known := self._by_id.get(id)):
            if place in (None, known.place):
                return known
            # The same id under another number is another call, if it is one by its name.
            if here and here.told == id:
                return here
            return None if name and (known.complete or name != known.name) else known
        if here is None or not name:
            return here
        if id:
            return None  # An unknown id with a name is another call, whatever its number.
        # Some servers repeat the name with each piece; a complete call has no further arguments.
        same = not here.name or (name == here.name and not (here.complete and arguments.strip()))
        return here if same else None

    def _begun(self, place: int | None, id: str | None) -> "_Call":
        if len(self._calls) == MAX_CALLS:
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, f"The model called more than {MAX_CALLS} tools.")
        usable = id and _ID.fullmatch(id) and id not in self._by_id
        index = len(self._calls)
        own = id if usable and id else f"call_{uuid4().hex}"
        call = _Call(index, own, id, index if place is None else place, AnswerText(self._max_bytes))
        self._calls.append(call)
        self._at[call.place] = call
        for each in (id, own):
            if each:
                self._by_id.setdefault(each, call)
        self._waiting.append(call)
        self.answered = True
        self.count(len(own))
        return call


class _Said:
    """A text, or a part of one."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.texts: list[str] = []


class _Call:
    """One tool call. ``told`` and ``place``: the server's id and number of it.

    ``complete``: its arguments are complete JSON; ``ended``: nothing more of it can come; ``passed``: items behind it
    may have been passed on, so that nothing can be added to it any more.
    """

    def __init__(self, index: int, id: str, told: str | None, place: int, text: AnswerText) -> None:
        self.index = index
        self.id = id
        self.told = told
        self.place = place
        self.text = text
        self.name = ""
        self.complete = self.ended = self.passed = False
        self._begun = False
        self._valid: bool | None = None
        self._arguments: list[str] = []
        self._taken = 0
        self._end = _JsonEnd()

    def add(self, text: str) -> None:
        """More of its arguments."""
        if self.passed:
            if text.strip():
                raise no_answer()
            return
        if text:
            self._arguments.append(text)
            reached = self._end.reached(text)
            if reached and self._valid is None:  # Looked at once: longer, it is JSON again only with blanks behind it.
                self._valid = self._is_json()
            self.complete = reached and bool(self._valid)

    def end(self, *, whole: bool) -> None:
        """Nothing more of it comes. A ``whole`` call without arguments has an empty object of them."""
        if self.passed:
            return
        self.add(self.text.close())
        if whole and not "".join(self._arguments).strip():
            self._arguments.append("{}")
        self.ended = True

    def take(self) -> list[Piece]:
        """What may be passed on by now: its head, once it has a name, and its arguments."""
        if not self.name:
            return []
        head = [] if self._begun else [Piece("tool_call", "", self.index, self.id, self.name)]
        self._begun = True
        more = "".join(self._arguments[self._taken :])
        self._taken = len(self._arguments)
        return [*head, Piece("tool_arguments", more, self.index)] if more else head

    def _is_json(self) -> bool:
        try:
            parsed("".join(self._arguments))
        except (ValueError, RecursionError):
            return False
        return True


class _JsonEnd:
    """Finds where an object, a list or a text may end, without reading any character twice.

    A number or a word has no end of its own: more of it may come.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = self._ended = self._beyond = False

    def reached(self, text: str) -> bool:
        """Whether the value ends in this piece or has ended before, with nothing but blanks behind it."""
        at = 0
        if self._escaped:
            self._escaped, at = False, 1
        while not self._ended:
            found = (_INSIDE if self._quoted else _OUTSIDE).search(text, at)
            if found is None:
                return False
            at = found.end()
            self._read(found[0])
            if self._escaped:
                if at == len(text):
                    return False
                self._escaped, at = False, at + 1
        self._beyond = self._beyond or (not text[at:].isspace() and at < len(text))
        return not self._beyond

    def _read(self, mark: str) -> None:
        if mark == '"':
            self._quoted = not self._quoted
        elif mark == "\\":
            self._escaped = True
            return
        else:
            self._depth += 1 if mark in "{[" else -1
        self._ended = self._depth <= 0 and not self._quoted

"""An answer as a sequence of pieces, as streams carry it, and as items, as it is stored.

Both have one order. A position in an answer is a number of units: each code point is one, and so is the head of a tool
call. A text alone thus has as many units as code points.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

PieceKind = Literal["text", "refusal", "reasoning", "tool_call", "tool_arguments"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer.

    ``text``: the next code points of its kind; none for ``tool_call``, the head of a call, which has ``call_id`` and
    ``name``. ``index``: number of the tool call within the answer, from 0.
    """

    kind: PieceKind
    text: str = ""
    index: int = 0
    call_id: str = ""
    name: str = ""

    @property
    def units(self) -> int:
        """Its length."""
        return 1 if self.kind == "tool_call" else len(self.text)

    def after(self, units: int) -> "Piece":
        """The rest of it, after this many of its units."""
        return replace(self, text=self.text[units:]) if units else self

    def joins(self, other: "Piece") -> bool:
        """Whether ``other`` continues the same text."""
        return self.kind == other.kind != "tool_call" and self.index == other.index


def as_piece(piece: str | Piece) -> Piece:
    """A piece; a ``str`` is one of text."""
    return Piece("text", piece) if isinstance(piece, str) else piece


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same answer in as few pieces as possible."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        if runs and runs[-1][-1].joins(piece):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return [run[0] if len(run) == 1 else replace(run[0], text="".join(each.text for each in run)) for run in runs]


def after(pieces: Iterable[Piece], position: int) -> list[Piece]:
    """The pieces of an answer from this position on."""
    rest: list[Piece] = []
    for piece in pieces:
        if position < piece.units:
            rest.append(piece.after(position))
        position = max(position - piece.units, 0)
    return rest


def before(pieces: Iterable[Piece], position: int) -> list[Piece]:
    """The pieces of an answer up to this position."""
    first: list[Piece] = []
    for piece in pieces:
        if position >= piece.units:
            first.append(piece)
        elif position > 0:
            first.append(replace(piece, text=piece.text[:position]))
        position -= piece.units
    return first


def units_of(pieces: Iterable[Piece]) -> int:
    """The length of an answer."""
    return sum(piece.units for piece in pieces)


def text_of(pieces: Iterable[Piece]) -> str:
    """The plain text of an answer."""
    return "".join(piece.text for piece in pieces if piece.kind == "text")


def pieces_of(reply: str, output: Sequence[Mapping[str, Any]] | None) -> list[Piece]:
    """The pieces of a stored answer; without ``output`` it is one text."""
    return list(_pieces(output)) if output is not None else [Piece("text", reply)] if reply else []


def _pieces(output: Sequence[Mapping[str, Any]]) -> Iterator[Piece]:
    index = 0
    for item in output:
        if item["type"] == "function_call":
            yield Piece("tool_call", "", index, item["call_id"], item["name"])
            if item["arguments"]:
                yield Piece("tool_arguments", item["arguments"], index)
            index += 1
            continue
        for part in item["content"]:
            kind = _KINDS[part["type"]]
            yield Piece(kind, part["refusal" if kind == "refusal" else "text"])


_KINDS: dict[str, PieceKind] = {"output_text": "text", "refusal": "refusal", "reasoning_text": "reasoning"}


def items_of(pieces: Iterable[Piece]) -> list[dict[str, Any]] | None:
    """The items of an answer; None if it is one text at most."""
    whole = joined(pieces)
    if all(piece.kind == "text" for piece in whole):
        return None
    items: list[dict[str, Any]] = []
    for piece in whole:
        match piece.kind:
            case "tool_call":
                call = {"type": "function_call", "call_id": piece.call_id, "name": piece.name, "arguments": ""}
                items.append(call)
            case "tool_arguments":
                items[-1]["arguments"] += piece.text
            case "reasoning":
                items.append({"type": "reasoning", "content": [{"type": "reasoning_text", "text": piece.text}]})
            case "text":
                _said(items).append({"type": "output_text", "text": piece.text})
            case "refusal":
                _said(items).append({"type": "refusal", "refusal": piece.text})
    return items


def _said(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content of the message item at the end, a new one if another item is there."""
    if not items or items[-1]["type"] != "message":
        items.append({"type": "message", "role": "assistant", "content": []})
    content: list[dict[str, Any]] = items[-1]["content"]
    return content

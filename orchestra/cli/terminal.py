"""All output of the command: text from the network cannot control the terminal."""

import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Column, Table

from orchestra.transcript import Piece

_WIDE = 240
_KEPT = frozenset("\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}")
# Control and format characters, such as those that change the direction of text, are removed.
_PUT = {"Cc": None, "Cf": None, "Zl": " ", "Zp": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}


class _Shown(dict[int, int | str | None]):
    """Code points as shown, computed when first met."""

    def __missing__(self, code: int) -> int | str | None:
        kind = unicodedata.category(chr(code))
        shown = code if chr(code) in _KEPT else _PUT.get(kind, code)
        self[code] = shown
        return shown


_SHOWN = _Shown()


def harmless(text: str) -> str:
    """The text without control and invisible characters. Line ends, tabs and the two joiners are kept."""
    return text.translate(_SHOWN)


@dataclass(frozen=True)
class Styled:
    """Text in one of our styles; ``str()`` of it is harmless text between the codes of the style."""

    text: str
    fg: str | None = None
    bold: bool = False
    dim: bool = False

    def __str__(self) -> str:
        return typer.style(harmless(self.text), fg=self.fg, bold=self.bold or None, dim=self.dim or None)


def echo(*pieces: str | Styled, err: bool = False, nl: bool = True) -> None:
    """Print a line for a person. Styles show on a terminal only."""
    text = "".join(str(each) if isinstance(each, Styled) else harmless(each) for each in pieces)
    typer.echo(text, err=err, nl=nl)


def hand_over(text: str) -> None:
    """Print a result to standard output: unchanged for a program, harmless on a terminal."""
    if sys.stdout.isatty():
        echo(text)
    else:
        typer.echo(text.encode("utf-8", "replace").decode(), color=True)  # With color=True nothing is removed.


def bytes_out() -> BinaryIO | None:
    """Standard output for the bytes of a file; None if it is a terminal, which the bytes could control."""
    return None if sys.stdout.isatty() else sys.stdout.buffer


class Terminal(Console):
    """Draws tables and progress. Text is made harmless, and markup in it is not read: styles are passed as objects."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments that rich draws; control segments are rich's own."""
        for each in super().render(renderable, options):
            yield each if each.control else Segment(harmless(each.text), each.style)


def plain_table(*columns: Column | str) -> Table:
    """A table without lines."""
    return Table(*columns, box=None, pad_edge=False)


def print_list(table: Table) -> None:
    """Print a table. A file or a pipe has no width to fit a line into."""
    Terminal(width=None if sys.stdout.isatty() else _WIDE).print(table)


# What stands before a piece that begins.
_MARKS: dict[str, str] = {"tool_call": "call", "refusal": "refused:"}


class Screen:
    """Where a reply is shown. This one shows nothing."""

    def show(self, piece: Piece) -> None:
        """Show a piece of the reply."""

    def restart(self) -> None:
        """Say that what was shown is void, and that the reply starts again."""

    def note(self, text: str) -> None:
        """Show a remark about the reply."""


class LiveScreen(Screen):
    """Shows each piece at once, and says when a reply starts again.

    Reasoning is dimmed. Tool calls and refusals are marked, and each is on a line of its own.
    """

    def __init__(self) -> None:
        self._within_a_line = False
        self._last: Piece | None = None

    def show(self, piece: Piece) -> None:
        """Show a piece."""
        begins = self._last is None or not piece.joins(self._last)
        if begins and piece.kind != "tool_arguments":
            self.end()
            if mark := _MARKS.get(piece.kind):
                echo(Styled(f"{mark} {piece.name}".rstrip() + " ", bold=True), nl=False)
        echo(Styled(piece.text, dim=True) if piece.kind == "reasoning" else piece.text, nl=False)
        self._within_a_line = not piece.text.endswith("\n")
        self._last = piece

    def restart(self) -> None:
        """Start the reply again."""
        echo("\n[starting again]")
        self._within_a_line, self._last = False, None

    def note(self, text: str) -> None:
        """Show a remark, on a new line if the reply is on the same terminal."""
        if self._within_a_line and sys.stdout.isatty() and sys.stderr.isatty():
            self.end()
        remark(text)

    def end(self) -> None:
        """End the reply's last line."""
        if self._within_a_line:
            echo()
            self._within_a_line = False


class SilentScreen(Screen):
    """Shows only remarks."""

    def note(self, text: str) -> None:
        """Say something."""
        remark(text)


def remark(text: str) -> None:
    """Print a remark about a reply on stderr."""
    echo(Styled(f"[{text}]", dim=True), err=True)

"""All output of the command: text from the network cannot control the terminal."""

import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

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


class Terminal(Console):
    """Draws tables and progress. Text is made harmless, and markup in it is not read: styles are passed as objects."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments that rich draws; control segments are rich's own."""
        for each in super().render(renderable, options):
            yield each if each.control else Segment(harmless(each.text), each.style)


class Screen:
    """Where a reply is shown. This one shows nothing."""

    def show(self, text: str) -> None:
        """Show a piece of the reply."""

    def restart(self) -> None:
        """Say that the text shown is void, and that the reply starts again."""

    def note(self, text: str) -> None:
        """Show a remark about the reply."""


class LiveScreen(Screen):
    """Shows each piece at once, and says when a reply starts again."""

    def __init__(self) -> None:
        self._within_a_line = False

    def show(self, text: str) -> None:
        """Show a piece."""
        echo(text, nl=False)
        self._within_a_line = not text.endswith("\n")

    def restart(self) -> None:
        """Start the reply again."""
        echo("\n[starting again]")
        self._within_a_line = False

    def note(self, text: str) -> None:
        """Show a remark, on a new line if the reply is on the same terminal."""
        if self._within_a_line and sys.stdout.isatty() and sys.stderr.isatty():
            echo()
            self._within_a_line = False
        remark(text)

    def end(self) -> None:
        """End the reply's last line."""
        if self._within_a_line:
            echo()


class SilentScreen(Screen):
    """Shows only remarks."""

    def note(self, text: str) -> None:
        """Say something."""
        remark(text)


def remark(text: str) -> None:
    """Print a remark about a reply on stderr."""
    echo(Styled(f"[{text}]", dim=True), err=True)

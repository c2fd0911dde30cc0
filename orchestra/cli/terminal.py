"""All that the command writes goes through here: what came over the wire gives a terminal no orders."""

import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_KEPT = frozenset("\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}")
# Controls and formats, among them those that turn the direction of text, are left out.
_PUT = {"Cc": None, "Cf": None, "Zl": " ", "Zp": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}


class _Shown(dict[int, int | str | None]):
    """Code points as they are shown, found out when they are met first."""

    def __missing__(self, code: int) -> int | str | None:
        kind = unicodedata.category(chr(code))
        shown = code if chr(code) in _KEPT else _PUT.get(kind, code)
        self[code] = shown
        return shown


_SHOWN = _Shown()


def harmless(text: str) -> str:
    """The text without what a terminal obeys or nobody sees: line ends, tabs and the two joiners are kept."""
    return text.translate(_SHOWN)


@dataclass(frozen=True)
class Styled:
    """A piece of text in a style of ours; ``str()`` of it is harmless, with the codes of the style around it."""

    text: str
    fg: str | None = None
    bold: bool = False
    dim: bool = False

    def __str__(self) -> str:
        return typer.style(harmless(self.text), fg=self.fg, bold=self.bold or None, dim=self.dim or None)


def echo(*pieces: str | Styled, err: bool = False, nl: bool = True) -> None:
    """Write a line for a person. Styles show on a terminal only."""
    text = "".join(str(each) if isinstance(each, Styled) else harmless(each) for each in pieces)
    typer.echo(text, err=err, nl=nl)


def hand_over(text: str) -> None:
    """Write what was asked for to standard output: as it is for a program, harmless on a terminal."""
    if sys.stdout.isatty():
        echo(text)
    else:
        typer.echo(text.encode("utf-8", "replace").decode(), color=True)  # Which takes nothing away.


class Terminal(Console):
    """Draws tables and progress. What is drawn is harmless, and no markup is read in it: styles are given as such."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What rich draws, piece by piece; pieces of control are its own."""
        for each in super().render(renderable, options):
            yield each if each.control else Segment(harmless(each.text), each.style)


class Screen:
    """Where a reply is shown; this one shows nothing."""

    def show(self, text: str) -> None:
        """Show a piece of the reply."""

    def anew(self) -> None:
        """Say that what was shown is void, and the reply begins again."""

    def note(self, text: str) -> None:
        """Say something about the reply."""


class LiveScreen(Screen):
    """Shows each piece at once, and says so where a reply begins anew."""

    def __init__(self) -> None:
        self._within_a_line = False

    def show(self, text: str) -> None:
        """Show a piece."""
        echo(text, nl=False)
        self._within_a_line = not text.endswith("\n")

    def anew(self) -> None:
        """Begin the reply again."""
        echo("\n[begun anew]")
        self._within_a_line = False

    def note(self, text: str) -> None:
        """Say something, on a line of its own where the reply is on the same terminal."""
        if self._within_a_line and sys.stdout.isatty() and sys.stderr.isatty():
            echo()
            self._within_a_line = False
        remark(text)

    def end(self) -> None:
        """End the reply's last line."""
        if self._within_a_line:
            echo()


class SilentScreen(Screen):
    """Shows nothing but remarks."""

    def note(self, text: str) -> None:
        """Say something."""
        remark(text)


def remark(text: str) -> None:
    """Say something about a reply, on stderr."""
    echo(Styled(f"[{text}]", dim=True), err=True)

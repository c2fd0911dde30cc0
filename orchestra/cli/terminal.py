"""How a reply is shown on a terminal, and how it is kept out of a pipe until it is whole."""

import sys

import typer

# A model may say anything, also what a terminal would take for a command to it.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


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
        typer.echo(harmless(text), nl=False)
        self._within_a_line = not text.endswith("\n")

    def anew(self) -> None:
        """Begin the reply again."""
        typer.echo("\n[begun anew]")
        self._within_a_line = False

    def note(self, text: str) -> None:
        """Say something, on a line of its own where the reply is on the same terminal."""
        if self._within_a_line and sys.stdout.isatty() and sys.stderr.isatty():
            typer.echo()
            self._within_a_line = False
        remark(text)

    def end(self) -> None:
        """End the reply's last line."""
        if self._within_a_line:
            typer.echo()


class SilentScreen(Screen):
    """Shows nothing but remarks."""

    def note(self, text: str) -> None:
        """Say something."""
        remark(text)


def remark(text: str) -> None:
    """Say something about a reply, on stderr."""
    typer.secho(f"[{harmless(text)}]", err=True, dim=sys.stderr.isatty() or None)


def harmless(text: str) -> str:
    """The text without control characters, line ends and tabs excepted."""
    return text.translate(_CONTROLS)

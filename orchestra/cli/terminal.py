"""How a reply is shown on a terminal, and how it is kept out of a pipe until it is whole."""

import sys

import typer

from orchestra.cli.ask import Screen

# A model may say anything, also what a terminal would take for a command to it.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def live_screen() -> Screen:
    """Shows each piece at once, and says so where a reply begins anew."""
    return Screen(lambda text: typer.echo(harmless(text), nl=False), lambda: typer.echo("\n[begun anew]"), remark)


def silent_screen() -> Screen:
    """Shows nothing but remarks."""
    return Screen(lambda _: None, lambda: None, remark)


def remark(text: str) -> None:
    """Say something about a reply, on stderr."""
    typer.secho(f"[{text}]", err=True, dim=sys.stderr.isatty() or None)


def harmless(text: str) -> str:
    """The text without control characters, line ends and tabs excepted."""
    return text.translate(_CONTROLS)

"""Promises of orchestra/cli/terminal.py: one writer, which nothing that came over the wire can give orders through."""

import ast
import io
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from orchestra.cli.terminal import Styled, Terminal, echo, hand_over, harmless
from tests.support.command_line import orchestra
from tests.support.fake_gateway import CONVERSATION_ID, PENDING, Refusal, fake_gateway
from tests.support.tree import ROOT

CLI = ROOT / "orchestra/cli"
# `streams` puts ours in the place of Python's own.
FILES = sorted(path for path in CLI.glob("*.py") if path.name not in {"terminal.py", "streams.py"})
# All that could write, but for what `terminal` has.
WRITERS = {"print", "pprint", "typer.echo", "typer.secho", "typer.style", "typer.progressbar", "os.write"}
STREAMS = {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
MODULES = {"click", "rich", "rich.console", "rich.markup", "rich.prompt", "rich.traceback", "rich.logging"}

ORDERS = "\x1b]0;owned\x07\x1b[2J\x9b2J\r\x08\x7f\u202e\u2066\u200e\u200b\ufeff\xad\U000e0041"
JOINED = "\u0645\u06cc\u200c\u0631\u0648\u0645 \U0001f469\u200d\U0001f680"


def obeyed(text: str) -> list[str]:
    """The characters of a text that a terminal obeys, or that are invisible."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [ascii(each) for each in text if unicodedata.category(each) in kinds and each not in "\n\t\u200c\u200d"]


def writes(path: Path) -> Iterator[str]:
    """Places of a file that write by something else than `terminal`."""
    tree = ast.parse(path.read_text("utf-8"))
    asked = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "isatty"}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=func) if ast.unparse(func) in WRITERS:
                yield f"{path.name}:{node.lineno}: {ast.unparse(func)}"
            case ast.Attribute() if ast.unparse(node) in STREAMS and id(node) not in asked:
                yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"
            case ast.Import(names=names):
                yield from (f"{path.name}:{node.lineno}: {each.name}" for each in names if each.name in MODULES)
            case ast.ImportFrom(module=module, names=names):
                taken = {f"{module}.{each.name}" for each in names} & (WRITERS | STREAMS)
                if module in MODULES or taken:
                    yield f"{path.name}:{node.lineno}: {module}"
            case _:
                pass


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_else_writes(path: Path) -> None:
    """Every file of the command writes by `terminal`, which cleans all text, and by nothing else."""
    assert [] == list(writes(path))


def test_what_writes_is_found(tmp_path: Path) -> None:
    """The rule above sees each way to write."""
    ways = (
        "print(x)", "typer.echo(x)", "sys.stderr.write(x)", "from rich.console import Console", "import click",
        "from typer import echo", "sys.stdout.buffer.write(x)", "import rich.console", "from sys import stdout",
    )  # fmt: skip
    found = []
    for way in ways:
        (tmp_path / "way.py").write_text(way)
        found.append(len(list(writes(tmp_path / "way.py"))))

    assert [1] * len(ways) == found


def test_no_orders() -> None:
    """Of all characters, none that a terminal obeys or that is invisible is left; ordinary writing is unchanged."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))

    assert [] == obeyed(harmless(every))
    assert harmless(JOINED) == JOINED
    assert harmless(f"a{ORDERS}b\n\tc\u2028d\u2029e\ud800") == "a]0;owned[2J2Jb\n\tc d e\ufffd"
    assert {ascii(each) for each in set(every) - set(harmless(every))} == set(obeyed(every))


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Every piece of a line is clean, whatever stream and style it has."""
    echo(ORDERS, Styled(ORDERS, fg="red", bold=True))
    echo(ORDERS, err=True, nl=False)
    out, err = capsys.readouterr()

    assert [] == obeyed(out + err)


def test_styles_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The codes of a style stand around the text, and no others in it."""
    assert str(Styled(f"a{ORDERS}b", fg="red")) == "\x1b[31ma]0;owned[2J2Jb\x1b[0m"


def test_tables() -> None:
    """Neither cells nor titles nor markup in them reach the terminal as they are."""
    file = io.StringIO()
    table = Table("[blink]x", ORDERS, title=ORDERS)
    table.add_row(f"[link=https://evil.example]{ORDERS}[/link]", Text(ORDERS))
    console = Terminal(file=file, width=200, force_terminal=True, color_system=None)
    console.print(table)
    console.print(ORDERS, soft_wrap=True)

    # Bold and italic titles are rich's own.
    shown = file.getvalue().replace("\x1b[1m", "").replace("\x1b[3m", "").replace("\x1b[0m", "")
    assert [] == obeyed(shown)
    assert "[link=https://evil.example]" in shown


@pytest.mark.parametrize("terminal_there", [False, True])
def test_what_is_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal_there: bool
) -> None:
    """A program gets what was asked for as it is; a terminal gets no orders."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal_there)
    hand_over(ORDERS)

    assert capsys.readouterr().out == (harmless(ORDERS) if terminal_there else ORDERS) + "\n"


async def said_by(*words: str, url: str) -> tuple[str, str]:
    done = await orchestra(*words, said=b"Hello\n", ORCHESTRA_GATEWAY=url)
    return done.output, done.stderr


@pytest.mark.parametrize("verb", [("send", "Hello"), ("chat",)], ids=" ".join)
async def test_a_lying_gateway(verb: tuple[str, ...]) -> None:
    """Details of errors, codes and ids give no orders either."""
    async with fake_gateway([Refusal(422, f"x{ORDERS}", ORDERS)]) as gateway:
        out, err = await said_by(*verb, url=gateway.url)

    assert [] == obeyed(out + err)
    assert "owned" in err


async def test_a_lying_stream() -> None:
    """Nor does why an attempt or a request failed; an id that is not one ends the call."""
    evil = "".join(f"\\u{ord(each):04x}" for each in ORDERS if ord(each) < 0x10000)
    pending = PENDING.replace(CONVERSATION_ID, f"{CONVERSATION_ID}{evil}")
    failed = f'event: failed\ndata: {{"code": "x{evil}", "detail": "{evil}"}}\n\n'
    restart = f'event: restart\ndata: {{"text": "", "last_error": {{"code": "x", "detail": "{evil}"}}}}\n\n'
    async with fake_gateway([pending + restart + failed]) as gateway:
        lie, refused = await said_by("chat", url=gateway.url)
    async with fake_gateway([PENDING + restart + failed]) as gateway:
        out, err = await said_by("chat", url=gateway.url)

    assert [] == obeyed(lie + refused + out + err)
    assert "did not answer like a gateway" in refused
    assert (err.count("owned"), CONVERSATION_ID in err) == (3, True)

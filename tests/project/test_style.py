"""The worst habits of our prose; docs/style.md has the rules behind them."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from tests.support.tree import ROOT, VENDOR, project_files

# Pattern → what to write. A space in a pattern also matches a line break.
HABITS = {
    r"anew": "`again`, or `a new one`",
    r"whoever|whosoever": "the subject: `a client that ...`",
    r"(?-i:Who)(?! [^.!|]*\?)": "the subject: `a client that ...`; `who` begins only a question",
    r"he|his|him|himself": "`they`, `their`, `them`, or the subject again",
    r"(?:some|every|any|no)body": "the subject: `another worker`, `each client`, `no one`",
    r"so (?:many|few|much|long|often)(?! (?:as|that))": "`at most N`, `this many`, `for up to N seconds`",
    r"(?:is|are|was|were|be|been|being) told": "what happens: `receives`, `is notified`, `learns`",
    r"shall": "`must`, `should` or `will`",
    r"mend(?:s|ed|ing)?": "`fix`, `edit` or `repair`",
    r"bears?|borne": "`tolerates`, `accepts` or `has`",
    r"h(?:olds?|eld|olding) up": "`blocks` or `delays`",
    r"st(?:ands?|ood|anding)[ -]in": "`is in`; of models: `fallback`, `replaces`",
    r"stands for": "`means`, `represents`",
    r"(?<!there.)(?:is|are) (?-i:none)": "`is not one`, `there is no ...`",
    r"at hand": "`available`, `here`",
    r"for want of": "`without`, `because there is no ...`",
    r"for ever": "`forever`, `indefinitely`",
    r"in vain": "`without effect`",
    r"dear(?:er)?": "`expensive`",
    r"least values?": "`minimum`",
    r"lets? go of": "`releases`",
}

_COMMENTED = {".sql", ".toml", ".yaml", ".yml", ".go", ".java", ".js", ".sh"}
_WHOLE = {"Makefile", "Dockerfile"}
_PATTERNS = [
    (re.compile(rf"(?<![\w`-])(?:{pattern.replace(' ', chr(92) + 's+')})(?![\w`])", re.IGNORECASE), instead)
    for pattern, instead in HABITS.items()
]


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of all that a file says to people: no code, and no names."""
    if path.suffix == ".md":
        # Code keeps its lines, so that numbers of lines stay right.
        code = re.compile(r"^```.*?^```|`[^`]*`|^ {4}.*?$", re.MULTILINE | re.DOTALL)
        yield 1, code.sub(lambda found: "``" + "\n" * found[0].count("\n"), path.read_text("utf-8"))
    elif path.suffix == ".py":
        yield from _prose_of_python(path.read_text("utf-8"))
    elif path.suffix in _COMMENTED or path.name in _WHOLE:
        yield 1, path.read_text("utf-8")


def _prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, re.sub(r"`+[^`]*`+", "``", node.value)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    # Lines of one comment are one text.
    for _, lines in groupby(enumerate(comments), key=lambda each: each[1][0] - each[0]):
        block = [comment for _, comment in lines]
        yield block[0][0], "\n".join(text.lstrip("# ") for _, text in block)


def _faults(path: Path) -> Iterator[str]:
    for line, text in _prose(path):
        for pattern, instead in _PATTERNS:
            for found in pattern.finditer(text):
                place = line + text.count("\n", 0, found.start())
                yield f"{path.relative_to(ROOT)}:{place}: not `{' '.join(found[0].split())}`; write {instead}"


def test_prose_has_none_of_the_worst_habits() -> None:
    """No page, docstring, comment or text of the code has one of the phrases that docs/style.md names."""
    # Not this file: it contains the phrases.
    files = sorted(path for path in project_files() if path != Path(__file__) and VENDOR not in path.parents)

    assert [fault for path in files for fault in _faults(path)] == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Who waits reads no pieces.", "Who"),
        ("The rest is for\nwant of memory.", "for want of"),
        ("`so many` are let in, so many wait.", "so many"),
        ("A caller and his key.", "his"),
    ],
)
def test_a_habit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, word: str) -> None:
    """A bad phrase is found in a page, a docstring and a comment, with its line and what to write instead."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page, docstring, comment = tmp_path / "a.md", tmp_path / "b.py", tmp_path / "c.py"
    page.write_text(f"# Title\n\n{text}\n", "utf-8")
    docstring.write_text(f'def call() -> None:\n    """Text.\n\n{text}\n    """\n', "utf-8")
    comment.write_text("pass\n" + "".join(f"# {line}\n" for line in text.split("\n")), "utf-8")
    found = [[fault.partition(";")[0] for fault in _faults(path)] for path in (page, docstring, comment)]

    assert [[f"a.md:3: not `{word}`"], [f"b.py:4: not `{word}`"], [f"c.py:2: not `{word}`"]] == [
        [re.sub(r":\d+:", lambda line: line[0], each) for each in faults] for faults in found
    ]


@pytest.mark.parametrize(
    "text",
    ["Who may call this?", "It is called so often that layers cost.", "Write `whoever` in code.", "The bearer token."],
)
def test_plain_words_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A question, a consequence, a name in code and a word that only begins alike are no habits."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "a.md"
    page.write_text(text, "utf-8")

    assert list(_faults(page)) == []

"""The README and the tutorial say the same in every language."""

import runpy
import subprocess
import sys
from typing import Any

import pytest

from tests.support.tree import ROOT

CHECK: dict[str, Any] = runpy.run_path(str(ROOT / "docs/translations.py"))
ENGLISH = """\
# Title

English · [Русский](tutorial.ru.md) · [简体中文](tutorial.zh-CN.md)

One `word` with a [link](../README.md).

## Section

- first
- second

```console
$ echo
```
"""


def mark(text: str) -> str:
    return f"<!-- en: {CHECK['Block']('text', text, 1).hash} -->"


RUSSIAN = f"""\
# Название

[English](tutorial.md) · Русский · [简体中文](tutorial.zh-CN.md)

{mark("One `word` with a [link](../README.md).")}
Одно `word` и [ссылка](../README.ru.md).

## Раздел

{mark("- first - second")}
- первое
- второе

```console
$ echo
```
"""


def problems(english: str = ENGLISH, russian: str = RUSSIAN) -> list[str]:
    return list(CHECK["problems"]("docs/tutorial.md", "ru", english, russian))


def test_the_translations_are_in_step() -> None:
    """Every page has the headings, code, links and paragraphs of its English page as it is now."""
    command = [sys.executable, "docs/translations.py"]
    check = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (0, "") == (check.returncode, check.stderr)


def test_a_translation_in_step_has_no_problems() -> None:
    """A page whose marks, code and links are those of the English page passes."""
    assert problems() == []


def test_a_stale_paragraph_is_named_with_its_new_hash() -> None:
    """After a change of an English paragraph, that paragraph alone is reported, with the hash to write."""
    changed = "Another `word` with a [link](../README.md)."

    (problem,) = problems(ENGLISH.replace("One `word`", "Another `word`"))

    assert problem.startswith("docs/tutorial.ru.md:6: stale")
    assert mark(changed) in problem


def test_wrapping_a_paragraph_makes_nothing_stale() -> None:
    """The hash of a paragraph does not depend on where its lines break."""
    assert problems(ENGLISH.replace("with a", "with\na")) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<!-- en:", "<!-- was:", ":5: not marked"),
        ("(../README.ru.md)", "(../README.md)", ":6: the links should be ../README.ru.md"),
        ("`word`", "word", ":6: the code should be `word`"),
        ("- второе\n", "", ":11: not as many rows"),
        ("$ echo", "$ true", ":14: the code is not that"),
        ("## Раздел", "### Раздел", ":8: here should be"),
        ("## Раздел\n", "", "here should be"),
        ("· Русский ·", "·", ":3: this line should be [English](tutorial.md) · Русский"),
        ("```console\n$ echo\n```\n", "", ":end: here should be"),
    ],
)
def test_what_differs_is_named(old: str, new: str, said: str) -> None:
    """A difference in marks, links, code, items or headings is reported with its place."""
    assert [problem for problem in problems(russian=RUSSIAN.replace(old, new)) if said in problem] != []


def test_an_unmarked_paragraph_is_named() -> None:
    """A paragraph that does not say which English it translates is reported."""
    unmarked = RUSSIAN.replace(mark("- first - second") + "\n", "")

    assert [problem for problem in problems(russian=unmarked) if ":10: not marked" in problem] != []


def test_the_readme_is_short() -> None:
    """The English README has at most 90 lines."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 90

"""The documents agree with the code and with each other."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.tree import ROOT, project_files

DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
PAGES = sorted(path for path in project_files() if path.suffix == ".md")
ids = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def test_the_reference_is_what_the_code_says() -> None:
    """Every setting, metric, topic, state, error and command is in docs/reference and the example, as it is now."""
    command = [sys.executable, "docs/generate.py", "--check"]
    check = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (0, "") == (check.returncode, check.stderr)


def test_the_reference_has_every_command() -> None:
    """Each command that does something is in the reference, also one that has others below it."""
    from orchestra.cli.main import build

    page = (ROOT / "docs/reference/commands.md").read_text("utf-8")
    group = typer.main.get_command(build())

    assert sorted(_runnable("orchestra", group)) == sorted(re.findall(r"^## `(.+)`$", page, re.MULTILINE))


def _runnable(name: str, command: Any) -> Iterator[str]:
    below = getattr(command, "commands", {})
    if not below or command.invoke_without_command:
        yield name
    for word, each in below.items():
        yield from _runnable(f"{name} {word}", each)


@ids
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link of a page leads to a file of the project."""
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text("utf-8"))

    assert [link for link in links if not (path.parent / link).exists()] == []


@ids
def test_anchors_lead_somewhere(path: Path) -> None:
    """Each link to a part of a page leads to one of its headings."""
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", path.read_text("utf-8"))

    assert [
        f"{page}#{part}" for page, part in links if part not in _anchors(path.parent / page if page else path)
    ] == []


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub, GitLab and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    plain = [re.sub(r"\]\([^)]*\)", "", heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    names = [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain]
    return {
        name + (f"-{names[:place].count(name)}" if name in names[:place] else "") for place, name in enumerate(names)
    }


@ids
def test_files_that_are_named_exist(path: Path) -> None:
    """Each file or folder of the project that a page names is there."""
    tops = "|".join(folder.name for folder in ROOT.iterdir() if folder.is_dir() and folder.name != ".cache")
    named = re.findall(rf"`((?:{tops})/[\w./-]*)`", path.read_text("utf-8"))

    assert [name for name in named if not (ROOT / name).exists()] == []


@ids
def test_tests_that_are_named_exist(path: Path) -> None:
    """Each test that a page names, as `file::test`, is there: what is said to be held by it is."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", path.read_text("utf-8"))

    assert [f"{file}::{test}" for file, test in named if not _has(ROOT / file, test)] == []


def _has(file: Path, test: str) -> bool:
    return file.exists() and bool(re.search(rf"^(?:async )?def {test}\(", file.read_text("utf-8"), re.MULTILINE))


def test_decisions_are_numbered() -> None:
    """Decisions are numbered from 0001 on, without a gap."""
    assert [f"{number:04}" for number in range(1, len(DECISIONS) + 1)] == [path.name[:4] for path in DECISIONS]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decisions_have_their_parts(path: Path) -> None:
    """A decision tells its context, what was decided, what follows, what else was weighed, and what enforces it."""
    headings = re.findall(r"^## (.+)$", path.read_text("utf-8"), re.MULTILINE)

    assert headings == ["Context", "Decision", "Consequences", "Alternatives", "Enforced by"]

"""What `make doors` runs is what the pages show, and is pinned. The tours need the clients' own environments."""

import json
import re
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.tree import ROOT

TOURS = ROOT / "tests/doors/tours"
PAGE = ROOT / "docs/howto/openai-clients.md"
SHOWN = re.findall(r"\]\(([^)]+/tours/[^)]+)\):\n\n```text\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize(("file", "lines"), SHOWN, ids=[Path(file).name for file, _ in SHOWN])
def test_the_page_shows_what_the_tours_run(file: str, lines: str) -> None:
    """The lines that the page shows for a client are those of its tour."""
    source = (PAGE.parent / file).read_text("utf-8")
    # A tour may have them inside a function.
    indented = "\n".join(rf"([ ]*){re.escape(line)}" for line in lines.splitlines())

    assert re.search(rf"^{indented}$", source, re.MULTILINE), dedent(lines)


def test_every_client_of_the_page_has_its_lines() -> None:
    """Each section about a client shows lines of a tour, except the one of clients without a tour."""
    sections = re.findall(r"^## (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)

    assert len(SHOWN) >= len(sections) - len(["Clients without a tour", "What to know", "Run the tours"])


@pytest.mark.parametrize("folder", ["docs/site", "tests/browser", "tests/doors"])
def test_packages_in_javascript_are_pinned(folder: str) -> None:
    """Each package is locked with its hash, and with no address: it comes from the registry that npm is set to."""
    lock = json.loads((ROOT / folder / "package-lock.json").read_text("utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}

    assert [name for name, package in packages.items() if "integrity" not in package or "resolved" in package] == []

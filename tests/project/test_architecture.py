"""docs/architecture.md names every file, topic and table of the product, and nothing that does not exist."""

import ast
import re
from pathlib import Path

import pytest

from schemas.topics import TOPICS
from tests.support.tree import PACKAGES, ROOT, project_files

PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")
NAMES = re.findall(r"`([^`\s]+)`", PAGE)
STATION = re.compile(r"^\| ([①-⑩]) \| `([^`]+)` \|", re.MULTILINE)
NUMBERS = "①②③④⑤⑥⑦⑧⑨⑩"
# The page names the folder alone: it is written by `make docs`, or what browsers run.
BY_FOLDER = ("schemas/published/", "gateway/console/")
FILES = {str(path.relative_to(ROOT)) for path in project_files() if path.name != "__init__.py"}


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_column(title: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", section(title), re.MULTILINE))


def test_the_road_has_ten_stations() -> None:
    """Each number from one to ten stands once, in order, with its file."""
    assert list(NUMBERS) == [number for number, _ in STATION.findall(PAGE)]


@pytest.mark.parametrize(("number", "path"), STATION.findall(PAGE))
def test_a_station_says_its_number(number: str, path: str) -> None:
    """The docstring of a numbered file begins with its number."""
    assert number == docstring(ROOT / path)[:1]


@pytest.mark.parametrize("folder", PACKAGES)
def test_numbers_in_the_code_are_those_of_the_page(folder: str) -> None:
    """A file that calls itself part of a station is named in that station's row."""
    rows = {line[2]: line for line in PAGE.splitlines() if STATION.match(line)}
    numbered = [(path, docstring(path)[:1]) for path in (ROOT / folder).rglob("*.py") if docstring(path)[:1] in NUMBERS]
    strays = [path for path, number in numbered if number and f"`{path.relative_to(ROOT)}`" not in rows[number]]

    assert strays == []


@pytest.mark.parametrize("folder", PACKAGES)
def test_every_file_is_named(folder: str) -> None:
    """The page names exactly the files of each product folder, subfolders included, by their whole paths."""
    files = {name for name in FILES if name.startswith(f"{folder}/") and not name.startswith(BY_FOLDER)}
    named = {name for name in NAMES if name.startswith(f"{folder}/") and not name.endswith("/")}

    assert (set(), set()) == (files - named, named - files)
    assert files


def test_every_topic_is_named() -> None:
    """The table of topics lists exactly the topics that there are."""
    assert {topic.name for topic in TOPICS} == first_column("Topics")


def test_every_table_is_named() -> None:
    """The table of tables lists exactly the tables that the migrations make."""
    statements = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "migrations").glob("*.sql")))
    made = set(re.findall(r"^CREATE TABLE (\w+)", statements, re.MULTILINE))

    assert made == first_column("Tables")

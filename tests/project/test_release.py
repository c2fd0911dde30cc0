"""What a release is made of: one version, a changelog, schemas that later ones are held to, the release before it."""

import ast
import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path

import pytest

from orchestra.version import version
from tests.support.compatibility import present, released
from tests.support.previous_release import check_out
from tests.support.tree import ROOT, project_files

DECLARED: str = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
# Prose may mention any release; locks, the rest of pyproject.toml and third-party files have versions of their own.
NOT_LOOKED_AT = {".md", ".lock"}
OTHERS = ("pyproject.toml", "tests/contracts/")
# Of the contract, which has numbers of its own.
CONTRACT = ("schemas/asyncapi.py", "schemas/published/asyncapi.json")
SECTION = re.compile(r"^## \[([^\]]+)\](?: - (\S+))?$", re.MULTILINE)
UNRELEASED = "Unreleased"


def lines_with(number: str, path: Path) -> list[int]:
    """Lines of a file that hold this version, but for comments and docstrings."""
    text = path.read_bytes().decode("utf-8", "replace")
    found = re.compile(rf"(?<![\w.]){re.escape(number)}(?![\w.])")
    if path.suffix == ".py":
        tree = ast.parse(text)
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        told = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose]
        return [node.lineno for node in told if found.search(str(node.value))]
    code = [line.partition("#")[0] for line in text.splitlines()]
    return [place for place, line in enumerate(code, 1) if found.search(line)]


def test_the_version_stands_in_one_place() -> None:
    """No file but pyproject.toml holds the version: what shows it reads it from the installed package."""
    files = {str(path.relative_to(ROOT)): path for path in project_files() if path.suffix not in NOT_LOOKED_AT}
    looked_at = {name: path for name, path in files.items() if not name.startswith((*OTHERS, *CONTRACT))}

    assert {name: places for name, path in looked_at.items() if (places := lines_with(DECLARED, path))} == {}


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("app.py", '"""Since 9.8.7."""\n# 9.8.7\napp = App(version="9.8.7")\n', [3]),
        ("app.py", 'agent = f"orchestra/9.8.7 ({system})"\nother = "19.8.7", "9.8.7.1"\n', [1]),
        ("compose.yaml", "# 9.8.7\nimage: llm-orchestra/gateway:9.8.7  # as built\n", [2]),
        ("Dockerfile", "FROM python\nLABEL version=9.8.7\n", [2]),
    ],
)
def test_a_second_place_would_be_found(tmp_path: Path, name: str, text: str, lines: list[int]) -> None:
    """The version is found in whatever a file says, but not in comments, docstrings and other numbers."""
    (tmp_path / name).write_text(text)

    assert lines == lines_with("9.8.7", tmp_path / name)


def test_what_is_installed_has_this_version() -> None:
    """The package in this environment, editable or not, says the version of pyproject.toml."""
    assert DECLARED == version()


def test_the_changelog_tells_of_this_version() -> None:
    """The newest section is of the version in pyproject.toml, or of what comes after the last release."""
    sections = SECTION.findall((ROOT / "CHANGELOG.md").read_text("utf-8"))
    names = [name for name, _ in sections]
    releases = [name for name in names if name != UNRELEASED]

    assert names[0] in {UNRELEASED, DECLARED}
    assert names.count(UNRELEASED) == (names[0] == UNRELEASED)
    assert releases == sorted(set(releases), key=lambda name: [int(part) for part in name.split(".")], reverse=True)
    assert [name for name, day in sections if name != UNRELEASED and not date.fromisoformat(day)] == []


def test_a_release_holds_later_ones_to_its_schemas() -> None:
    """While the newest section is a release's, the baseline is the present schemas, and no break is accepted."""
    newest = SECTION.findall((ROOT / "CHANGELOG.md").read_text("utf-8"))[0][0]
    accepted = tomllib.loads((ROOT / "tests/contracts/accepted_breaks.toml").read_text("utf-8"))["accepted"]

    assert newest == UNRELEASED or (present(), []) == (released(), accepted)


def test_a_previous_release_that_is_missing_is_told(tmp_path: Path) -> None:
    """A commit that the repository does not have fails the test that needs it, with the command that fetches it."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "clone")], check=True)

    with pytest.raises(AssertionError, match=r"git fetch --unshallow.*git fetch origin 0{40}"):
        check_out("0" * 40, tmp_path / "clone", tmp_path)
    with pytest.raises(AssertionError, match="no full commit hash"):
        check_out("0" * 7, tmp_path / "clone", tmp_path)

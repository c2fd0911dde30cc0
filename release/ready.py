"""Whether the checkout is one that may be released."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

_SECTION = re.compile(r"^## \[([^\]]+)\] - \d{4}-\d{2}-\d{2}\n(.*?)(?=^## \[|\Z)", re.MULTILINE | re.DOTALL)
_NEWEST = re.compile(r"^## \[([^\]]+)\]", re.MULTILINE)


def version(root: Path) -> str:
    """The version in ``pyproject.toml``."""
    return str(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def notes(changelog: str, number: str) -> str | None:
    """The section of this version in a changelog. None if it has none with a date."""
    return next((text.strip() for name, text in _SECTION.findall(changelog) if name == number), None)


def problems(root: Path, number: str, *, publish: bool) -> Iterator[str]:
    """Why this version cannot be released from this checkout. To be published, the commit must have its tag."""
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    newest = _NEWEST.findall(changelog)[0]
    if _git(root, "status", "--porcelain"):
        yield "the checkout has changes that are not committed"
    if newest != number:
        yield f"the newest section of CHANGELOG.md is {newest}, the version in pyproject.toml {number}"
    elif not notes(changelog, number):
        yield f"the section {number} of CHANGELOG.md has no date or no text"
    tags, tag = _git(root, "tag", "--points-at", "HEAD").split(), f"v{number}"
    if tag in tags:
        return
    if _git(root, "tag", "--list", tag):
        yield f"the tag {tag} is on another commit"
    elif tags:
        yield f"the tag of this commit is {tags[0]}, not {tag}"
    elif publish:
        yield f"this commit does not have the tag {tag}"


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

"""Promises of release/ready.py: only a commit that is what it says can be released."""

import subprocess
from pathlib import Path

import pytest

from release.ready import notes, problems, version

CHANGELOG = "# Changelog\n\n## [1.2.0] - 2026-01-02\n\n### Added\n\n- All.\n\n## [1.1.0] - 2026-01-01\n\nFirst.\n"


def git(folder: Path, *words: str) -> None:
    author = [
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@example.org",
        "-c",
        "tag.gpgSign=false",
        "-c",
        "commit.gpgSign=false",
    ]
    subprocess.run(["git", "-C", str(folder), *author, *words], check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of version 1.2.0, not yet tagged."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "Release")


def found(checkout: Path, *, publish: bool = False) -> list[str]:
    return list(problems(checkout, version(checkout), publish=publish))


def test_a_release_is_a_clean_commit(checkout: Path) -> None:
    """With the version's section on top of the changelog and nothing uncommitted, there is no problem."""
    assert [] == found(checkout)
    (checkout / "left").write_text("")
    assert ["the checkout has changes that are not committed"] == found(checkout)


@pytest.mark.parametrize(
    ("changelog", "problem"),
    [
        (f"## [Unreleased]\n\n- More.\n\n{CHANGELOG}", "the newest section of CHANGELOG.md is Unreleased"),
        (CHANGELOG.replace("1.2.0", "1.3.0"), "the newest section of CHANGELOG.md is 1.3.0"),
        (CHANGELOG.replace(" - 2026-01-02", ""), "the section 1.2.0 of CHANGELOG.md has no date or no text"),
        ("## [1.2.0] - 2026-01-02\n\n## [1.1.0] - 2026-01-01\n", "the section 1.2.0 of CHANGELOG.md has no date or"),
    ],
)
def test_the_changelog_begins_with_the_release(checkout: Path, changelog: str, problem: str) -> None:
    """What is released is described, under its number, with the day."""
    (checkout / "CHANGELOG.md").write_text(changelog)
    commit(checkout)
    (said,) = found(checkout)

    assert said.startswith(problem)


def test_only_a_tagged_commit_is_published(checkout: Path) -> None:
    """A dry run needs no tag; to publish, the tag of this version must be on this commit."""
    assert ["this commit does not have the tag v1.2.0"] == found(checkout, publish=True)
    git(checkout, "tag", "v1.1.9")
    assert ["the tag of this commit is v1.1.9, not v1.2.0"] == found(checkout)
    git(checkout, "tag", "v1.2.0")
    assert [] == found(checkout, publish=True)
    commit(checkout)
    assert ["the tag v1.2.0 is on another commit"] == found(checkout)


def test_notes_are_the_section_of_the_version() -> None:
    """The text of a release is its own section of the changelog, without heading and neighbours."""
    assert "### Added\n\n- All." == notes(CHANGELOG, "1.2.0")
    assert "First." == notes(CHANGELOG, "1.1.0")
    assert notes(CHANGELOG, "1.0.0") is None

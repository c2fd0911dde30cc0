"""`orchestra down` and `orchestra up` on folders that are no stack's."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestra.cli.main import build
from orchestra.devstack.folder import DataFolder


def orchestra(*words: str | Path) -> Result:
    return CliRunner().invoke(build(), [str(word) for word in words])


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "file").write_text("keep")
    return folder


@pytest.mark.parametrize("words", [("down", "--wipe"), ("up",), ("up", "--detach"), ("down",)])
def test_a_folder_of_others_is_left_alone(foreign: Path, words: tuple[str, ...]) -> None:
    """A folder that `up` did not make is refused by name with exit code 1, and nothing is put there or taken away."""
    done = orchestra(*words, "--data", foreign)

    assert done.exit_code == 1
    assert str(foreign) in done.stderr
    assert f"{foreign} is removed" not in done.output
    assert [path.name for path in foreign.iterdir()] == ["file"]


@pytest.mark.parametrize("place", [".", "/"])
def test_neither_the_present_folder_nor_the_root_is_wiped(
    foreign: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """`--data .` and `--data /` are refused."""
    monkeypatch.chdir(foreign)

    assert orchestra("down", "--wipe", "--data", place).exit_code == 1
    assert (foreign / "file").exists()


def test_a_stack_is_wiped_once_it_was_looked_at(tmp_path: Path) -> None:
    """What is left after a wipe is named, with exit code 1; "is removed" is said when the folder is gone."""
    folder = DataFolder.at(tmp_path / "data")
    folder.create()
    (folder.path / "notes").write_text("keep")
    partly = orchestra("down", "--wipe", "--data", folder.path)
    (folder.path / "notes").unlink()
    folder.create()
    wholly = orchestra("down", "--wipe", "--data", folder.path)

    assert (partly.exit_code, partly.stdout) == (1, "")
    assert f"{folder.path}/notes is none of its own" in partly.stderr
    assert (wholly.exit_code, wholly.stdout) == (0, f"{folder.path} is removed\n")
    assert not folder.path.exists()


def test_nothing_there_is_told(tmp_path: Path) -> None:
    """Without a folder there is nothing to stop, which is an error, and nothing to remove, which is none."""
    stopped, wiped = (orchestra("down", *words, "--data", tmp_path / "none") for words in ((), ("--wipe",)))

    assert (stopped.exit_code, wiped.exit_code) == (1, 0)
    assert "no stack is running" in stopped.stderr
    assert "nothing to remove" in wiped.stdout


@pytest.mark.parametrize("words", [("up",), ("up", "--detach")])
def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Where something else has the folder's name, one line says so."""
    (tmp_path / "file").touch()
    done = orchestra(*words, "--data", tmp_path / "file")

    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert "File exists" in done.stderr

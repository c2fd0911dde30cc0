"""`orchestra down` and `orchestra up` on folders that are no stack's."""

import socket
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
    assert f"{foreign} was deleted" not in done.output
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
    """What is left after a wipe is named, with exit code 1; "was deleted" is said when the folder is gone."""
    folder = DataFolder.at(tmp_path / "data")
    folder.create()
    (folder.path / "notes").write_text("keep")
    partly = orchestra("down", "--wipe", "--data", folder.path)
    (folder.path / "notes").unlink()
    folder.create()
    wholly = orchestra("down", "--wipe", "--data", folder.path)

    assert (partly.exit_code, partly.stdout) == (1, "")
    assert f"{folder.path}/notes was not created by" in partly.stderr
    assert (wholly.exit_code, wholly.stdout) == (0, f"{folder.path} was deleted\n")
    assert not folder.path.exists()


def test_nothing_there_is_told(tmp_path: Path) -> None:
    """Without a folder there is nothing to stop and nothing to delete, which is said and no error."""
    stopped, wiped = (orchestra("down", *words, "--data", tmp_path / "none") for words in ((), ("--wipe",)))

    assert (stopped.exit_code, wiped.exit_code) == (0, 0)
    assert "no stack is running" in stopped.stdout
    assert "nothing to delete" in wiped.stdout


def test_a_stack_that_is_stopped_can_be_stopped_again(tmp_path: Path) -> None:
    """`down` can be repeated: where a stack's folder is there and nothing runs on it, the exit code is 0."""
    folder = DataFolder.at(tmp_path / "data")
    folder.create()
    done = orchestra("down", "--data", folder.path)

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"no stack is running on {folder.path}; its data is kept in {folder.path}\n"


@pytest.mark.parametrize("words", [(), ("--wipe",)])
def test_what_cannot_be_asked_is_not_said_to_be_stopped(tmp_path: Path, words: tuple[str, ...]) -> None:
    """If it is unknown whether a stack runs, `down` fails, and nothing is removed."""
    folder = DataFolder.at(tmp_path / "data")
    folder.create()
    folder.socket.symlink_to(folder.socket)
    done = orchestra("down", *words, "--data", folder.path)

    assert (done.exit_code, "cannot be reached" in done.stderr) == (1, True)
    assert folder.is_stack()


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("words", [("up",), ("up", "--detach")])
def test_a_start_that_is_refused_for_its_ports_leaves_nothing(
    tmp_path: Path, words: tuple[str, ...], there: bool
) -> None:
    """A port that is in use is reported before the folder is created, or anything in an empty one."""
    data = tmp_path / "data"
    if there:
        data.mkdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = orchestra(*words, "--port-base", str(min(port, 65000)), "--data", data)

    assert (done.exit_code, f"port {port} (gateway 1) is taken" in done.stderr) == (1, True)
    assert [data] * there == list(tmp_path.iterdir())
    assert not there or not list(data.iterdir())


@pytest.mark.parametrize("words", [("up",), ("up", "--detach")])
def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Where something else has the folder's name, one line says so."""
    (tmp_path / "file").touch()
    done = orchestra(*words, "--data", tmp_path / "file")

    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert "is not a folder" in done.stderr

"""The data folder."""

import json
import stat
from pathlib import Path

import pytest

from orchestra.devstack.errors import AlreadyRunningError
from orchestra.devstack.folder import DataFolder


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder.at(tmp_path / "data")
    made.create()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_secret_is_kept(folder: DataFolder) -> None:
    """The secret has 32 random bytes, stays the same, and only its owner reads it."""
    secret = folder.secret()

    assert len(bytes.fromhex(secret)) == 32
    assert folder.secret() == secret
    assert mode(folder.path / "secret") == 0o600


def test_one_stack_holds_it(folder: DataFolder) -> None:
    """While a stack holds the folder another one is refused; afterwards it is free."""
    with folder.held(), pytest.raises(AlreadyRunningError, match="already running"), folder.held():
        pass
    with folder.held():
        pass


def test_the_state_is_closed_to_others(folder: DataFolder) -> None:
    """The state file, which holds secrets, is replaced whole and has mode 0600."""
    folder.write_state({"state": "starting"})
    folder.write_state({"state": "ready"})

    assert json.loads(folder.state.read_text()) == {"state": "ready"}
    assert mode(folder.state) == 0o600


def test_data_and_logs_are_closed_to_others(folder: DataFolder) -> None:
    """Nobody else lists the folder, or reads Kafka's data and the logs, which may hold what people wrote."""
    assert mode(folder.path) & 0o066 == 0
    assert [mode(path) for path in (folder.kafka, folder.logs)] == [0o700, 0o700]


def test_wiping_removes_data_that_lie_elsewhere(folder: DataFolder, tmp_path: Path) -> None:
    """A wipe follows the link to Postgres' data."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.postgres.mkdir()
    (folder.postgres / "data").symlink_to(elsewhere)
    folder.wipe()

    assert not elsewhere.exists()
    assert not folder.path.exists()

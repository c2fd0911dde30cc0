"""The data folder."""

import errno
import json
import shutil
import stat
from pathlib import Path

import pytest

from orchestra.devstack import folder as folder_module
from orchestra.devstack.errors import AlreadyRunningError, FolderRefusedError
from orchestra.devstack.folder import DataFolder, open_private, system_folder


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


def test_logs_and_lock_are_private(folder: DataFolder) -> None:
    """Only their owner may read them, also where others could before."""
    folder.log("kafka").touch(mode=0o644)
    for name in ("kafka", "llm"):
        with open_private(folder.log(name)) as log:
            log.write(b"a line")
        assert (mode(folder.log(name)), folder.log(name).read_bytes()) == (0o600, b"a line")
    with folder.held():
        assert mode(folder.path / "lock") == 0o600


def test_data_and_logs_are_closed_to_others(folder: DataFolder) -> None:
    """No other user can list the folder, or read Kafka's data and the logs, which may hold what people wrote."""
    assert mode(folder.path) & 0o066 == 0
    assert [mode(path) for path in (folder.kafka, folder.logs)] == [0o700, 0o700]


def fill(folder: DataFolder) -> None:
    """What a stack leaves behind."""
    with folder.held():
        folder.secret()
        folder.write_state({})
    folder.postgres.mkdir()
    for name in ("kafka/data/topic-0/0.log", "postgres/data/base/1", "logs/worker-1.log", "logs/worker-1.log.1"):
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_text("x")
    for name in ("kafka/server.properties", "postgres/password", "run/worker-1.ready"):
        (folder.path / name).write_text("x")


def tree(path: Path) -> set[str]:
    return {str(each.relative_to(path)) for each in path.rglob("*")}


def test_a_wipe_removes_all_of_a_stack(folder: DataFolder) -> None:
    """Everything that a stack has put into its folder goes, and the folder with it."""
    fill(folder)

    assert folder.wipe() == []
    assert not folder.path.exists()


def test_a_wipe_leaves_what_is_not_the_stacks(folder: DataFolder) -> None:
    """Files of others in the folder and in its parts stay, and each is named; once they are gone, so is all of it."""
    fill(folder)
    others = ("notes", "logs/mine.txt", "logs/mine.log", "kafka/keep")
    for name in others:
        (folder.path / name).write_text("keep")
    left = folder.wipe()

    assert tree(folder.path) == {*others, "logs", "kafka", "lock", ".orchestra-stack"}
    assert {line.split()[0] for line in left} == {str(folder.path / name) for name in others}

    for name in others:
        (folder.path / name).unlink()

    assert [] == folder.wipe()
    assert not folder.path.exists()


def test_a_wipe_follows_no_link_out(folder: DataFolder, tmp_path: Path) -> None:
    """The target of a link stays, whether the link is one of the stack's folders or something in one."""
    outside = tmp_path / "outside"
    (outside / "data").mkdir(parents=True)
    fill(folder)
    for inner in (folder.kafka / "data", folder.logs):
        shutil.rmtree(inner)
        inner.symlink_to(outside)
    (outside / "x.log").write_text("keep")
    folder.wipe()

    assert tree(outside) == {"data", "x.log"}


@pytest.mark.parametrize("own", [True, False])
def test_a_wipe_follows_the_link_to_its_own_postgres(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, own: bool
) -> None:
    """Postgres' data in the system folder go where they belong to this very folder, and to no other."""
    monkeypatch.setattr(folder_module, "SYSTEM_FOLDER", tmp_path)
    folder.postgres.mkdir()
    elsewhere = system_folder(folder.postgres) if own else tmp_path / "0123456789abcdef"
    elsewhere.mkdir()
    (folder.postgres / "data").symlink_to(elsewhere)
    folder.wipe()

    assert elsewhere.exists() is not own
    assert not folder.path.exists()


def test_what_cannot_be_removed_is_told(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal that fails is reported with its place and reason, and the folder can be wiped again."""

    def busy(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path / "topic-0"))

    fill(folder)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", busy)
        left = folder.wipe()

    assert f"{folder.kafka}/data/topic-0: Device or resource busy" in left
    assert folder.wipe() == []


def test_a_folder_of_others_is_not_wiped(tmp_path: Path) -> None:
    """A folder that no stack has made is refused, whatever is in it, and nothing in it is touched."""
    for names in ([], ["file"], ["kafka/x", "logs/x", "run/x"], ["lock", "kafka/x", "logs/x", "run/x", "mine"]):
        place = tmp_path / str(len(names))
        place.mkdir()
        for name in names:
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text("keep")
        before = tree(place)
        with pytest.raises(FolderRefusedError, match="did not create"):
            DataFolder.at(place).wipe()

        assert tree(place) == before


@pytest.mark.parametrize("place", [".", "inner", "~"])
def test_where_one_stands_is_not_wiped(folder: DataFolder, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The current folder, the home folder, and what they lie in are refused, though a stack be in them."""
    fill(folder)
    before = tree(folder.path)
    if place == "~":
        monkeypatch.setenv("HOME", str(folder.path))
    else:
        monkeypatch.chdir(folder.path / ("logs" if place == "inner" else "."))
    with pytest.raises(FolderRefusedError, match="nothing was deleted"):
        folder.wipe()

    assert tree(folder.path) == before


@pytest.mark.parametrize("complete", [True, False])
def test_stacks_of_before_the_mark_are_known(folder: DataFolder, *, complete: bool) -> None:
    """A folder that was made before there was a mark is used on and wiped, also one whose first start failed."""
    if complete:
        fill(folder)
    else:
        with folder.held():
            pass
    (folder.path / ".orchestra-stack").unlink()
    folder.create()
    (folder.path / ".orchestra-stack").unlink()

    assert folder.wipe() == []


def test_no_stack_is_made_among_other_things(tmp_path: Path) -> None:
    """A folder that holds something else is refused and left as it was; an empty one is taken."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("keep")
    (tmp_path / "empty").mkdir()
    DataFolder.at(tmp_path / "empty").create()
    with pytest.raises(FolderRefusedError, match="is not empty"):
        DataFolder.at(tmp_path / "full").create()

    assert tree(tmp_path / "full") == {"file"}


@pytest.mark.parametrize("name", ["a,b", "a\nb", "caf\udce9"])
def test_a_path_that_kafka_cannot_take_is_refused(tmp_path: Path, name: str) -> None:
    """A comma, a control character and bytes that are no text are refused by name, before anything is made."""
    with pytest.raises(FolderRefusedError, match="Kafka does not accept"):
        DataFolder.at(tmp_path / name).create()

    assert tree(tmp_path) == set()


def test_a_secret_is_written_whole_or_not_at_all(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails half way leaves no half secret, which a later start would take for the whole."""

    def full(path: Path, text: str) -> int:
        path.write_bytes(text[:3].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            folder.secret()

    assert len(folder.secret()) == 64

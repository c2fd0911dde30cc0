"""Promises of orchestra/files/folder.py: a blob is there completely or not at all, and only in the right folder."""

import asyncio
from pathlib import Path

import pytest

from orchestra.files import marker
from orchestra.files.folder import Folder
from orchestra.files.home import MARKER, FilesUnavailableError, new_key
from tests.support.homes import (
    MIB,
    SECRETS,
    check_broken_put,
    check_cancelled_put,
    check_marker,
    check_round_trip,
    chunks_of,
    keys_of,
    read,
)


@pytest.fixture
async def home(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "files")
    await marker.claim(made, SECRETS)
    return made


@pytest.mark.parametrize("size", [1, MIB, 3 * MIB + 1])
async def test_a_blob_comes_back_as_it_was(home: Folder, size: int) -> None:
    """Whole and in parts, until it is deleted."""
    await check_round_trip(home, size)


async def test_a_put_that_fails_leaves_nothing(home: Folder) -> None:
    """Neither a blob nor a part of one."""
    await check_broken_put(home)


async def test_a_folder_has_one_deployment(tmp_path: Path) -> None:
    """Its marker says which, and another one is refused."""
    await check_marker(Folder(tmp_path / "files"))


async def test_a_put_that_is_cancelled_leaves_nothing(home: Folder) -> None:
    """A gateway that stops in the middle of an upload takes back what was written."""
    await check_cancelled_put(home)


async def test_what_a_crash_left_is_listed(home: Folder, tmp_path: Path) -> None:
    """An unfinished blob has a key like any other, so that the sweep finds and deletes it."""
    left = f"unfinished/{'a' * 30}"
    (tmp_path / "files" / left).write_bytes(b"half")

    assert {left} == await keys_of(home)
    await home.delete([left])

    assert set() == await keys_of(home)


async def test_nothing_is_stored_in_a_folder_without_its_marker(home: Folder, tmp_path: Path) -> None:
    """While the disk is not mounted, files are not written to what is under it; when it is back, all is there."""
    key, root, there = new_key(), tmp_path / "files", tmp_path / "unmounted"
    await home.put(key, chunks_of(b"kept"))
    root.rename(there)
    root.mkdir()
    (root / "unfinished").mkdir()

    with pytest.raises(FilesUnavailableError, match="no marker"):
        await home.put(new_key(), chunks_of(b"lost"))
    with pytest.raises(FilesUnavailableError, match="no marker"):
        await home.check()

    (root / "unfinished").rmdir()
    root.rmdir()
    there.rename(root)
    await home.check()
    assert b"kept" == await read(home, key)


async def test_other_files_in_the_folder_are_no_blobs(home: Folder, tmp_path: Path) -> None:
    """What has no blob's name is neither listed nor can it be named."""
    (tmp_path / "files" / "notes.txt").write_text("mine")
    (tmp_path / "files" / "ab").mkdir()
    (tmp_path / "files" / "ab" / "notes.txt").write_text("mine")

    assert set() == await keys_of(home)
    for key in ("../secret", "ab/notes.txt", MARKER, "/etc/passwd", ""):
        with pytest.raises(ValueError, match="not the key"):
            await home.delete([key])


async def test_a_blob_is_for_its_user_only(tmp_path: Path) -> None:
    """A folder that the gateway creates cannot be entered by other users."""
    await marker.claim(Folder(tmp_path / "files"), SECRETS)

    assert 0o700 == (tmp_path / "files").stat().st_mode & 0o777


async def test_a_worker_waits_for_the_marker(tmp_path: Path) -> None:
    """A worker that starts before its gateway finds the marker as soon as it is there, and none without a gateway."""
    folder = Folder(tmp_path / "files")
    with pytest.raises(marker.UnmarkedHomeError):
        await marker.until_claimed(folder, SECRETS, 0)
    waiting = asyncio.create_task(marker.until_claimed(folder, SECRETS, 30))
    await marker.claim(folder, SECRETS)

    await waiting


async def test_a_worker_says_when_the_secret_is_another(tmp_path: Path) -> None:
    """A worker with a new secret learns to name the old one, and starts with it before a gateway has done so."""
    folder = Folder(tmp_path / "files")
    await marker.claim(folder, SECRETS)

    with pytest.raises(marker.ForeignHomeError, match="ORCHESTRA_SECRET_OLD"):
        await marker.until_claimed(folder, [b"n" * 32], 0)
    await marker.until_claimed(folder, [b"n" * 32, *SECRETS], 0)


async def test_a_folder_has_no_urls(home: Folder) -> None:
    """Its files are sent by the gateway."""
    assert await home.presigned_url(new_key(), 60) is None

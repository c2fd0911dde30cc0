"""Promises of workers/files.py: blobs go when their files have gone, and no others."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestra.files import marker
from orchestra.files.folder import Folder
from orchestra.files.home import new_key
from orchestra.store import files
from orchestra.store.database import Database
from orchestra.store.files import NewFile, StoredFile
from tests.support.empty import empty, open_database
from tests.support.homes import SECRETS, chunks_of, keys_of, read
from tests.support.stack import Stack
from workers.files import FileSweep


@pytest.fixture(scope="module")
async def opened(stack: Stack) -> AsyncIterator[Database]:
    async with open_database(stack) as made:
        yield made


@pytest.fixture
async def database(opened: Database) -> Database:
    await empty(opened)
    await opened.run("UPDATE totals_due SET due_at = now() WHERE what = 'files'")
    return opened


@pytest.fixture
async def home(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "files")
    await marker.claim(made, SECRETS)
    return made


@pytest.fixture
def sweep(database: Database, home: Folder) -> FileSweep:
    return FileSweep(database, home, SECRETS, 0.0)


async def keep(database: Database, home: Folder) -> StoredFile:
    """A file of four bytes."""
    key = new_key()
    stored = await home.put(key, chunks_of(b"data"))
    new = NewFile("batch", "a", "text/plain", stored.bytes, stored.sha256, key)
    kept = await files.add(database, ("default", "ann"), new, days=1, max_bytes=100)
    assert kept
    return kept


def make_old(folder: Path, *keys: str) -> None:
    """Set the time of these blobs to 25 hours ago."""
    then = (datetime.now(UTC) - timedelta(hours=25)).timestamp()
    for key in keys:
        os.utime(folder / "files" / key, (then, then))


async def test_deleted_and_expired_files_are_removed(database: Database, home: Folder, sweep: FileSweep) -> None:
    """Their blobs and rows go; a file that is there keeps both."""
    kept, deleted, expired = [await keep(database, home) for _ in range(3)]
    await files.mark_deleted(database, "default", deleted.id, None)
    await database.run("UPDATE files SET expires_at = now() WHERE id = :id", id=expired.id)

    await sweep.remove_gone()

    assert {kept.blob} == await keys_of(home)
    assert [kept.id] == [row.id for row in await database.run("SELECT id FROM files")]


async def test_orphans_are_removed_when_they_are_old(
    database: Database, home: Folder, sweep: FileSweep, tmp_path: Path
) -> None:
    """A blob without a row may belong to an upload that is about to end; after 24 hours it belongs to none."""
    kept, young, old, unfinished = await keep(database, home), new_key(), new_key(), f"unfinished/{'a' * 30}"
    for key in (young, old):
        await home.put(key, chunks_of(b"x"))
    (tmp_path / "files" / unfinished).write_bytes(b"x")
    make_old(tmp_path, kept.blob, old, unfinished)

    await sweep.remove_orphans()

    assert {kept.blob, young} == await keys_of(home)


async def test_another_deployments_blobs_are_left_alone(
    database: Database, home: Folder, sweep: FileSweep, tmp_path: Path
) -> None:
    """Where the marker is another's, no blob counts as an orphan."""
    key = new_key()
    await home.put(key, chunks_of(b"theirs"))
    make_old(tmp_path, key)
    await home.write_marker("another")

    await sweep.remove_orphans()

    assert b"theirs" == await read(home, key)


async def test_the_home_away_and_back(database: Database, home: Folder, sweep: FileSweep, tmp_path: Path) -> None:
    """While it is away nothing is forgotten, and one warning is logged; then the sweep makes up for it."""
    deleted = await keep(database, home)
    await files.mark_deleted(database, "default", deleted.id, None)
    (tmp_path / "files").rename(tmp_path / "away")
    with capture_logs() as logs:
        for _ in range(3):
            await sweep.remove_gone()
            await sweep.remove_orphans()
    (tmp_path / "away").rename(tmp_path / "files")

    assert ["files_unavailable"] == [line["event"] for line in logs]
    assert [deleted.blob] == await files.gone(database, 10)
    await sweep.remove_gone()
    assert set() == await keys_of(home)
    assert [] == await files.gone(database, 10)

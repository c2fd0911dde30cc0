"""Promises of migrations/0021_files.sql: a file's row is complete."""

import pytest

from orchestra.store.database import Database, DataRefusedError

_ADD = """
INSERT INTO files (tenant, id, owner, purpose, filename, media_type, bytes, sha256, blob, expires_at)
VALUES ('default', :id, '', 'batch', 'a', 'text/plain', :bytes, :digest, :blob, now())
"""
_GOOD = {"id": "a", "bytes": 1, "digest": "0" * 64, "blob": "ab/c"}


async def test_a_file_has_a_length_a_hash_and_a_blob_of_its_own(database: Database) -> None:
    """A row without one of them, or with the blob of another file, is refused."""
    await database.run(_ADD, **_GOOD)
    for wrong in ({"bytes": -1}, {"digest": "A" * 64}, {"digest": ""}, {}):
        with pytest.raises(DataRefusedError):
            await database.run(_ADD, **{**_GOOD, "id": "b", "blob": "ab/d" if wrong else "ab/c", **wrong})

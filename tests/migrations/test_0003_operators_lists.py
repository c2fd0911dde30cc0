"""Promises of migrations/0003_operators_lists.sql: what the database enforces, whatever the code does."""

import pytest

from orchestra.store.database import Database, DataRefusedError
from tests.support.store import letter, take


@pytest.mark.parametrize(
    "half", ["replayed_at = now()", "replayed_as = gen_random_uuid()", "edited_at = now()", "edited_headers = '[]'"]
)
async def test_half_a_replay_or_edit_is_refused(database: Database, half: str) -> None:
    """A letter has both the time and the id of its replay or neither, and an edit is complete or absent."""
    await take(database, dead_letters=[letter()])

    with pytest.raises(DataRefusedError):
        await database.run(f"UPDATE dead_letters SET {half}")

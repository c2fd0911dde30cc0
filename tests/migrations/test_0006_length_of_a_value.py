"""Promises of migrations/0006_length_of_a_value.sql: letters of older releases and workers have their length."""

from orchestra.store.database import Database
from tests.support.store import letter, take


async def test_a_value_that_is_kept_is_measured(database: Database) -> None:
    """A letter without a stored length has that of its value."""
    await take(database, dead_letters=[letter(value=b"12345")])

    (row,) = await database.run("SELECT value_bytes, octet_length(value) AS kept FROM dead_letters")

    assert (None, 5) == (row.value_bytes, row.kept)

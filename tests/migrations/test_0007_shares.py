"""Promises of migrations/0007_shares.sql: the counts that fair shares need, and the list of scopes."""

import pytest

from orchestra.store.database import Database, DataRefusedError

_KEY = """
INSERT INTO api_keys (id, name, scopes, secret_hash)
VALUES (:id, 'x', CAST(:scopes AS text[]), decode(repeat('00', 32), 'hex'))
"""


async def test_only_scopes_of_the_list_are_kept(database: Database) -> None:
    """The old scopes and the new ones are accepted, and no others; a key without a scope is refused."""
    for number, scopes in enumerate((["read"], ["write", "priority"], ["admin", "operate"])):
        await database.run(_KEY, id=f"good-{number}", scopes=scopes)
    for scopes in (["everything"], ["read", "everything"], []):
        with pytest.raises(DataRefusedError):
            await database.run(_KEY, id="bad", scopes=scopes)


async def test_both_counts_are_due_from_the_beginning(database: Database) -> None:
    """The first worker that checks computes both counts."""
    found = await database.run("SELECT what FROM totals_due WHERE due_at <= now() + interval '1 year' ORDER BY what")

    assert ["bytes", "conversations", "files", "turns"] == [row.what for row in found]

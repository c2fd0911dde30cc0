"""Promises of migrations/0007_shares.sql: what lets one owner's turns be passed over, and the scopes that there are."""

import pytest

from orchestra.store.database import Database, DataRefusedError

_KEY = """
INSERT INTO api_keys (id, name, scopes, secret_hash)
VALUES (:id, 'x', CAST(:scopes AS text[]), decode(repeat('00', 32), 'hex'))
"""


async def test_only_scopes_of_the_list_are_kept(database: Database) -> None:
    """Those of before, those that were added, and no other; a key of none is none."""
    for number, scopes in enumerate((["read"], ["write", "priority"], ["admin", "operate"])):
        await database.run(_KEY, id=f"good-{number}", scopes=scopes)
    for scopes in (["everything"], ["read", "everything"], []):
        with pytest.raises(DataRefusedError):
            await database.run(_KEY, id="bad", scopes=scopes)


async def test_both_counts_are_due_from_the_beginning(database: Database) -> None:
    """The first worker that looks makes them."""
    found = await database.run("SELECT what FROM totals_due WHERE due_at <= now() + interval '1 year' ORDER BY what")

    assert ["bytes", "turns"] == [row.what for row in found]

"""Promises of orchestra/store/files.py: a file is added within its owner's limit, and is never half there."""

import asyncio
from typing import Any

from orchestra.files.home import new_key
from orchestra.store import files
from orchestra.store.database import Database
from orchestra.store.files import NewFile, StoredFile, is_id, new_id

ANN = ("default", "ann")


def new(**changes: Any) -> NewFile:
    fields = {"purpose": "batch", "filename": "a", "media_type": "text/plain", "bytes": 10, "sha256": "0" * 64}
    return NewFile(**{**fields, "blob": new_key(), **changes})


async def add(database: Database, file: NewFile, limit: int = 1000, days: int = 1) -> StoredFile | None:
    return await files.add(database, ANN, file, days=days, max_bytes=limit)


async def expire(database: Database, file: StoredFile | None) -> None:
    assert file
    await database.run("UPDATE files SET expires_at = now() WHERE id = :id", id=file.id)


def test_ids_are_in_the_order_of_their_time() -> None:
    """A later file has a greater id, and each is of the form that is accepted."""
    ids = [new_id() for _ in range(3)]
    times = [id[5:17] for id in ids]

    assert all(map(is_id, ids))
    assert times == sorted(times)
    assert 3 == len(set(ids))
    assert not any(map(is_id, ("", "file-", ids[0] + "0", ids[0].upper(), ids[0] + "\n")))


async def test_uploads_at_the_same_time_share_one_limit(database: Database) -> None:
    """Of ten files at once only those are added that fit together."""
    added = await asyncio.gather(*(add(database, new(), limit=55) for _ in range(10)))

    assert 5 == sum(each is not None for each in added)
    assert 50 == await files.stored_bytes(database, ANN)


async def test_what_is_gone_does_not_count(database: Database) -> None:
    """Deleted and expired files are found no more, and make room; a row goes only once its blob is removed."""
    kept, deleted, expired = [await add(database, new()) for _ in range(3)]
    assert kept
    assert deleted
    assert expired
    assert await files.mark_deleted(database, "default", deleted.id, "ann")
    await expire(database, expired)

    assert 10 == await files.stored_bytes(database, ANN)
    assert [kept, None, None] == [
        await files.find(database, "default", each.id, None) for each in (kept, deleted, expired)
    ]
    assert not await files.mark_deleted(database, "default", expired.id, None)
    gone = await files.gone(database, 10)
    assert {deleted.blob, expired.blob} == set(gone)
    assert 1 == len(await files.gone(database, 1))
    await files.forget(database, [*gone, kept.blob])
    assert [] == await files.gone(database, 10)
    assert kept == await files.find(database, "default", kept.id, "ann")


async def test_blobs_without_a_row(database: Database) -> None:
    """Only those are unknown that no row names, not even that of a deleted file."""
    kept, deleted, orphan = await add(database, new()), await add(database, new()), new_key()
    assert kept
    assert deleted
    await files.mark_deleted(database, "default", deleted.id, None)

    assert [orphan] == await files.unknown(database, [kept.blob, orphan, deleted.blob])


async def test_one_worker_walks_at_a_time(database: Database) -> None:
    """Of several that ask at once one may walk, and then none until the next time is due."""
    await database.run("UPDATE totals_due SET due_at = now() WHERE what = 'files'")

    assert [False, False, True] == sorted(await asyncio.gather(*(files.take_walk(database, 60.0) for _ in range(3))))
    assert not await files.take_walk(database, 60.0)


async def test_each_list_uses_its_index(database: Database) -> None:
    """No list, sum or sweep reads the files of others."""
    from orchestra.store.files import _FIND_OWNED, _GONE, _SUM, _page

    for where in ((), ("owner",), ("purpose",), ("owner", "purpose"), ("owner", "before")):
        conditions = tuple(files._CONDITIONS[name] for name in where)
        text = _page(conditions, oldest_first=False)
        plan = await _plan(database, text)
        assert "Seq Scan" not in plan, plan
        assert "Sort" not in plan, plan
    for text in (_SUM, _FIND_OWNED, _GONE):
        assert "Seq Scan" not in await _plan(database, text)


async def _plan(database: Database, text: str) -> str:
    given = {"tenant": "'t'", "owner": "'o'", "purpose": "'p'", "limit": "10", "before": "'x'", "id": "'i'"}
    for name, value in given.items():
        text = text.replace(f":{name}", value)
    return "\n".join(row[0] for row in await database.run(f"EXPLAIN {text}"))


async def test_files_are_found_by_the_ids_that_their_owner_names(database: Database) -> None:
    """Only the owner's own that are there; no owner can name the tenant's, and the tenant no owner's."""
    mine, deleted, expired = [await add(database, new()) for _ in range(3)]
    shared = await files.add(database, ("default", ""), new(), days=1, max_bytes=100)
    assert mine
    assert deleted
    assert expired
    assert shared
    await files.mark_deleted(database, "default", deleted.id, None)
    await expire(database, expired)
    ids = [mine.id, deleted.id, expired.id, shared.id, "file-x"]

    for owner, found in ((ANN, {mine.id: mine}), (("default", ""), {shared.id: shared}), (("other", "ann"), {})):
        assert found == await files.named(database, owner, ids)

"""Promises of orchestra/store/files.py: a file is added within its owner's limit, and is never half there."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

from orchestra.files.home import new_key
from orchestra.store import files
from orchestra.store.cancels import delete_conversations
from orchestra.store.database import Database
from orchestra.store.files import NewFile, StoredFile, is_id, new_id, part_id
from orchestra.store.retention import sweep_old
from schemas.status import Status
from tests.support.store import claim_one, finish, request, take

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


async def body(database: Database, request_id: UUID, *, kept_by_messages: bool = False) -> StoredFile:
    """The body of a request."""
    kept = await add(database, new(purpose="request", request_id=request_id, kept_by_messages=kept_by_messages))
    assert kept
    return kept


async def left(database: Database) -> set[str]:
    """The ids of the files that are not deleted."""
    return {row.id for row in await database.run("SELECT id FROM files WHERE deleted_at IS NULL")}


async def test_a_body_is_no_upload(database: Database) -> None:
    """It counts for its owner, but is in no list, is not found by its id, and cannot be deleted by a caller."""
    of_request = await body(database, uuid4())

    listed = await files.page(database, "default", "ann", purpose=None, place=None, oldest_first=False, limit=10)

    assert [] == listed
    assert await files.find(database, "default", of_request.id, None) is None
    assert not await files.mark_deleted(database, "default", of_request.id, None)
    assert 10 == await files.stored_bytes(database, ANN)


async def test_parts_of_bodies(database: Database) -> None:
    """A part is named by where it is; the whole body, a part beyond its end, or one of an upload is not found."""
    of_request, upload = await body(database, uuid4()), await add(database, new())
    assert upload
    ids = [of_request.id, *(part_id(each.id, 4, length) for each in (of_request, upload) for length in (6, 7))]

    found = await files.named(database, ANN, [*ids, upload.id])

    assert {ids[1], upload.id} == found.keys()
    part = found[ids[1]]
    assert (4, 6, of_request.blob, True) == (part.start, part.bytes, part.blob, part.of_body)
    assert {} == await files.named(database, ("default", "bob"), ids)


async def ended(database: Database, status: Status = Status.COMPLETED) -> UUID:
    """A request that has ended, with its answer."""
    asked = request(user="ann")
    await take(database, asked)
    await finish(database, await claim_one(database), status)
    return asked.id


async def forget_row(database: Database, id: UUID) -> None:
    """Let the retention delete the row of a request."""
    await database.run("UPDATE requests SET finished_at = now() - interval '31 days' WHERE id = :id", id=id)
    assert await sweep_old(database, 30, 10)


async def test_a_body_goes_with_its_request(database: Database) -> None:
    """Retention deletes both, except for what stored messages name; that goes with the messages."""
    answered, named = await ended(database), await ended(database)
    failed = await ended(database, Status.FAILED)
    plain, kept = await body(database, answered), await body(database, named, kept_by_messages=True)
    unsaid = await body(database, failed, kept_by_messages=True)
    assert {plain.id, kept.id, unsaid.id} == await left(database)

    for id in (answered, named, failed):
        await forget_row(database, id)
    assert {kept.id} == await left(database)
    await database.run("DELETE FROM messages WHERE request_id = :id", id=named)

    assert set() == await left(database)


async def test_a_body_goes_with_its_conversation(database: Database) -> None:
    """A conversation that is deleted takes the bodies of all its requests along, and of no others."""
    first, other = request(user="ann"), request(user="ann")
    await take(database, first, other)
    mine, theirs = await body(database, first.id, kept_by_messages=True), await body(database, other.id)

    async with database.transaction() as tx:
        await delete_conversations(tx, [first.conversation])

    assert {theirs.id} == await left(database)
    assert mine.blob in await files.gone(database, 10)


async def test_a_body_does_not_expire_before_its_request(database: Database) -> None:
    """The sweep renews it while its request is there; without one it expires. Until it is swept it can be read."""
    asked = request(user="ann")
    await take(database, asked)
    needed, orphan = await body(database, asked.id), await body(database, uuid4())
    for file in (needed, orphan):
        await expire(database, file)
    assert part_id(needed.id, 0, 1) in await files.named(database, ANN, [part_id(needed.id, 0, 1)])

    await files.renew(database)

    assert [orphan.blob] == await files.gone(database, 10)


async def test_a_body_that_was_not_accepted_is_discarded(database: Database) -> None:
    """No upload can be discarded in this way."""
    of_request, upload = await body(database, uuid4()), await add(database, new())
    assert upload

    for file in (of_request, upload):
        await files.discard(database, "default", file.id)

    assert {upload.id} == await left(database)

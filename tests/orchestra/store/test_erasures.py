"""Promises of orchestra/store/erasures.py and erasing.py, with the worker's part of them: workers/erase.py."""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka.errors import KafkaError

from orchestra.files.home import new_key
from orchestra.signing import OwnerHasher
from orchestra.store import erasing, erasures, files
from orchestra.store.audit import Author
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.erasures import LedgerOutdatedError, StoredErasure
from orchestra.store.files import NewFile
from orchestra.store.intake import Batch, take_in
from orchestra.store.turns import RequestRef
from schemas import envelope
from schemas.api.audit import Action
from schemas.erasures import Erased
from schemas.errors import ErrorCode, OrchestraError
from tests.support.people import make_key, make_user
from tests.support.plans import noted, plan_of
from tests.support.store import claim_one, count, finish, letter, request, take
from workers.erase import Eraser
from workers.timings import TIMINGS

SECRET = b"s" * 32
BY = Author("default", "key:k", Action.OWNER_ERASE)
AT_ONCE = dataclasses.replace(TIMINGS, erasure_settles=-1.0, erase_again=0.0)


class Erasing:
    """An eraser, and what it has written and stopped."""

    def __init__(self, database: Database) -> None:
        self.recorded: list[Erased] = []
        self.replies: list[Any] = []
        self.stopped: list[RequestRef] = []
        self.eraser = Eraser(
            database, [SECRET], record=self.record, announce=self.replies.extend, stop=self.stopped.extend,
            timings=AT_ONCE,
        )  # fmt: skip

    async def record(self, erased: Sequence[Erased]) -> None:
        """Kafka has them."""
        self.recorded += erased


async def note(database: Database, owner: str, *, leave_admin: bool = False) -> StoredErasure:
    """Have an owner erased."""
    hash = OwnerHasher([SECRET]).hash("default", owner)
    return await erasures.note(database, "default", owner, hash, uuid4(), BY, leave_admin=leave_admin)


async def owners(database: Database) -> dict[str, int]:
    """How many requests each owner has."""
    rows = await database.run("SELECT user_name, count(*) AS n FROM requests GROUP BY user_name")
    return {row.user_name: row.n for row in rows}


def breaking(after: int, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same work, until Postgres goes away."""
    left = iter(range(after))

    async def broken(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise DatabaseUnavailableError
        return await work(*arguments)

    return broken


async def test_another_worker_goes_on_where_one_died(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure that broke off in the middle is finished by the next worker, and touches no other owner."""
    await take(database, *[request(user="ann", text=f"{n}") for n in range(12)], request(user="bob"))
    erasure = await note(database, "ann")
    with monkeypatch.context() as patched:
        patched.setattr(erasing, "_AT_ONCE", 2)
        patched.setattr(erasing, "erase_conversations", breaking(5, erasing.erase_conversations))
        with pytest.raises(DatabaseUnavailableError):
            await Erasing(database).eraser.erase()
    assert 0 < (await owners(database))["ann"] < 12
    await database.run("UPDATE erasures SET due_at = now()")

    second = Erasing(database)
    await second.eraser.erase()

    found = await erasures.find(database, "default", erasure.id)
    assert found is not None
    assert {"bob": 1} == await owners(database)
    assert (None, True, {"requests": 12, "conversations": 12}) == (
        found.owner, found.finished_at is not None, {k: n for k, n in found.erased.items() if n},
    )  # fmt: skip
    # The first one has recorded the erasure, this one its end.
    assert [False] == [each.refuses_until is None for each in second.recorded]


async def test_a_file_is_deleted_with_its_traces(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the work breaks off behind a file, the file is found again, and its id does not stay in the audit."""
    given = NewFile(purpose="batch", filename="a", media_type="text/plain", bytes=1, sha256="0" * 64, blob=new_key())
    file = await files.add(database, ("default", "ann"), given, days=1, max_bytes=9)
    assert file is not None
    await database.run(
        "INSERT INTO audit (event_id, tenant, actor, action, target) VALUES (:id, 'default', 'bob', 'x', :target)",
        id=uuid4(), target=f"files/{file.id}",
    )  # fmt: skip
    erasure = await note(database, "ann")
    with monkeypatch.context() as patched:
        patched.setattr(erasures, "add", breaking(0, erasures.add))
        with pytest.raises(DatabaseUnavailableError):
            await erasing.erase_files(database, erasure, "ann")

    found = [await erasing.erase_files(database, erasure, "ann") for _ in range(2)]

    targets = {row.target for row in await database.run("SELECT target FROM audit")}
    assert [1, 0] == found
    assert {f"erasures/{erasure.id}", "files/erased"} == targets


async def test_nothing_is_deleted_before_kafka_has_the_erasure(database: Database) -> None:
    """If the record cannot be written, the owner's data are all still there."""
    await take(database, request(user="ann"))
    await note(database, "ann")

    async def away(_: Sequence[Erased]) -> None:
        raise KafkaError

    eraser = Eraser(database, [SECRET], record=away, announce=list, stop=list)  # type: ignore[arg-type]
    await eraser.erase()

    assert {"ann": 1} == await owners(database)


async def test_a_running_request_is_stopped_and_then_deleted(database: Database) -> None:
    """The call of a running request is cut; when it has ended the request is deleted, whatever was answered."""
    asked = request(user="ann", text="secret")
    await take(database, asked)
    turn = await claim_one(database)
    await note(database, "ann")
    erasing_now = Erasing(database)
    task = erasing_now.eraser

    work = await erasures.take(database, 0)
    assert work is not None
    await task._walk(work.erasure, "ann")
    assert [asked.ref] == erasing_now.stopped
    await finish(database, turn)
    await database.run("UPDATE erasures SET due_at = now()")
    await task.erase()

    assert ({}, 0, 0) == (await owners(database), await count(database, "messages"), await count(database, "outbox"))


@pytest.mark.parametrize("what", ["requests", "dead_letters"])
async def test_a_batch_that_was_judged_before_an_erasure_is_refused(database: Database, what: str) -> None:
    """Nothing of such a batch is written; one that knows the last erasure is."""
    batch: dict[str, Sequence[Any]] = {
        "requests": [request(user="ann")], "dead_letters": [letter().because(ErrorCode.NOT_JSON, "")],
    }  # fmt: skip
    await note(database, "ann")
    (last,) = await database.run("SELECT max(number) AS number FROM erasures")

    with pytest.raises(LedgerOutdatedError):
        await take_in(database, Batch(**{what: list(batch[what])}, ledger=last.number - 1))
    refused = await count(database, what)
    await take_in(database, Batch(**{what: list(batch[what])}, ledger=last.number))

    assert (0, 1) == (refused, await count(database, what))


async def test_an_erasure_is_carried_out_again_by_its_hash(database: Database) -> None:
    """What Kafka knows of an erasure is enough to carry it out in a restored database, and counts once."""
    await take(database, request(user="ann"), request(user="bob"))
    record = (await note(database, "ann")).record
    await database.run("DELETE FROM erasures")

    noted = [await erasures.read_back(database, [record]) for _ in range(2)]
    await Erasing(database).eraser.erase()

    found = await erasures.find(database, "default", record.id)
    assert ([1, 0], {"bob": 1}) == (noted, await owners(database))
    assert found is not None
    assert found.finished_at is not None


async def test_an_erasure_of_what_is_not_there_ends(database: Database) -> None:
    """An owner that the database does not know is erased at once."""
    record = Erased(id=uuid4(), tenant="default", owner_hash="0" * 64, requested_at="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
                    refuses_until=None)  # fmt: skip
    await erasures.read_back(database, [record])
    await Erasing(database).eraser.erase()

    assert (await erasures.ledger(database)).erasures[0].finished_at is not None


async def test_access_ends_with_the_note(database: Database) -> None:
    """A user's keys and password, or a program's keys, are of no use from the note on; noting again changes nothing."""
    ann = await make_user(database, "ann")
    await make_key(database, "read", user=ann)
    await make_key(database, "read", name="billing")
    await make_key(database, "read", name="other")

    noted = [(await note(database, owner)).id for owner in (str(ann.resource.id), "key:billing", "key:billing")]

    rows = await database.run("SELECT name FROM api_keys WHERE revoked_at IS NULL")
    (user,) = await database.run("SELECT password_hash, role FROM users")
    assert (["other"], "none", "user") == ([row.name for row in rows], user.password_hash, user.role)
    assert noted[1] == noted[2]


async def test_access_ends_where_only_the_hash_is_known(database: Database) -> None:
    """After erasures were read back access ends as with the note, by the old secret too; newer keys of a name stay."""
    now = datetime.now(UTC)
    ann = await make_user(database, "ann", role="admin")
    await make_key(database, "admin", user=ann)
    for name in ("billing", "other"):
        await make_key(database, "read", name=name)
    await erasures.read_back(
        database,
        [
            Erased(
                id=uuid4(), tenant="default", owner_hash=OwnerHasher([SECRET]).hash("default", owner), requested_at=now,
                refuses_until=until,
            )
            for owner, until in ((str(ann.resource.id), None), ("key:billing", now + timedelta(hours=1)),
                                 ("key:other", now - timedelta(hours=1)))
        ],
    )  # fmt: skip

    await erasing.end_access(database, OwnerHasher([b"n" * 32, SECRET]))

    rows = await database.run("SELECT name FROM api_keys WHERE revoked_at IS NULL")
    (user,) = await database.run("SELECT password_hash, role FROM users")
    assert (["other"], "none", "user") == ([row.name for row in rows], user.password_hash, user.role)


async def test_a_name_may_be_used_again_after_its_erasure(database: Database) -> None:
    """A user is refused forever; another name until its erasure is done, also where it is carried out again."""
    user = str(uuid4())
    await take(database, request(user=user), request(user="key:billing"))
    noted = [await note(database, owner) for owner in (user, "key:billing")]
    first = Erasing(database)
    await first.eraser.erase()
    until = [each.refuses_until for each in (await erasures.ledger(database)).erasures]
    numbers = await database.run("SELECT number FROM erasures ORDER BY number")
    billing = [each for each in first.recorded if each.id == noted[1].id]
    later = letter(timestamp_ms=int(datetime.now(UTC).timestamp() * 1000) + 60_000)

    await database.run("DELETE FROM erasures")
    await erasures.read_back(database, billing[-1:])
    await take(database, request(user="key:billing"), request(user="key:billing", record=later))
    await database.run(
        "UPDATE conversations SET created_at = now() + interval '1 hour' "
        "WHERE id IN (SELECT conversation_id FROM requests WHERE src_offset = :offset)",
        offset=later.offset,
    )
    await Erasing(database).eraser.erase()

    assert [None, billing[-1].refuses_until] == until
    assert min(row.number for row in numbers) > 2
    assert {"key:billing": 1} == await owners(database)


async def test_a_dry_run_counts_what_lists_show(database: Database) -> None:
    """Of an owner's rows all kinds are counted, hidden conversations too; what is deleted and others' rows are not."""
    hidden = UUID("7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01")
    await take(database, request(user="ann", conversation=hidden, id=hidden))
    await finish(database, await claim_one(database))
    deleted = request(user="ann")
    await take(database, request(user="ann"), request(user="bob"), deleted)
    await database.run("UPDATE requests SET deleted_at = now() WHERE id = :id", id=deleted.ref.id)
    await database.run("UPDATE conversations SET deleted_at = now() WHERE id = :id", id=deleted.conversation_id)
    for owner in ("ann", "bob"):
        header = (envelope.USER, owner.encode())
        await take_in(database, Batch(dead_letters=[letter(headers=[header]).because(ErrorCode.NOT_JSON, "")]))

    found = await erasing.count(database, "default", "ann")

    assert {"conversations": 2, "messages": 2, "requests": 2, "files": 0, "dead_letters": 1} == found


async def test_a_dry_run_reads_by_indexes(database: Database) -> None:
    """Its cost does not grow with the tables: each statement reads a bounded part of an index."""
    with noted("run") as asked:
        await erasing.count(database, "default", "ann")

    plans = [await plan_of(database, sql, **values) for sql, values in asked]
    indexes = ("conversations_owned", "messages_in_order", "requests_owned", "files_owned", "dead_letters_newest")
    assert [] == [plan for index, plan in zip(indexes, plans, strict=True) if f" {index}" not in plan]
    assert not any("Seq Scan" in plan or "Sort" in plan for plan in plans)


async def test_the_last_admin_is_not_erased(database: Database) -> None:
    """An erasure after which no credential would give admin rights is refused, and nothing is noted."""
    admin = await make_user(database, "admin", role="admin")
    with pytest.raises(OrchestraError) as refused:
        await note(database, str(admin.resource.id), leave_admin=True)

    assert (ErrorCode.FORBIDDEN, 0) == (refused.value.code, await count(database, "erasures"))

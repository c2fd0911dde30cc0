"""Promises of orchestra/store/audit.py: each change is written with it, once, and logged once."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from orchestra.store import audit, retention
from orchestra.store.audit import Author, changing
from orchestra.store.database import Database
from orchestra.store.intake import Batch, take_in
from schemas.api.audit import Action, AuditEntry, AuditFilter
from schemas.status import Status
from tests.support.store import count, request, take

BY = Author("default", "key:k3x7q2m5ab4c", Action.REQUEST_CANCEL, "4bf92f3577b34da6a3ce929d0e0e4736")


async def entries(database: Database, tenant: str = "default", **wanted: object) -> list[AuditEntry]:
    """The entries of a tenant, newest first."""
    return (await audit.page(database, tenant, AuditFilter.model_validate(wanted), None, 100)).data


async def test_a_change_is_written_with_it_and_logged_after_it(database: Database) -> None:
    """Author, action, target, before and after are in one entry, and in one line of the log, without the fields."""
    with capture_logs() as logs:
        async with changing(database) as tx:
            tx.note(BY, "requests/7", {"status": "pending"}, {"cancel_requested": True})
            assert logs == []

    (entry,) = await entries(database)
    assert ("key:k3x7q2m5ab4c", "request.cancel", "requests/7") == (entry.actor, entry.action, entry.target)
    assert ({"status": "pending"}, {"cancel_requested": True}, BY.trace_id) == (
        entry.before, entry.after, entry.trace_id,
    )  # fmt: skip
    assert [
        {
            "event": "changed", "log_level": "info", "tenant": "default", "actor": BY.actor, "target": "requests/7",
            "action": Action.REQUEST_CANCEL, "trace_id": BY.trace_id,
        }
    ] == logs  # fmt: skip


async def test_a_change_that_is_not_made_is_not_written(database: Database) -> None:
    """If the transaction is rolled back, there is no entry and no line."""
    with capture_logs() as logs, pytest.raises(RuntimeError):
        async with changing(database) as tx:
            tx.note(BY, "requests/7")
            raise RuntimeError
    async with changing(database) as tx:
        tx.note(None, "requests/7")

    assert ([], []) == (logs, await entries(database))


async def test_a_record_that_is_read_again_is_audited_once(database: Database) -> None:
    """Intake writes the change of a record in its transaction; the same record changes nothing."""
    asked = request()
    await take(database, asked)
    change = BY.cancel(asked.id, Status.PENDING)
    with capture_logs() as logs:
        done = [await take_in(database, Batch(cancels=[asked.ref], changes=[change])) for _ in range(2)]
        for each in done:
            audit.log_changes(each.changes)

    assert [[change], []] == [each.changes for each in done]
    assert [f"requests/{asked.id}"] == [entry.target for entry in await entries(database)]
    assert 1 == len([line for line in logs if line["event"] == "changed"])


async def test_an_entry_has_the_time_at_which_the_change_was_made(database: Database) -> None:
    """However much later its record is read; never one in the future, and without one that at which it is written."""
    ((begun,),) = await database.run("SELECT now()")
    for at in (begun - timedelta(hours=1), begun + timedelta(hours=1), None):
        change = BY.cancel(uuid4(), Status.PENDING).model_copy(update={"at": at})
        await take_in(database, Batch(changes=[change]))
    ((ended,),) = await database.run("SELECT now()")

    *written, old = await entries(database)

    assert begun - timedelta(hours=1) == old.created_at
    assert [True, True] == [begun <= each.created_at <= ended for each in written]


async def test_what_can_be_done_once_is_audited_once(database: Database) -> None:
    """Cancels by two callers are one entry, that of the first; other actions and tenants have their own."""
    asked, others = request(), Author("default", "user:7", Action.REQUEST_CANCEL)
    await take(database, asked)
    for by in (BY, others):
        await take_in(database, Batch(cancels=[asked.ref], changes=[by.cancel(asked.id, Status.PENDING)]))
    async with changing(database) as tx:
        tx.note_once(Author("default", "user:7", Action.REQUEST_DELETE), f"requests/{asked.id}")
        tx.note_once(Author("acme", "user:7", Action.REQUEST_CANCEL), f"requests/{asked.id}")

    assert [("user:7", "request.delete"), (BY.actor, "request.cancel")] == [
        (each.actor, each.action) for each in await entries(database)
    ]
    assert 1 == len(await entries(database, "acme"))


async def test_entries_are_found_by_what_is_asked(database: Database) -> None:
    """Each filter leaves out what does not match; tenants see their own; pages have no gaps."""
    async with changing(database) as tx:
        for number in range(5):
            tx.note(BY, f"requests/{number}")
        tx.note(Author("default", "user:7", Action.KEY_CREATE), "keys/1")
        tx.note(Author("acme", BY.actor, BY.action), "requests/1")

    assert ["keys/1"] == [each.target for each in await entries(database, actor="user:7")]
    assert ["keys/1"] == [each.target for each in await entries(database, action="key.create")]
    assert [BY.actor] == [each.actor for each in await entries(database, target="requests/1")]
    assert ["requests/1"] == [each.target for each in await entries(database, "acme")]
    assert [] == await entries(database, created_after=datetime(2100, 1, 1, tzinfo=UTC))
    first = await audit.page(database, "default", AuditFilter(), None, 4)
    rest = await audit.page(database, "default", AuditFilter(), first.next, 4)
    assert ["keys/1", *(f"requests/{number}" for number in (4, 3, 2, 1, 0))] == [
        each.target for each in [*first.data, *rest.data]
    ]
    assert rest.next is None


async def test_old_entries_are_deleted(database: Database) -> None:
    """Entries go after their own retention time, a bounded number at a time."""
    async with changing(database) as tx:
        for _ in range(3):
            tx.note(BY, "requests/1")
    await database.run(
        "UPDATE audit SET created_at = now() - interval '91 days' WHERE id > (SELECT min(id) FROM audit)"
    )

    assert [1, 1, 0] == [await retention.sweep_audit(database, 90, 1) for _ in range(3)]
    assert 1 == await count(database, "audit")


def test_a_change_is_short_json() -> None:
    """What is signed in a header has ids and short fields, and reads back as it was."""
    change = BY.change("requests/1", after={"at": "x"}, id=UUID(int=1))
    text = change.model_dump_json(exclude_none=True)

    assert change == type(change).model_validate_json(text)
    assert {"id", "tenant", "actor", "action", "target", "after", "trace_id"} == json.loads(text).keys()

"""Promises of orchestra/store/database.py: transactions, and the two kinds of failure, unavailable and refused."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from faults.proxy import proxy
from orchestra.store.database import (
    Database,
    DatabaseUnavailableError,
    DatabaseUnsuitableError,
    DataRefusedError,
    as_json,
)
from tests.support.stack import Stack, moved
from tests.support.store import connect, count, request, take
from tests.support.waiting import eventually

_T = TypeVar("_T")


def upstream(stack: Stack) -> tuple[str, int]:
    """Where Postgres is."""
    split = urlsplit(stack.database_url)
    return split.hostname or "127.0.0.1", split.port or 5432


async def test_a_transaction_is_whole_or_nothing(database: Database) -> None:
    """An exception inside a transaction leaves no trace and comes out unchanged."""
    with pytest.raises(RuntimeError, match="mine"):
        async with database.transaction() as tx:
            await tx.run("INSERT INTO logs (type, message) VALUES ('a', 'b')")
            raise RuntimeError("mine")

    assert await count(database, "logs") == 0


async def test_nobody_there_is_unavailable(stack: Stack) -> None:
    """A refused connection can be tried again."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        database = connect(moved(stack.database_url, nobody.getsockname()[1]))
        with pytest.raises(DatabaseUnavailableError):
            await database.run("SELECT 1")
    await database.close()


@pytest.mark.parametrize("path", ["/not_there", "/"], ids=["no such database", "no such user"])
async def test_a_server_that_turns_us_away_is_unavailable(stack: Stack, path: str) -> None:
    """Errors of a Postgres that refuses connections can be retried too."""
    url = urlsplit(stack.database_url)._replace(path=path)
    database = connect(urlunsplit(url if path == "/not_there" else url._replace(netloc=f"nobody@{url.netloc[-15:]}")))

    with pytest.raises(DatabaseUnavailableError):
        await database.run("SELECT 1")

    await database.close()


async def test_an_error_of_the_weather_names_no_address(stack: Stack) -> None:
    """Neither error repeats a URL, a password or a statement."""
    database = connect("postgres://somebody:canary@127.0.0.1:1/canary")

    with pytest.raises(DatabaseUnavailableError) as caught:
        await database.run("SELECT 1")

    assert "canary" not in str(caught.value)


async def test_it_is_well_while_tables_can_be_written(stack: Stack, database: Database) -> None:
    """A database is well while its tables can be written: not while one is locked, and not where there is no server."""
    away = connect(moved(stack.database_url, 1))

    async with database.transaction() as tx:
        await tx.run("LOCK TABLE requests IN SHARE MODE")  # As CREATE INDEX does.
        locked = await database.is_well()

    assert (True, False, False) == (await database.is_well(), locked, await away.is_well())
    await away.close()


async def test_a_session_that_was_ended_is_unavailable_and_the_next_one_works(database: Database) -> None:
    """A session ended by an administrator or a restart is an outage, and the pool recovers from it."""
    for _ in range(20):
        with pytest.raises(DatabaseUnavailableError):
            async with database.transaction() as tx:
                (me,) = await tx.run("SELECT pg_backend_pid() AS pid")
                await database.run("SELECT pg_terminate_backend(:pid)", pid=me.pid)
                await tx.run("SELECT 1")

        assert await database.run("SELECT 1 AS one")


async def test_a_session_that_ends_itself_is_unavailable_and_the_next_one_works(database: Database) -> None:
    """The same for a statement that is a transaction of its own."""
    for _ in range(20):
        with pytest.raises(DatabaseUnavailableError):
            await database.run("SELECT pg_terminate_backend(pg_backend_pid())")

        assert await database.run("SELECT 1 AS one")


async def test_a_connection_cut_anywhere_can_be_tried_again(stack: Stack) -> None:
    """Cut after any message, the last one of a commit too, it is the one error; a second try is exactly once."""
    async with proxy(*upstream(stack)) as opened:
        database = connect(moved(await stack.fresh_database(), opened.port), database_pool_size=1)
        known_already = 0
        for moment in range(1, 41):
            asked = request()
            opened.cut_after = moment
            with suppress(DatabaseUnavailableError):
                await take(database, asked)
            opened.cut_after = None
            done = await _until_reached(lambda asked=asked: take(database, asked))  # type: ignore[misc]
            known_already += done.duplicates
            assert (1, 0) == (done.inserted + done.duplicates, len(done.dead_letters))
        assert known_already > 0, "no cut came after a commit"
        assert await count(database, "requests") == 40
        await database.close()


async def _until_reached(work: Callable[[], Awaitable[_T]]) -> _T:
    """The pool may still hold a connection that was cut."""
    while True:
        with suppress(DatabaseUnavailableError):
            return await work()


async def test_an_empty_pool_is_unavailable(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that gets no connection in time may try again."""
    database = connect(stack.database_url, database_pool_size=1)
    monkeypatch.setattr(database._engine.pool, "_timeout", 0.05)
    async with database.transaction():
        with pytest.raises(DatabaseUnavailableError):
            await database.run("SELECT 1")
    await database.close()


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["NUL", "lone surrogate"])
async def test_text_that_cannot_be_kept_is_refused(database: Database, text: str) -> None:
    """Text that JSON can hold and Postgres cannot is an error of the data."""
    with pytest.raises(DataRefusedError):
        await database.run("SELECT CAST(:rows AS jsonb)", rows=as_json([{"text": text}]))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO messages (conversation_id, role, content) VALUES (gen_random_uuid(), 'user', '')",
        "INSERT INTO workers (id, lease_until) SELECT gen_random_uuid(), NULL",
        "SELECT CAST(99999999999 AS integer)",
        "SELECT CAST('nonsense' AS uuid)",
    ],
)
async def test_data_against_the_rules_is_refused(database: Database, statement: str) -> None:
    """Violated constraints and ranges are errors of the data, named by SQLSTATE alone."""
    with pytest.raises(DataRefusedError, match=r"^2[23]\w{3}$"):
        await database.run(statement)


async def test_our_own_mistakes_are_no_weather(database: Database) -> None:
    """A wrong statement is neither retried nor reported as bad data."""
    with pytest.raises(asyncpg.PostgresError):
        await database.run("SELEC nothing")


async def test_a_deadlock_can_be_tried_again(database: Database) -> None:
    """The victim of a deadlock may try again; the other transaction goes on."""
    await database.run("INSERT INTO workers (id, lease_until) VALUES (:a, now()), (:b, now())", a=uuid4(), b=uuid4())
    one, two = [each.id for each in await database.run("SELECT id FROM workers")]
    both = asyncio.Barrier(2)

    async def lock(first: object, second: object) -> None:
        async with database.transaction() as tx:
            await tx.run("SELECT 1 FROM workers WHERE id = :id FOR UPDATE", id=first)
            await both.wait()
            await tx.run("SELECT 1 FROM workers WHERE id = :id FOR UPDATE", id=second)

    done = await asyncio.gather(lock(one, two), lock(two, one), return_exceptions=True)

    assert {type(None), DatabaseUnavailableError} == {type(each) for each in done}


async def test_a_cancelled_task_leaves_the_pool_clean(stack: Stack) -> None:
    """Tasks cancelled anywhere in a transaction return no connection with an open one, and lose none."""
    database = connect(await stack.fresh_database(), database_pool_size=2)
    chance = random.Random(2)
    for _ in range(100):
        task = asyncio.create_task(take(database, request()))
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    states = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    async def idle() -> bool:
        return {each.state for each in await database.run(states)} <= {"idle"}

    assert await asyncio.gather(*(database.run("SELECT 1 AS one") for _ in range(4)))
    # Postgres notices a closed connection a moment later, and would end a forgotten transaction after 5 s.
    await eventually(idle, seconds=4)
    assert (await take(database, request())).inserted == 1
    await database.close()


async def test_a_connection_says_whose_it_is_and_keeps_time_in_utc(database: Database) -> None:
    """Sessions show our name; statements and idle transactions have time limits."""
    names = ("application_name", "timezone", "statement_timeout", "idle_in_transaction_session_timeout")

    found = [(await database.run(f"SHOW {name}"))[0][0] for name in names]

    assert ["test", "UTC", "30s", "5s"] == found


async def test_a_database_without_its_migrations_is_said_to_lack_them(database: Database) -> None:
    """A missing table, column or function is an outage that a migration ends, and the text says so."""
    for missing in ("SELECT 1 FROM nothing", "SELECT nothing FROM requests", "SELECT nothing()"):
        with pytest.raises(DatabaseUnsuitableError, match="orchestra migrate"):
            await database.run(missing)


@pytest.mark.parametrize(
    ("state", "lack"),
    [("53100", "disk"), ("53200", "memory"), ("53400", "limit"), ("58030", "files"), ("25006", "read-only")],
)
async def test_a_database_that_stores_nothing_says_why(database: Database, state: str, lack: str) -> None:
    """A full disk, or a standby, is an outage that no other data would avoid, and the text says which."""
    with pytest.raises(DatabaseUnsuitableError, match=lack):
        await database.run(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")


async def test_a_postgres_without_connections_is_said_to_have_none(stack: Stack, database: Database) -> None:
    """A refused connection, for a limit of Postgres or of the user, names that limit."""
    await database.run("CREATE ROLE crowded LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
    address = urlsplit(stack.database_url)
    crowded = connect(urlunsplit(address._replace(netloc=f"crowded:x@{address.hostname}:{address.port}")))
    try:
        with pytest.raises(DatabaseUnsuitableError, match="max_connections"):
            await crowded.run("SELECT 1")
    finally:
        await crowded.close()
        await database.run("DROP ROLE crowded")


async def test_a_database_that_is_too_slow_is_said_to_be(database: Database) -> None:
    """What exceeds its time limit, for example behind a lock, is no outage of the network, and the text says so."""
    with pytest.raises(DatabaseUnavailableError) as caught:
        async with database.transaction() as tx:
            await tx.run("SET LOCAL statement_timeout = 10")
            await tx.run("SELECT pg_sleep(60)")

    assert "Postgres does not answer in time" == caught.value.told


_SCATTERED = """
CREATE TABLE scattered AS SELECT n % 10 AS kind, md5(n::text) AS place FROM generate_series(1, 20000) AS n;
CREATE INDEX scattered_in_order ON scattered (kind, place);
ANALYZE scattered
"""


async def test_rows_in_order_are_not_collected_and_sorted(database: Database) -> None:
    """A statement for the first rows of an index goes along it, although the planner would read all and sort them."""
    try:
        for each in _SCATTERED.split(";"):
            await database.run(each)
        sql = "EXPLAIN SELECT * FROM scattered WHERE kind = 1 ORDER BY place LIMIT 1500"
        usual, in_order = await database.run(sql), await database.run_in_order(sql)
    finally:
        await database.run("DROP TABLE IF EXISTS scattered")

    assert any("Sort" in row[0] for row in usual)
    assert not any("Sort" in row[0] for row in in_order)

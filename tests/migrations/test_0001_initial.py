"""Promises of migrations/0001_initial.sql: what the database refuses, whatever the code does."""

import asyncio
from itertools import product
from pathlib import Path
from uuid import uuid4

import pytest

from orchestra.cli.migrate import dbmate
from orchestra.store.database import Database, DataRefusedError
from schemas.status import LEGAL_MOVES, Status
from tests.support.stack import Stack
from tests.support.store import claim, claim_one, connect, finish, messages, new_worker, request, row, take

_SET = {
    "waiting": "",
    "pending": "",
    "in_progress": ", worker_id = gen_random_uuid()",
    **dict.fromkeys(("completed", "failed", "cancelled", "expired"), ", finished_at = now()"),
}


async def put(database: Database, state: str) -> str:
    """A request in this state; its id."""
    await take(database, asked := request())
    await database.run("ALTER TABLE requests DISABLE TRIGGER requests_legal_moves")
    await database.run(f"UPDATE requests SET status = '{state}'{_SET[state]} WHERE id = :id", id=asked.id)
    await database.run("ALTER TABLE requests ENABLE TRIGGER requests_legal_moves")
    return str(asked.id)


async def test_every_move_is_as_the_contract_says(database: Database) -> None:
    """Of all 49 pairs of states, in plain SQL, those in LEGAL_MOVES are accepted and all others refused."""
    allowed = set()
    for before, after in product(LEGAL_MOVES, repeat=2):
        id = await put(database, str(before))
        more = _SET[after] + ("" if after == "in_progress" else ", worker_id = NULL")
        try:
            await database.run(f"UPDATE requests SET status = '{after}'{more} WHERE id = CAST(:id AS uuid)", id=id)
            allowed.add((str(before), str(after)))
        except DataRefusedError:
            pass
        await database.run("DELETE FROM requests")

    stand_still = {(str(state), str(state)) for state in LEGAL_MOVES}
    legal = {(str(before), str(after)) for before, moves in LEGAL_MOVES.items() for after in moves}
    assert legal | stand_still == allowed


async def test_a_second_head_is_refused(database: Database) -> None:
    """Two turns of one conversation cannot run at the same time."""
    conversation = uuid4()
    await take(database, request(conversation), second := request(conversation))

    with pytest.raises(DataRefusedError):
        await database.run("UPDATE requests SET status = 'pending' WHERE id = :id", id=second.id)


async def test_a_falling_fence_is_refused(database: Database) -> None:
    """A fence can stay or grow, but never fall."""
    await take(database, asked := request())
    await database.run("UPDATE requests SET fence = 5")

    with pytest.raises(DataRefusedError):
        await database.run("UPDATE requests SET fence = 4")

    assert 5 == (await row(database, asked.ref)).fence


async def test_a_second_answer_is_refused(database: Database) -> None:
    """A request has at most one assistant message, ever; users' messages are not limited."""
    await take(database, asked := request())
    await finish(database, await claim_one(database))
    insert = "INSERT INTO messages (conversation_id, request_id, role, content) VALUES (:c, :r, :role, 'x')"

    await database.run(insert, c=asked.conversation_id, r=asked.id, role="user")
    with pytest.raises(DataRefusedError):
        await database.run(insert, c=asked.conversation_id, r=asked.id, role="assistant")

    assert 3 == len(await messages(database, asked.conversation_id))


@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE requests SET status = 'nonsense'",
        "UPDATE requests SET status = 'in_progress'",
        "UPDATE requests SET status = 'failed'",
        "UPDATE requests SET worker_id = gen_random_uuid()",
        "UPDATE requests SET finished_at = now()",
        "UPDATE requests SET priority = 10",
        "UPDATE requests SET conversation_id = gen_random_uuid()",
        "DELETE FROM conversations",
        "INSERT INTO outbox SELECT * FROM outbox",
    ],
)
async def test_half_states_are_refused(database: Database, broken: str) -> None:
    """A running turn has a worker, an ended one its time, every one its conversation, and one reply at most."""
    await take(database, request(), request())
    await finish(database, (await claim(database, await new_worker(database), limit=1))[0])

    with pytest.raises(DataRefusedError):
        await database.run(f"{broken}{' WHERE status = ' + repr('pending') if 'UPDATE' in broken else ''}")


async def test_one_place_in_a_topic_is_one_request(database: Database) -> None:
    """A record is taken in once, even under another id."""
    await take(database, asked := request())
    again = request(record=asked.record)

    done = await take(database, again)

    assert (0, 1) == (done.inserted, done.duplicates)


async def test_the_old_systems_inserts_still_work(database: Database) -> None:
    """The statements of the previous system, without tenants or ids, find the tables as they were."""
    (user,) = await database.run(
        "INSERT INTO users (username, password_hash, role) VALUES ('ann', 'x', 'admin') RETURNING id, created_at"
    )
    (conversation,) = await database.run(
        "INSERT INTO conversations (user_id, created_at) VALUES (:user, now()) RETURNING id", user=user.id
    )
    await database.run("INSERT INTO conversations (id, user_id, created_at) VALUES (:id, NULL, now())", id=uuid4())
    for role in ("user", "assistant", "assistant", "system"):
        await database.run(
            "INSERT INTO messages (conversation_id, role, content, created_at) VALUES (:id, :role, 'x', now())",
            id=conversation.id,
            role=role,
        )
    await database.run("INSERT INTO logs (type, message, created_at) VALUES ('llm_call_error', 'x', now())")

    assert 4 == len(await messages(database, conversation.id))
    with pytest.raises(DataRefusedError):
        await database.run("INSERT INTO users (username, password_hash, role) VALUES ('ann', 'x', 'user')")


async def test_the_states_of_the_database_are_those_of_the_contract(database: Database) -> None:
    """Each state of the contract can be stored."""
    for state in LEGAL_MOVES:
        await put(database, str(state))

    found = {each.status for each in await database.run("SELECT status FROM requests")}
    assert {"waiting", *Status} == found


async def test_up_down_and_up_again(stack: Stack) -> None:
    """Migrating down leaves nothing behind, and migrating up works again."""
    url = await stack.fresh_database()
    objects = (
        "SELECT count(*) AS n FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relname !~ 'schema_migrations'"
        " UNION ALL SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )
    database = connect(url)
    counts = []
    migrations = len(list(Path("migrations").glob("*.sql")))
    for steps in (["up"], ["down"] * migrations, ["up"]):
        for step in steps:
            done = await asyncio.to_thread(dbmate, step, url=url)
            assert done.returncode == 0, done.stdout + done.stderr
        counts.append([each.n for each in await database.run(objects)])
    await database.close()

    assert counts[0] == counts[2] != [0, 0] == counts[1]

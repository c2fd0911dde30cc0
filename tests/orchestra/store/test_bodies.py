"""Promises of orchestra/store/bodies.py: what a model must get unchanged comes back from Postgres unchanged."""

import json
from typing import Any

from orchestra.store import claims
from orchestra.store.claims import ClaimOrder
from orchestra.store.database import Database, read_json
from tests.support.store import new_worker, request, take

SCHEMA = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "answer": {"const": {"zz": 1, "b": 2.50, "aaa": 3}}, "b": {}},
    "required": ["reasoning", "answer"],
}
BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "g", "schema": SCHEMA}},
}


async def test_schemas_keep_the_order_of_their_members(database: Database) -> None:
    """A claimed turn has its tools and the schema of its answer as they were sent, member for member."""
    await take(database, request(body=BODY))

    (turn,) = await claims.claim(database, ClaimOrder(await new_worker(database), 1))

    for name in ("tools", "response_format"):
        assert json.dumps(BODY[name]) == json.dumps(turn.body[name])


async def test_a_number_beyond_all_floats_loses_no_other_turn(database: Database) -> None:
    """Whatever number a row has, the turns that are claimed with it are read."""
    poison = "1" + 400 * "0"
    await take(database, request(), request())
    await database.run(f"""UPDATE requests SET body = body || '{{"seed": {poison}}}' WHERE id IN (
        SELECT id FROM requests LIMIT 1)""")

    turns = await claims.claim(database, ClaimOrder(await new_worker(database), 2))

    assert {None, int(poison)} == {turn.body.get("seed") for turn in turns}


def test_numbers_are_read_as_they_are() -> None:
    """Ordinary numbers are read as before."""
    assert {"a": [1, 2.5, -3]} == read_json('{"a": [1, 2.5, -3]}')

"""Promises of the list in gateway/routes/requests.py; operations on one request are in tests/pipeline."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway.people.callers import Callers
from gateway.people.tokens import Tokens
from gateway.routes.requests import Requests
from orchestra.store.database import Database
from tests.support.people import bearer, calling, make_key, routed
from tests.support.store import request, take

URL = "/v1/requests"


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    callers, rest = Callers(database, Tokens([b"s" * 32]), asks=True), [Any] * 5
    async with calling(routed(callers, Requests(database, *rest).routes())) as opened:  # type: ignore[arg-type]
        yield opened


async def test_everybody_sees_his_own(client: httpx.AsyncClient, database: Database) -> None:
    """A caller lists its own requests, an admin those of the tenant, page by page, newest first."""
    mine, other = [request(user="key:program") for _ in range(3)], request(user="somebody")
    for each in (*mine, other):
        await take(database, each)
    headers = bearer(await make_key(database, "read"))

    first = (await client.get(URL, params={"limit": 2}, headers=headers)).json()
    second = (await client.get(URL, params={"limit": 2, "cursor": first["next"]}, headers=headers)).json()

    seen = [each["id"] for each in first["data"] + second["data"]]
    assert ([str(each.id) for each in reversed(mine)], None) == (seen, second["next"])
    everything = (await client.get(URL, headers=bearer(await make_key(database, "admin")))).json()
    assert {str(each.id) for each in (*mine, other)} == {each["id"] for each in everything["data"]}
    theirs = bearer(await make_key(database, "admin", tenant="them"))
    assert {"data": [], "next": None} == (await client.get(URL, headers=theirs)).json()


async def test_a_filter_by_name(client: httpx.AsyncClient, database: Database) -> None:
    """All filters of a query must match."""
    wanted = request(uuid4(), model="m", task_type="analyst")
    await take(database, wanted, request(model="m"))
    headers = bearer(await make_key(database, "admin"))
    query = {
        "status": "pending", "model": "m", "conversation_id": str(wanted.conversation_id), "task_type": "analyst",
        "created_after": "2026-01-01", "created_before": "2999-01-01T00:00:00Z",
    }  # fmt: skip

    found = (await client.get(URL, params=query, headers=headers)).json()["data"]

    assert [str(wanted.id)] == [each["id"] for each in found]


@pytest.mark.parametrize(
    "query", ["canary=1", "status=canary", "status=waiting", "model=", "model=%00", "conversation_id=canary",
              "task_type=CANARY%20", "limit=0", "limit=canary", "cursor=canary", "created_after=canary"],
)  # fmt: skip
async def test_bad_queries(client: httpx.AsyncClient, database: Database, query: str) -> None:
    """An invalid query is refused, an unknown parameter too, and the error repeats nothing of it."""
    refused = await client.get(f"{URL}?{query}", headers=bearer(await make_key(database, "read")))

    assert (422, "invalid_request") == (refused.status_code, refused.json()["code"])
    assert "canary" not in refused.text.lower()

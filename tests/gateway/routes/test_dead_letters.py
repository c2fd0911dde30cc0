"""Promises of gateway/routes/dead_letters.py: what an operator sees, and what is refused."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.accept import Acceptance
from gateway.drain import Drain
from gateway.metrics import Metrics
from gateway.people.callers import Callers
from gateway.people.tokens import Tokens
from gateway.replays import Replays
from gateway.routes.dead_letters import DeadLetters
from orchestra.incoming import Judge
from orchestra.store.database import Database
from orchestra.store.dead_letters import DeadLetter
from schemas.errors import ErrorCode
from tests.support.people import bearer, calling, make_key, one_owner, routed
from tests.support.records import message
from tests.support.store import letter, take

GOOD = message()
URL = "/v1/dead-letters"
BYTES = bytes(range(256))


class Log:
    """Counts what would be written."""

    def __init__(self) -> None:
        self.written = 0

    async def write(self, *_: Any) -> None:
        self.written += 1


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def drain() -> Drain:
    return Drain()


@pytest.fixture
async def client(database: Database, log: Log, drain: Drain) -> AsyncIterator[httpx.AsyncClient]:
    secrets, callers = [b"n" * 32], Callers(database, Tokens([b"s" * 32]), asks=True)
    replays = Replays(database, Acceptance(log, database, secrets, Metrics(), one_owner()), Judge(secrets))  # type: ignore[arg-type]
    async with calling(routed(callers, DeadLetters(database, replays).routes(), drain)) as opened:
        opened.headers.update(bearer(await make_key(database, "admin")))
        yield opened


def code(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


async def kept(client: httpx.AsyncClient, database: Database, **changes: Any) -> str:
    """The URL of a letter."""
    asked: DeadLetter = letter(**changes).because(ErrorCode.NOT_JSON, "why")
    await take(database, dead_letters=[asked])
    newest = (await client.get(URL, params={"limit": 1})).json()["data"][0]
    assert newest["request_id"] == str(asked.request_id)
    return f"{URL}/{newest['id']}"


async def test_a_letter_is_shown_as_text_where_it_is_text(client: httpx.AsyncClient, database: Database) -> None:
    """A letter shows key, value and headers as text, base64 or null, and why it cannot be replayed."""
    headers = [("text", "ä".encode()), ("bytes", BYTES), ("none", None)]
    url = await kept(client, database, key=b"a\0b", value=BYTES, headers=headers)

    shown = (await client.get(url)).json()

    encoded = base64.b64encode(BYTES).decode()
    assert {
        "key": "a\0b", "key_base64": None, "value": None, "value_base64": encoded, "original": None,
        "headers": [
            {"name": "text", "value": "ä", "value_base64": None},
            {"name": "bytes", "value": None, "value_base64": encoded},
            {"name": "none", "value": None, "value_base64": None},
        ],
        "reason": "not_json", "detail": "why", "value_bytes": 256, "edited_at": None, "replayed_at": None,
    }.items() <= shown.items()  # fmt: skip
    assert shown["obstacle"]["code"] == "not_json"
    empty = (await client.get(await kept(client, database, key=None, value=None))).json()
    assert [None] * 4 == [empty[name] for name in ("key", "key_base64", "value", "value_base64")]


async def test_from_a_letter_to_its_replay(client: httpx.AsyncClient, database: Database, log: Log) -> None:
    """What a letter shows can be sent back as an edit; edits appear beside the original, and a replay is recorded."""
    url = await kept(client, database, value=b"bad")
    assert (409, "not_replayable") == code(await client.post(f"{url}/replay"))
    shown = (await client.get(url)).json()
    names = ("key", "key_base64", "value", "value_base64", "headers")

    same = await client.put(url, json={name: shown[name] for name in names})
    edited = await client.put(url, json={"value": GOOD.decode()})
    sent = await client.post(f"{url}/replay")

    assert [shown[name] for name in names] == [same.json()[name] for name in names]
    assert (200, GOOD.decode(), None) == (edited.status_code, edited.json()["value"], edited.json()["obstacle"])
    assert {name: shown[name] for name in names} == edited.json()["original"]
    assert (202, edited.json()["request_id"], 1) == (sent.status_code, sent.json()["replayed_as"], log.written)
    lists = [(await client.get(URL, params={"replayed": each})).json()["data"] for each in ("true", "false")]
    assert [1, 0] == [len(each) for each in lists]


async def test_a_check_changes_nothing(client: httpx.AsyncClient, database: Database, log: Log) -> None:
    """A check says what a replay would meet with an edit, or without one; it stores and sends nothing."""
    url = await kept(client, database, value=b"bad")
    before = (await client.get(url)).json()

    as_it_is = await client.post(f"{url}/check")
    better = await client.post(f"{url}/check", json={"value": GOOD.decode()})
    worse = await client.post(
        f"{url}/check", json={"value": GOOD.decode(), "headers": [{"name": "ce_type", "value": "?"}]}
    )
    unlike = await client.post(f"{url}/check", json={"value": "", "value_base64": ""})

    assert (200, {"obstacle": before["obstacle"], "request_id": None}) == (as_it_is.status_code, as_it_is.json())
    assert (200, {"obstacle": None, "request_id": before["request_id"]}) == (better.status_code, better.json())
    assert "unknown_type" == worse.json()["obstacle"]["code"]
    assert (422, "invalid_request") == code(unlike)
    assert before == (await client.get(url)).json()
    assert log.written == 0


async def test_a_dry_run_counts(client: httpx.AsyncClient, database: Database, log: Log) -> None:
    """A dry run of a replay by filter counts what would be sent and what would not, and sends nothing."""
    for value in (GOOD, b"bad", GOOD):
        await kept(client, database, value=value)

    dry = await client.post(f"{URL}/replay", json={"reason": "not_json", "dry_run": True})
    assert ({"replayed": 2, "skipped": 1, "next": None}, 0) == (dry.json(), log.written)
    assert (422, "invalid_request") == code(await client.post(f"{URL}/replay", json={"dry_run": True}))
    sent = await client.post(f"{URL}/replay", json={"reason": "not_json"})
    assert (dry.json(), 2) == (sent.json(), log.written)


async def test_lists_go_on(client: httpx.AsyncClient, database: Database, log: Log) -> None:
    """Lists page by cursor, newest first, and a replay by filter continues by cursor."""
    urls = [await kept(client, database, value=GOOD) for _ in range(3)]
    first = (await client.get(URL, params={"limit": 2, "reason": "not_json"})).json()
    second = (await client.get(URL, params={"limit": 2, "cursor": first["next"]})).json()

    assert list(reversed(urls)) == [f"{URL}/{each['id']}" for each in first["data"] + second["data"]]
    assert second["next"] is None
    sent = await client.post(f"{URL}/replay", json={"topic": "llm.requests"})
    assert (202, {"replayed": 3, "skipped": 0, "next": None}) == (sent.status_code, sent.json())
    assert log.written == 3


@pytest.mark.parametrize(
    "query", ["canary=1", "reason=canary", "replayed=canary", "limit=0", "limit=101", "cursor=canary", "topic=%00",
              "created_after=canary", "created_before=12"],
)  # fmt: skip
async def test_bad_queries(client: httpx.AsyncClient, query: str) -> None:
    """An invalid query is refused, an unknown parameter too, and the error repeats nothing of it."""
    refused = await client.get(f"{URL}?{query}")

    assert (422, "invalid_request") == code(refused)
    assert "canary" not in refused.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"value": "canary", "value_base64": "YQ=="}, "value and value_base64"),
        ({"key": "canary", "key_base64": "YQ=="}, "key and key_base64"),
        ({"value_base64": "canary!"}, "value_base64: "),
        ({"value": "canary \ud800"}, "value: "),
        ({"headers": [{"name": "canary\0"}]}, "headers.0.name: "),
        ({"headers": [{"name": "a", "value": "canary", "value_base64": ""}]}, "headers.0: "),
        ({"headers": [{"name": "a", "canary": "b"}]}, "headers.0: "),
        ({"canary": "b"}, "body: "),
    ],
)
async def test_bad_edits(client: httpx.AsyncClient, database: Database, body: dict[str, Any], said: str) -> None:
    """An invalid edit names the field, repeats nothing and changes nothing."""
    url = await kept(client, database)

    refused = await client.put(url, content=json.dumps(body), headers={"Content-Type": "application/json"})

    assert (422, "invalid_request") == code(refused)
    assert said in refused.json()["detail"]
    assert "canary" not in refused.text
    assert (await client.get(url)).json()["edited_at"] is None


async def test_other_refusals(client: httpx.AsyncClient, database: Database, log: Log, drain: Drain) -> None:
    """An unknown letter is 404 everywhere; an empty edit, one too long and a replay without a filter are refused."""
    url = await kept(client, database, value=GOOD)
    for name in ("0", "999999999", "9" * 19, "9" * 30, "-1", "x", "٣", "1.0", "%00"):
        for method, path in (("GET", ""), ("PUT", ""), ("POST", "/check"), ("POST", "/replay")):
            assert (404, "not_found") == code(await client.request(method, f"{URL}/{name}{path}", json={"value": "x"}))
    assert (400, "nothing_to_change") == code(await client.put(url, json={}))
    assert (413, "too_large") == code(await client.put(url, json={"value": "x" * 20_000}))
    assert (422, "invalid_request") == code(await client.post(f"{URL}/replay", json={"cursor": None}))
    assert (422, "invalid_request") == code(await client.post(f"{URL}/replay", json={"reason": "x"}))
    assert (422, "invalid_request") == code(
        await client.post(f"{URL}/replay", json={"reason": "not_json", "cursor": "x"})
    )
    drain.begin()
    for path in (f"{url}/replay", f"{URL}/replay"):
        assert (503, "unavailable") == code(await client.post(path, json={"reason": "not_json"}))
    assert log.written == 0


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_letters_are_for_admins(client: httpx.AsyncClient, database: Database, log: Log, scope: str) -> None:
    """Only an admin or operator of the tenant sees or replays dead letters."""
    url = await kept(client, database, value=GOOD)
    low = bearer(await make_key(database, scope))

    for method, path in (
        ("GET", URL),
        ("GET", url),
        ("PUT", url),
        ("POST", f"{url}/check"),
        ("POST", f"{url}/replay"),
        ("POST", f"{URL}/replay"),
    ):
        body = {"reason": "not_json"} if path == f"{URL}/replay" else {"value": "x"}
        assert (403, "forbidden") == code(await client.request(method, path, json=body, headers=low))
    assert log.written == 0

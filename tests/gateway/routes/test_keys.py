from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.people.callers import Callers
from gateway.people.tokens import Tokens
from gateway.routes.keys import Keys
from orchestra.store.database import Database
from orchestra.store.users import StoredUser
from tests.support.people import bearer, calling, key_id, make_key, make_user, routed

TOKENS = Tokens([b"s" * 32])


def signed_in(user: StoredUser) -> dict[str, str]:
    return bearer(TOKENS.sign(user).get_secret_value())


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    callers = Callers(database, TOKENS, asks=True)
    async with calling(routed(callers, Keys(database, callers).routes())) as opened:
        yield opened


@pytest.fixture
async def ann(database: Database) -> StoredUser:
    return await make_user(database, "ann")


@pytest.fixture
async def root(database: Database) -> StoredUser:
    return await make_user(database, "root", "admin")


async def make(client: httpx.AsyncClient, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await client.post("/v1/keys", json={"name": "nightly", **body}, headers=headers)


def code(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    return response.status_code, response.json()["code"]


async def test_a_key_is_shown_once(client: httpx.AsyncClient, ann: StoredUser) -> None:
    """Only the response that creates a key contains it; no list does, and the key works."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    with capture_logs() as logs:
        made = await make(client, signed_in(ann), expires_at=until.isoformat())
        text = made.json().pop("key")
        listed = await client.get("/v1/keys", headers=bearer(text))

    assert (201, "no-store", "location" in made.headers) == (made.status_code, made.headers["cache-control"], False)
    shown = {name: value for name, value in made.json().items() if name != "key"}
    assert (200, {"data": [shown], "next": None}) == (listed.status_code, listed.json())
    assert {**shown, "user_id": str(ann.resource.id), "scopes": ["read", "write"], "revoked_at": None} == shown
    assert until == datetime.fromisoformat(shown["expires_at"])
    assert text.rpartition("_")[2] not in listed.text + repr(logs)


async def test_who_may_make_keys(
    client: httpx.AsyncClient, database: Database, ann: StoredUser, root: StoredUser
) -> None:
    """A user creates keys for themselves, an admin for any user; a key without the scope `admin` creates none."""
    mine = await make(client, signed_in(ann), scopes=["read", "read"], user_id=str(ann.resource.id))
    assert (201, ["read"]) == (mine.status_code, mine.json()["scopes"])
    for more in (
        {"user_id": str(root.resource.id)},
        {"user_id": str(uuid4())},
        {"scopes": ["read", "admin"]},
        {"scopes": ["write", "priority"]},
    ):
        assert (403, "forbidden") == code(await make(client, signed_in(ann), **more))
    low = [await make_key(database, "read", "write", user=each) for each in (ann, root, None)]
    low.append(await make_key(database, "admin", user=ann))
    for text in low:
        assert (403, "forbidden") == code(await make(client, bearer(text), scopes=["read"]))
    assert (401, "unauthorized") == code(await make(client, {}))

    for headers in (signed_in(root), bearer(await make_key(database, "admin"))):
        programs = await make(client, headers, scopes=["admin"])
        his = await make(client, headers, user_id=str(ann.resource.id), scopes=["write", "priority"])
        assert (201, None) == (programs.status_code, programs.json()["user_id"])
        assert (201, str(ann.resource.id)) == (his.status_code, his.json()["user_id"])
        assert (422, "invalid_request") == code(await make(client, headers, user_id=str(uuid4())))
        assert (422, "invalid_request") == code(
            await make(client, headers, user_id=str(ann.resource.id), scopes=["admin"])
        )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "canary"}, "expires_at"),
        ({"name": ""}, "name"),
        ({"name": "canary" * 20}, "name"),
        ({"name": "canary\0"}, "name"),
        ({"name": "canary\x1b[2J"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["canary"]}, "scopes.0"),
        ({"user_id": "canary"}, "user_id"),
        ({"canary": "canary"}, "body"),
    ],
)
async def test_bad_keys(client: httpx.AsyncClient, ann: StoredUser, body: dict[str, Any], said: str) -> None:
    """A refusal names the field, repeats nothing of the input, and creates no key."""
    refused = await make(client, signed_in(ann), **body)

    assert (422, "invalid_request") == code(refused)
    assert refused.json()["detail"].startswith(f"{said}: ")
    assert "canary" not in refused.text
    assert [] == (await client.get("/v1/keys", headers=signed_in(ann))).json()["data"]


async def test_everybody_sees_his_own(
    client: httpx.AsyncClient, database: Database, ann: StoredUser, root: StoredUser
) -> None:
    """A user lists their own keys, an admin those of the tenant, page by page; a program lists none."""
    own = [key_id(await make_key(database, "read", user=ann)) for _ in range(3)]
    other = key_id(await make_key(database, "read", user=root))
    await make_key(database, "read", tenant="other")

    async def seen(headers: dict[str, str]) -> list[str]:
        found: list[str] = []
        page: dict[str, Any] = {"next": ""}
        while page["next"] is not None:
            cursor = {"cursor": page["next"]} if page["next"] else {}
            page = (await client.get("/v1/keys", params={"limit": 2, **cursor}, headers=headers)).json()
            found += [each["id"] for each in page["data"]]
        return found

    assert own[::-1] == await seen(signed_in(ann))
    assert [other, *own[::-1]] == await seen(signed_in(root))
    program = await make_key(database, "read", "write")
    assert (403, "forbidden") == code(await client.get("/v1/keys", headers=bearer(program)))
    for query in ("limit=0", "limit=101", "cursor=canary", "cursor=WzEsMl0"):
        assert (422, "invalid_request") == code(await client.get(f"/v1/keys?{query}", headers=signed_in(ann)))


async def test_revoking(client: httpx.AsyncClient, database: Database, ann: StoredUser, root: StoredUser) -> None:
    """A revoked key is refused at once where it was revoked, stays in the list, and can be revoked again."""
    text = await make_key(database, "read", "write", user=ann)
    path = f"/v1/keys/{key_id(text)}"
    assert 200 == (await client.get("/v1/keys", headers=bearer(text))).status_code
    gone = await client.delete(path, headers=bearer(text))

    assert (204, b"") == (gone.status_code, gone.content)
    assert (401, "unauthorized") == code(await client.get("/v1/keys", headers=bearer(text)))
    assert 204 == (await client.delete(path, headers=signed_in(root))).status_code
    (shown,) = (await client.get("/v1/keys", headers=signed_in(ann))).json()["data"]
    assert shown["revoked_at"] is not None


async def test_another_ones_key_is_unknown(
    client: httpx.AsyncClient, database: Database, ann: StoredUser, root: StoredUser
) -> None:
    """Revoking another user's key answers exactly like an unknown id, and the key still works."""
    text = await make_key(database, "admin", user=root)
    elsewhere = await make_key(database, "read", tenant="other")
    answers = [
        await client.delete(f"/v1/keys/{id}", headers=signed_in(who))
        for who, id in (
            (ann, key_id(text)), (ann, "a" * 12), (ann, "canary"), (root, key_id(elsewhere)), (root, "%00"),
        )
    ]  # fmt: skip

    assert {(404, "not_found")} == {code(each) for each in answers}
    assert 1 == len({each.text for each in answers})
    assert 200 == (await client.get("/v1/keys", headers=bearer(text))).status_code
    low = await make_key(database, "read", user=root)
    assert (403, "forbidden") == code(await client.delete(f"/v1/keys/{key_id(text)}", headers=bearer(low)))

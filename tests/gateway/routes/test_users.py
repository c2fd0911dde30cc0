import json
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter
from pydantic import SecretStr
from structlog.testing import capture_logs

from gateway.people.attempts import Attempts
from gateway.people.callers import Callers
from gateway.people.passwords import Passwords
from gateway.people.tokens import Tokens
from gateway.routes.sign_in import SignIn
from gateway.routes.users import Users
from orchestra.store import users
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.users import StoredUser
from tests.support.fakes import Calls, away
from tests.support.people import BCRYPT, FAST, PASSWORD, Clock, bearer, calling, make_key, make_user, routed

TOKENS = Tokens([b"s" * 32])
FORM = {"content-type": "application/x-www-form-urlencoded"}


def routers(database: Database, *, asks: bool) -> tuple[APIRouter, APIRouter]:
    callers, passwords, attempts = Callers(database, TOKENS, asks=asks), Passwords(FAST), Attempts(Clock())
    users = routed(callers, Users(database, callers, passwords, attempts).routes())
    return users, SignIn(database, passwords, attempts, TOKENS).router()


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(*routers(database, asks=True)) as opened:
        yield opened


@pytest.fixture
async def opened(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(*routers(database, asks=False)) as opened:
        yield opened


@pytest.fixture
async def root(database: Database) -> StoredUser:
    return await make_user(database, "root", "admin")


@pytest.fixture
def admin(root: StoredUser) -> dict[str, str]:
    return bearer(TOKENS.sign(root).get_secret_value())


async def sign_in(client: httpx.AsyncClient, username: str, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/token", data={"username": username, "password": password})


def code(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    return response.status_code, response.json()["code"]


async def test_the_old_calls(opened: httpx.AsyncClient) -> None:
    """In open mode a client of the previous system creates, lists, changes and deletes users as it did there."""
    assert (200, []) == ((first := await opened.get("/v1/users")).status_code, first.json())
    body = json.dumps({"username": "ann", "password": PASSWORD, "extra": 1})
    made = await opened.post("/v1/users", content=body, headers=FORM)
    assert (201, {"id", "username", "role", "created_at"}) == (made.status_code, set(made.json()))
    assert ("ann", "user") == (made.json()["username"], made.json()["role"])
    other = await opened.post("/v1/users", json={"username": "bob", "password": PASSWORD, "role": "admin"})

    listed = await opened.get("/v1/users")
    assert [other.json(), made.json()] == listed.json()
    assert "link" not in listed.headers
    path = f"/v1/users/{made.json()['id']}"
    changed = await opened.put(path, content=json.dumps({"role": "admin"}), headers=FORM)
    assert (200, {**made.json(), "role": "admin"}) == (changed.status_code, changed.json())
    gone = await opened.delete(path)
    assert (204, b"") == (gone.status_code, gone.content)
    assert (404, "not_found") == code(await opened.delete(path))
    assert (404, "not_found") == code(await opened.put(path, json={"role": "admin"}))


async def test_pages(client: httpx.AsyncClient, database: Database, admin: dict[str, str]) -> None:
    """The Link header leads through all users, newest first."""
    for number in range(4):
        await make_user(database, f"user {number}")
    url, seen = "/v1/users?limit=2", []
    while url:
        page = await client.get(url, headers=admin)
        seen += [each["username"] for each in page.json()]
        link = re.fullmatch('<(.+)>; rel="next"', page.headers.get("link", ""))
        url = link[1] if link else ""

    assert [*(f"user {number}" for number in (3, 2, 1, 0)), "root"] == seen
    for query in ("limit=0", "limit=1001", "cursor=canary", "limit=x"):
        assert (422, "invalid_request") == code(await client.get(f"/v1/users?{query}", headers=admin))


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"username": "ann", "password": "canary7"}, 422, "password"),
        ({"username": "ann", "password": "canary" * 200}, 422, "password"),
        ({"username": "ann", "password": "canary canary \ud800"}, 422, "password"),
        ({"username": "ann", "password": ["canary"]}, 422, "password"),
        ({"username": "ann"}, 422, "password"),
        ({"username": "", "password": PASSWORD}, 422, "username"),
        ({"username": "canary\0", "password": PASSWORD}, 422, "username"),
        ({"username": "canary" * 50, "password": PASSWORD}, 422, "username"),
        ({"username": "ann", "password": PASSWORD, "role": "canary"}, 422, "role"),
        (["canary"], 422, "body"),
        ("canary", 422, "body"),
    ],
)
async def test_bad_users(opened: httpx.AsyncClient, body: Any, status: int, said: str) -> None:
    """A refusal names the field and repeats nothing of the input."""
    content = json.dumps(body)
    with capture_logs() as logs:
        refused = await opened.post("/v1/users", content=content)

    assert (status, "invalid_request") == code(refused)
    assert refused.json()["detail"].startswith(f"{said}: ")
    assert "canary" not in refused.text + repr(logs)
    assert [] == (await opened.get("/v1/users")).json()


async def test_bodies_that_are_none(opened: httpx.AsyncClient) -> None:
    """Invalid JSON and a body that is too long get their own errors."""
    assert (400, "not_json") == code(await opened.post("/v1/users", content=b"{"))
    assert (413, "too_large") == code(await opened.post("/v1/users", content=b" " * 20_000))


async def test_changes(client: httpx.AsyncClient, database: Database, admin: dict[str, str]) -> None:
    """Each of the three fields can be changed; an empty change, a taken name and a short password are refused."""
    ann = await make_user(database, "ann")
    path = f"/v1/users/{ann.resource.id}"
    assert (400, "nothing_to_change") == code(await client.put(path, json={"extra": 1, "role": None}, headers=admin))
    assert (409, "username_taken") == code(await client.put(path, json={"username": "root"}, headers=admin))
    assert (422, "invalid_request") == code(await client.put(path, json={"password": "short"}, headers=admin))
    assert (409, "username_taken") == code(
        await client.post("/v1/users", json={"username": "ann", "password": PASSWORD}, headers=admin)
    )

    changed = await client.put(path, json={"username": "anna", "password": "another horse"}, headers=admin)
    assert (200, "anna") == (changed.status_code, changed.json()["username"])
    assert (401, "unauthorized") == code(await sign_in(client, "anna"))
    assert (await sign_in(client, "anna", "another horse")).status_code == 200


async def test_only_admins(client: httpx.AsyncClient, database: Database) -> None:
    """Only an admin sees or changes users: not a caller without credentials, a user, or a key of lower scope."""
    ann = await make_user(database, "ann")
    token, key = TOKENS.sign(ann).get_secret_value(), await make_key(database, "admin", user=ann)
    low = await make_key(database, "read", "write")
    path = f"/v1/users/{ann.resource.id}"
    calls = [("GET", "/v1/users"), ("POST", "/v1/users"), ("PUT", path), ("DELETE", path)]
    body = {"username": "x", "password": PASSWORD, "role": "admin"}
    for method, url in calls:
        assert (401, "unauthorized") == code(await client.request(method, url, json=body))
        for each in (token, key, low):
            assert (403, "forbidden") == code(await client.request(method, url, json=body, headers=bearer(each)))

    assert ann == await users.by_id(database, ann.resource.id)
    assert 1 == len(await users.page(database, "default", None, 10))


async def test_nobody_deletes_himself(client: httpx.AsyncClient, database: Database, root: StoredUser) -> None:
    """No user can delete themselves, signed in or by key; another admin can."""
    path = f"/v1/users/{root.resource.id}"
    own = await make_key(database, "admin", user=root)
    for each in (TOKENS.sign(root).get_secret_value(), own):
        assert (403, "forbidden") == code(await client.delete(path, headers=bearer(each)))

    other = await make_key(database, "admin")
    assert 204 == (await client.delete(path, headers=bearer(other))).status_code
    assert (401, "unauthorized") == code(await client.get("/users/me", headers=bearer(own)))


async def test_the_last_admin_stays(
    client: httpx.AsyncClient, opened: httpx.AsyncClient, database: Database, root: StoredUser, admin: dict[str, str]
) -> None:
    """An admin cannot remove the last admin access; with another admin, or on an open gateway, they can."""
    path, demoted = f"/v1/users/{root.resource.id}", {"role": "user"}
    assert (403, "forbidden") == code(await client.put(path, json=demoted, headers=admin))
    assert 200 == (await client.get("/v1/users", headers=admin)).status_code

    await make_user(database, "second", "admin")
    assert 200 == (await client.put(path, json=demoted, headers=admin)).status_code
    for each in (await opened.get("/v1/users")).json():
        assert 200 == (await opened.put(f"/v1/users/{each['id']}", json=demoted)).status_code
        assert 204 == (await opened.delete(f"/v1/users/{each['id']}")).status_code


async def test_another_tenants_user_is_unknown(
    client: httpx.AsyncClient, database: Database, admin: dict[str, str]
) -> None:
    """A user of another tenant looks exactly like an unknown id."""
    ann = await make_user(database, "ann", tenant="other")
    for method in ("PUT", "DELETE"):
        there, nowhere, no_id = [
            await client.request(method, f"/v1/users/{id}", json={"role": "admin"}, headers=admin)
            for id in (ann.resource.id, uuid4(), "canary")
        ]
        assert (404, "not_found") == code(there)
        assert there.text == nowhere.text == no_id.text
    assert "ann" not in (await client.get("/v1/users", headers=admin)).text
    assert ann == await users.by_id(database, ann.resource.id)


async def test_a_name_of_before_signs_in(client: httpx.AsyncClient, database: Database) -> None:
    """A user with an old username that would be refused today can still sign in."""
    await make_user(database, "a\u202eb\x1b")

    assert 200 == (await sign_in(client, "a\u202eb\x1b")).status_code


async def test_sign_in_and_who_am_i(client: httpx.AsyncClient, database: Database) -> None:
    """The right password returns a token, with which users can read their own data."""
    ann = await make_user(database, "Änn")
    signed_in = await sign_in(client, "Änn")
    token = signed_in.json()

    assert (200, "no-store") == (signed_in.status_code, signed_in.headers["cache-control"])
    assert ("bearer", 3600) == (token["token_type"], token["expires_in"])
    for each in (token["access_token"], await make_key(database, "read", user=ann)):
        me = await client.get("/users/me", headers=bearer(each))
        assert (200, ann.resource.model_dump(mode="json")) == (me.status_code, me.json())
    typed = await client.post("/token", content=f"grant_type=password&username=Änn&password={PASSWORD}".encode())
    assert 200 == typed.status_code


async def test_who_am_i_without_a_user(
    client: httpx.AsyncClient, opened: httpx.AsyncClient, database: Database
) -> None:
    """A program's key belongs to no user, and without credentials the answer is 401, in open mode too."""
    key = await make_key(database, "admin")
    for each in (client, opened):
        assert (404, "not_found") == code(await each.get("/users/me", headers=bearer(key)))
        assert (401, "unauthorized") == code(await each.get("/users/me", headers={"X-User-ID": "key:x"}))


async def test_wrong_passwords(client: httpx.AsyncClient, database: Database) -> None:
    """A wrong password and an unknown name get the same answer, and repeated failures lead to a pause."""
    await make_user(database, "ann")
    wrong, unknown = await sign_in(client, "ann", "canary"), await sign_in(client, "canary")
    assert (401, "unauthorized") == code(wrong)
    assert wrong.text == unknown.text
    while (refused := await sign_in(client, "ann", "canary")).status_code == 401:
        pass

    assert (429, "too_many_attempts") == code(refused)
    assert refused.headers["retry-after"] == "1"
    assert (401, "unauthorized") == code(await sign_in(client, "bob"))


async def test_strangers_keep_nobody_out(database: Database) -> None:
    """However many sign-ins with a name fail at other addresses, its user signs in from a new address."""
    await make_user(database, "ann")
    both = routers(database, asks=True)
    async with calling(*both, address="192.0.2.1") as strangers, calling(*both, address="192.0.2.2") as hers:
        flood = [await sign_in(strangers, name, "canary") for name in ["ann"] * 6 + [str(each) for each in range(40)]]
        assert {401, 429} == {each.status_code for each in flood}
        assert 200 == (await sign_in(hers, "ann")).status_code


@pytest.mark.parametrize(
    "form",
    [b"", b"canary", b'{"username": "canary", "password": "canary"}', b"username=ann", b"password=canary",
     b"username=ann&username=canary&password=x", b"username=%ff&password=canary", b"username=\xff&password=canary",
     b"username=canary%00&password=x", b"username=ann&password=x&grant_type=canary", b"&".join([b"a=canary"] * 30)],
)  # fmt: skip
async def test_forms_that_are_none(client: httpx.AsyncClient, form: bytes) -> None:
    """An invalid sign-in form is refused, and nothing of it is repeated."""
    refused = await client.post("/token", content=form, headers=FORM)

    assert (422, "invalid_request") == code(refused)
    assert "canary" not in refused.text
    assert (413, "too_large") == code(await client.post("/token", content=b"x" * 20_000))


async def test_an_old_hash_is_upgraded(client: httpx.AsyncClient, database: Database) -> None:
    """A user of the previous system signs in with a bcrypt hash, which becomes Argon2 and keeps the session."""
    made = await users.create(database, "default", "old", BCRYPT.hash(PASSWORD), "user")
    token = (await sign_in(client, "old")).json()["access_token"]

    found = await users.by_username(database, "old")
    assert found is not None
    assert found[1].startswith("$argon2id$")
    assert (await sign_in(client, "old")).status_code == 200
    assert (await client.get("/users/me", headers=bearer(token))).json()["id"] == str(made.id)


async def test_sign_in_while_postgres_goes_away(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Postgres is away a sign-in is a 503 and no failed attempt; a failed hash upgrade is left for later."""
    await users.create(database, "default", "old", BCRYPT.hash(PASSWORD), "user")
    monkeypatch.setattr(users, "set_hash", Calls(away()))
    assert 200 == (await sign_in(client, "old")).status_code
    with monkeypatch.context() as patch:
        patch.setattr(users, "by_username", Calls(DatabaseUnavailableError("canary")))
        for _ in range(11):
            refused = await sign_in(client, "old")
            assert (503, "unavailable") == code(refused)
            assert "canary" not in refused.text
    assert 200 == (await sign_in(client, "old")).status_code


async def test_changes_end_sessions_and_keys_at_once(client: httpx.AsyncClient, database: Database) -> None:
    """After a change or deletion of a user, old sessions and keys end at once on that gateway."""
    root, ann = await make_user(database, "root", "admin"), await make_user(database, "ann", "admin")
    admin, ref = bearer(TOKENS.sign(root).get_secret_value()), f"/v1/users/{ann.resource.id}"
    token = bearer((await sign_in(client, "ann")).json()["access_token"])
    key = bearer(await make_key(database, "admin", user=ann))
    for each in (token, key):
        assert 200 == (await client.get("/v1/users", headers=each)).status_code

    await client.put(ref, json={"role": "user"}, headers=admin)
    for each in (token, key):
        assert (403, "forbidden") == code(await client.get("/v1/users", headers=each))
    await client.put(ref, json={"password": "another horse"}, headers=admin)
    for each in (token, key):
        assert (401, "unauthorized") == code(await client.get("/users/me", headers=each))
    key = bearer(await make_key(database, "read", user=ann))
    await client.put(ref, json={"password": "one more horse", "keep_keys": True}, headers=admin)
    assert 200 == (await client.get("/users/me", headers=key)).status_code
    await client.delete(ref, headers=admin)
    assert (401, "unauthorized") == code(await client.get("/users/me", headers=key))


NEW = "another horse"


async def change(
    client: httpx.AsyncClient, headers: dict[str, str], old: str = PASSWORD, **more: Any
) -> httpx.Response:
    return await client.put(
        "/v1/users/me/password", json={"old_password": old, "password": NEW, **more}, headers=headers
    )


@pytest.mark.parametrize("keep", [False, True])
async def test_ones_own_password(client: httpx.AsyncClient, database: Database, keep: bool) -> None:
    """Changing one's own password ends the session and the keys that were made with the old one, unless kept."""
    ann, bob = await make_user(database, "ann"), await make_user(database, "bob")
    token = bearer((await sign_in(client, "ann")).json()["access_token"])
    key, bobs = [bearer(await make_key(database, "read", "write", user=each)) for each in (ann, bob)]
    changed = await change(client, token, **({"keep_keys": True} if keep else {}))

    assert (204, b"") == (changed.status_code, changed.content)
    assert (401, "unauthorized") == code(await client.get("/users/me", headers=token))
    assert (200 if keep else 401) == (await client.get("/users/me", headers=key)).status_code
    assert 200 == (await client.get("/users/me", headers=bobs)).status_code
    assert (401, "unauthorized") == code(await sign_in(client, "ann"))
    assert 200 == (await sign_in(client, "ann", NEW)).status_code


async def test_ones_own_password_needs_the_old_one(
    client: httpx.AsyncClient, opened: httpx.AsyncClient, database: Database, root: StoredUser
) -> None:
    """A key or token alone cannot change a password, and guesses at the old one count as sign-in attempts."""
    token, admins = bearer(TOKENS.sign(root).get_secret_value()), bearer(await make_key(database, "admin"))
    own = bearer(await make_key(database, "admin", user=root))
    for headers in (own, admins):
        assert (403, "forbidden") == code(await change(client, headers))
    for each in (client, opened):
        assert (401, "unauthorized") == code(await change(each, {}))
    for body in ({"password": NEW}, {"old_password": PASSWORD}, {"old_password": PASSWORD, "password": "short"}):
        assert (422, "invalid_request") == code(await client.put("/v1/users/me/password", json=body, headers=token))
    while (refused := await change(client, token, "canary")).status_code == 403:
        assert "canary" not in refused.text

    assert (429, "too_many_attempts") == code(refused)
    assert (429, "too_many_attempts") == code(await change(client, token))
    assert (429, "too_many_attempts") == code(await sign_in(client, "root"))
    assert root == await users.by_id(database, root.resource.id)


async def test_a_password_that_was_changed_meanwhile_is_not_changed_with_the_old_one(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two concurrent changes with the old password only one succeeds."""
    ann = await make_user(database, "ann")
    token = bearer(TOKENS.sign(ann).get_secret_value())
    hashed = Passwords.hash

    async def slow(self: Passwords, password: SecretStr) -> str:
        await users.change(database, "default", ann.resource.id, password_hash=FAST.hash("hers"))
        return await hashed(self, password)

    monkeypatch.setattr(Passwords, "hash", slow)
    assert (403, "forbidden") == code(await change(client, token))
    assert 200 == (await sign_in(client, "ann", "hers")).status_code


async def test_no_password_is_ever_shown(opened: httpx.AsyncClient, database: Database) -> None:
    """No password and no hash is in a response or log line, whatever is done with it."""
    canary = "canary of a password"
    with capture_logs() as logs:
        made = await opened.post("/v1/users", json={"username": "ann", "password": canary})
        path = f"/v1/users/{made.json()['id']}"
        told = [made, await opened.put(path, json={"password": canary + "2"}), await opened.get("/v1/users")]
        told += [await sign_in(opened, "ann", canary), await sign_in(opened, "ann", canary + "2")]
        token = told[-1].json()["access_token"]
        told.append(await opened.get("/users/me", headers=bearer(token)))
    found = await users.by_username(database, "ann")
    assert found is not None

    for needle in (canary, found[1], token.rpartition(".")[2]):
        assert needle not in repr(logs)
    for needle in (canary, "argon2"):
        assert not [each for each in told if needle in each.text]

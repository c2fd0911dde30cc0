import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from fastapi import APIRouter
from structlog.testing import capture_logs

from gateway.people.attempts import Attempts
from gateway.people.callers import Callers
from gateway.people.passwords import Passwords
from gateway.people.tokens import LIFETIME, Tokens, WebSession
from gateway.routes.keys import Keys
from gateway.routes.session import SessionRoutes
from gateway.routes.sign_in import SignIn
from gateway.routes.users import Users
from orchestra.store.database import Database
from orchestra.store.keys import Session
from orchestra.store.users import StoredUser
from orchestra.version import version
from schemas.api.keys import Scope
from tests.support.people import FAST, PASSWORD, Clock, bearer, calling, key_id, make_key, make_user, routed

TOKENS = Tokens([b"s" * 32])
OWN = {"Sec-Fetch-Site": "same-origin"}
ALL = [scope.value for scope in Scope]


def routers(database: Database, *, asks: bool) -> list[APIRouter]:
    callers, passwords, attempts = Callers(database, TOKENS, asks=asks), Passwords(FAST), Attempts(Clock())
    sign_in = SignIn(database, passwords, attempts, TOKENS)
    routes = [*Users(database, callers, passwords, attempts).routes(), *Keys(database, callers).routes()]
    sessions = SessionRoutes(database, callers, sign_in, attempts, TOKENS, asks=asks)
    return [sessions.router(), sign_in.router(), routed(callers, routes)]


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(*routers(database, asks=True)) as opened:
        yield opened


@pytest.fixture
async def opened(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(*routers(database, asks=False)) as opened:
        yield opened


def code(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


async def with_password(client: httpx.AsyncClient, password: str = PASSWORD, **headers: str) -> httpx.Response:
    form = {"username": "ann", "password": password}
    return await client.post("/v1/session", data=form, headers={**OWN, **headers})


async def with_key(client: httpx.AsyncClient, text: str) -> httpx.Response:
    return await client.post("/v1/session", json={"api_key": text}, headers=OWN)


def page(signed_in: httpx.Response) -> dict[str, str]:
    """The headers of a page that has signed in, taken out of the client, which would add the cookie by itself."""
    assert (signed_in.status_code, signed_in.content) == (204, b"")
    [(name, cookie)] = SimpleCookie(signed_in.headers["set-cookie"]).items()
    return {**OWN, "Cookie": f"{name}={cookie.value}"}


def of(session: WebSession, name: str = "orchestra") -> dict[str, str]:
    """The headers of a page with this session."""
    return {**OWN, "Cookie": f"{name}={TOKENS.sign_session(session).get_secret_value()}"}


async def whoami(client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> dict[str, Any]:
    client.cookies.clear()
    answer = await client.get("/v1/session", headers=headers)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    return dict(answer.json())


async def test_a_user_signs_in(client: httpx.AsyncClient, database: Database) -> None:
    """A page signs in with username and password, reads who it is, and acts with the rights of that user."""
    ann = await make_user(database, "ann", tenant="acme")
    signed_in = await with_password(client)
    headers = page(signed_in)

    assert signed_in.headers["cache-control"] == "no-store"
    assert re.fullmatch(
        r"orchestra=[^;]+; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict", signed_in.headers["set-cookie"]
    )
    found = await whoami(client, headers)
    times = found["session"]
    id = str(ann.resource.id)
    assert found == {
        "mode": "users",
        "version": version(),
        "caller": {
            "tenant": "acme", "owner": id, "user_id": id, "username": "ann", "role": "user", "key_id": None,
            "key_name": None, "scopes": ["read", "write"],
        },
        "session": times,
    }  # fmt: skip
    after = {
        name: datetime.fromisoformat(at) - datetime.fromisoformat(times["signed_in_at"]) for name, at in times.items()
    }
    assert {name: round(seconds.total_seconds() / 60) for name, seconds in after.items()} == {
        "signed_in_at": 0, "recent_until": 15, "renew_at": 30, "expires_at": 60, "ends_at": 720,
    }  # fmt: skip
    assert (await client.get("/users/me", headers=headers)).json()["id"] == id
    assert (403, "forbidden") == code(await client.get("/v1/users", headers=headers))


async def test_flags_over_https(client: httpx.AsyncClient, database: Database) -> None:
    """A page that was called by https gets a cookie that only this host can set and that stays on https."""
    await make_user(database, "ann")
    signed_in = await with_password(client, Origin="https://localhost")

    flags = r"__Host-orchestra=[^;]+; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict; Secure"
    assert re.fullmatch(flags, signed_in.headers["set-cookie"])
    assert (await whoami(client, page(signed_in)))["caller"]["username"] == "ann"


@pytest.mark.parametrize("scopes", [["read"], ["read", "write"], ["read", "operate"], ALL])
async def test_a_key_signs_in(client: httpx.AsyncClient, database: Database, scopes: list[str]) -> None:
    """A page signs in with a program's key: it acts for the program, and its cookie has no secret."""
    text = await make_key(database, *scopes, name="nightly", tenant="acme")
    headers = page(await with_key(client, text))

    found = await whoami(client, headers)
    assert found["mode"] == "keys"
    assert found["caller"] == {
        "tenant": "acme", "owner": "key:nightly", "user_id": None, "username": None, "role": None,
        "key_id": key_id(text), "key_name": "nightly", "scopes": scopes,
    }  # fmt: skip
    assert ("admin" in scopes) == ((await client.get("/v1/users", headers=headers)).status_code == 200)
    claims = jwt.decode(headers["Cookie"].partition("=")[2], options={"verify_signature": False})
    assert {"sub", "iat", "exp", "iss", "auth_time"} == claims.keys()
    assert claims["sub"] == key_id(text)
    assert text.rpartition("_")[2] not in json.dumps(claims)


async def test_a_users_key_signs_in(client: httpx.AsyncClient, database: Database) -> None:
    """A session of a user's key shows the user, and has no more rights than the key; it is not the user's sign-in."""
    root = await make_user(database, "root", "admin")
    text = await make_key(database, "write", user=root)
    headers = page(await with_key(client, text))

    caller = (await whoami(client, headers))["caller"]
    assert ("root", "admin", "program", ["read", "write"]) == tuple(
        caller[name] for name in ("username", "role", "key_name", "scopes")
    )
    body = {"old_password": PASSWORD, "password": "another horse"}
    changed = await client.put("/v1/users/me/password", json=body, headers=headers)
    assert (403, "forbidden") == code(changed)


async def test_what_a_page_learns_before_it_has_signed_in(
    client: httpx.AsyncClient, opened: httpx.AsyncClient, database: Database
) -> None:
    """Without a session a page learns how to sign in, and that in open mode it need not."""
    empty = {"version": version(), "session": None}
    assert {**empty, "mode": "keys", "caller": None} == await whoami(client)
    everybody = {
        "tenant": "default", "owner": "ann", "user_id": None, "username": None, "role": None, "key_id": None,
        "key_name": None, "scopes": ALL,
    }  # fmt: skip
    assert {**empty, "mode": "open", "caller": everybody} == await whoami(opened, {"X-User-ID": "ann"})


async def test_programs_ask_too(client: httpx.AsyncClient, database: Database) -> None:
    """A program with a key or token learns who it is; a bad one gets the same 401 as everywhere."""
    ann = await make_user(database, "ann")
    text, token = await make_key(database, "read", user=ann), TOKENS.sign(ann).get_secret_value()

    for credentials in (text, token):
        found = await whoami(client, bearer(credentials))
        assert ("ann", None) == (found["caller"]["username"], found["session"])
    assert (401, "unauthorized") == code(await client.get("/v1/session", headers=bearer(text[:-1] + "g")))


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://localhost:3000"}])
async def test_no_other_page_signs_a_browser_in_or_out(
    client: httpx.AsyncClient, database: Database, headers: dict[str, str]
) -> None:
    """A page of another origin cannot sign a browser in under an account of its own, or out."""
    await make_user(database, "ann")
    form = {"username": "ann", "password": PASSWORD}
    for answer in (
        await client.post("/v1/session", data=form, headers=headers),
        await client.delete("/v1/session", headers=headers),
    ):
        assert (403, "cross_origin") == code(answer)
        assert "set-cookie" not in answer.headers


async def test_guessing_is_slowed_down(client: httpx.AsyncClient, database: Database) -> None:
    """Wrong passwords and keys get 401 without a cookie, and count as those of `POST /token` do."""
    await make_user(database, "ann")
    good = await make_key(database, "read")
    wrong = await with_password(client, "canary")
    assert (401, "unauthorized") == code(wrong)
    assert "set-cookie" not in wrong.headers
    for _ in range(5):
        await client.post("/token", data={"username": "ann", "password": "canary"})
    assert (429, "too_many_attempts") == code(await with_password(client))

    assert (401, "unauthorized") == code(await with_key(client, "orc_canary"))
    assert (401, "unauthorized") == code(await with_key(client, good[:-1] + ("0" if good[-1] != "0" else "1")))
    while (answer := await with_key(client, f"orc_{'a' * 12}_{uuid4().hex * 2}")).status_code == 401:
        pass
    assert (429, "too_many_attempts") == code(answer)
    assert (await with_key(client, good)).status_code == 204


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        (b"{", "application/json", (400, "not_json")),
        (b"{}", "application/json", (422, "invalid_request")),
        (b'{"api_key": ""}', "application/json", (422, "invalid_request")),
        (b'{"api_key": "orc_x", "more": 1}', "application/json", (422, "invalid_request")),
        (b"username=ann", "application/x-www-form-urlencoded", (422, "invalid_request")),
        (b'{"api_key": "orc_x"}', "text/plain", (422, "invalid_request")),
        (b"", "", (422, "invalid_request")),
        (b"x" * 20_000, "application/json", (413, "too_large")),
    ],
)
async def test_bodies(client: httpx.AsyncClient, body: bytes, kind: str, told: tuple[int, str]) -> None:
    """A body that is neither the form nor the JSON is refused by name."""
    answer = await client.post("/v1/session", content=body, headers={**OWN, "Content-Type": kind})

    assert told == code(answer)


async def test_signing_out(client: httpx.AsyncClient, database: Database) -> None:
    """Signing out removes the cookie from the browser, also without a valid one."""
    await make_user(database, "ann")
    for headers in (page(await with_password(client)), {**OWN, "Cookie": "orchestra=old"}, OWN):
        answer = await client.delete("/v1/session", headers=headers)
        assert (204, "no-store") == (answer.status_code, answer.headers["cache-control"])
        names = [each.partition("=")[0] for each in answer.headers.get_list("set-cookie") if "Max-Age=0" in each]
        assert ["__Host-orchestra", "orchestra"] == names


def session_of(user: StoredUser, ago: timedelta, renewed: timedelta | None = None) -> WebSession:
    """The session of a user who signed in some time ago, and when it was last renewed."""
    now = datetime.now(UTC)
    who = Session(user.resource.id, user.password_set_at)
    return WebSession(who, now - ago, now - (ago if renewed is None else renewed))


MINUTE = timedelta(minutes=1)


async def test_renewal(client: httpx.AsyncClient, database: Database) -> None:
    """A session is renewed from half of its hour on, by GET /v1/session alone, and for twelve hours at most."""
    ann = await make_user(database, "ann")
    young, old = session_of(ann, 29 * MINUTE), session_of(ann, 31 * MINUTE)
    assert "set-cookie" not in (await client.get("/v1/session", headers=of(young))).headers
    assert "set-cookie" not in (await client.get("/users/me", headers=of(old))).headers

    renewed = await client.get("/v1/session", headers=of(old))
    [cookie] = SimpleCookie(renewed.headers["set-cookie"]).values()
    read = TOKENS.read_session(cookie.value)
    assert read is not None
    assert (old.who, old.signed_in_at) == (read.who, read.signed_in_at)
    assert "Max-Age=3600" in renewed.headers["set-cookie"]
    assert datetime.fromisoformat(renewed.json()["session"]["expires_at"]) > old.expires_at

    late = session_of(ann, 690 * MINUTE, 31 * MINUTE)
    last = await client.get("/v1/session", headers=of(late))
    assert (late.ends_at - late.issued_at) > LIFETIME
    seconds = int(re.findall(r"Max-Age=(\d+)", last.headers["set-cookie"])[0])
    assert 29 * 60 - 5 <= seconds <= 30 * 60
    ending = session_of(ann, 715 * MINUTE, 40 * MINUTE)
    answer = await client.get("/v1/session", headers=of(ending))
    assert ("set-cookie" in answer.headers, answer.json()["session"]["expires_at"]) == (
        False, answer.json()["session"]["ends_at"],
    )  # fmt: skip


async def test_what_outlives_a_session_needs_a_new_sign_in(client: httpx.AsyncClient, database: Database) -> None:
    """A session creates keys, users and passwords for a quarter of an hour; then its user must sign in again."""
    root, ann = await make_user(database, "root", "admin"), await make_user(database, "ann")
    young, old = of(session_of(root, 14 * MINUTE)), of(session_of(root, 16 * MINUTE))
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/keys", {"name": "mine"}),
        ("POST", "/v1/users", {"username": "bob", "password": "a long one"}),
        ("PUT", f"/v1/users/{ann.resource.id}", {"password": "another long one"}),
    ]
    for method, path, body in calls:
        assert (403, "sign_in_again") == code(await client.request(method, path, json=body, headers=old))
        assert (await client.request(method, path, json=body, headers=young)).is_success
    assert (await client.get("/v1/keys", headers=old)).status_code == 200
    token = bearer(TOKENS.sign(root, datetime.now(UTC) - 16 * MINUTE).get_secret_value())
    assert (await client.post("/v1/keys", json={"name": "its token"}, headers=token)).status_code == 201
    # It asks for the old password itself.
    body = {"old_password": PASSWORD, "password": "hers"}
    assert (422, "invalid_request") == code(await client.put("/v1/users/me/password", json=body, headers=old))


def bad_cookies(user: StoredUser) -> dict[str, str]:
    good, now = session_of(user, MINUTE), datetime.now(UTC)

    def signed(session: WebSession = good, tokens: Tokens = TOKENS, **changed: Any) -> str:
        return tokens.sign_session(replace(session, **changed)).get_secret_value()

    head, body, signature = signed().split(".")
    return {
        "another secret": signed(tokens=Tokens([b"x" * 32])),
        "an access token": TOKENS.sign(user).get_secret_value(),
        "an hour old": signed(session_of(user, 61 * MINUTE)),
        "twelve hours old": signed(session_of(user, 721 * MINUTE, MINUTE)),
        "tampered": f"{head}.{body[:-2]}AA.{signature}",
        "cut": signed()[:-4],
        "no signature": f"{head}.{body}.",
        "no user": signed(who=Session(uuid4(), now)),
        "no key": signed(who="a" * 12),
        "an old password": signed(who=Session(user.resource.id, now - timedelta(days=1))),
        "no token": "a.b.c",
        "long": signed() + "a" * 5000,
    }


async def test_bad_cookies(client: httpx.AsyncClient, opened: httpx.AsyncClient, database: Database) -> None:
    """A cookie with anything wrong is no credential; where no credentials are required it is ignored."""
    ann = await make_user(database, "ann")
    for text in bad_cookies(ann).values():
        headers = {**OWN, "Cookie": f"orchestra={text}"}
        assert (401, "unauthorized") == code(await client.get("/users/me", headers=headers))
        assert (401, "unauthorized") == code(await client.post("/v1/keys", json={"name": "x"}, headers=headers))
        assert (await whoami(client, headers))["caller"] is None
        assert (await whoami(opened, headers))["caller"]["scopes"] == ALL


async def test_a_session_is_no_access_token(client: httpx.AsyncClient, database: Database) -> None:
    """The value of a cookie is worth nothing in `Authorization`."""
    await make_user(database, "ann")
    token = page(await with_password(client))["Cookie"].partition("=")[2]

    assert (401, "unauthorized") == code(await client.get("/users/me", headers=bearer(token)))


async def test_authorization_goes_before_a_cookie(
    client: httpx.AsyncClient, opened: httpx.AsyncClient, database: Database
) -> None:
    """Where `Authorization` is sent the cookie does not count, be that good, bad or not ours."""
    await make_user(database, "ann")
    cookie, text = page(await with_password(client)), await make_key(database, "read", name="program")

    assert (await whoami(client, {**cookie, **bearer(text)}))["caller"]["key_name"] == "program"
    assert (401, "unauthorized") == code(await client.get("/v1/session", headers={**cookie, **bearer(text[:-3])}))
    for foreign in (bearer("sk-1"), {"Authorization": "Basic dTpw"}, {"Authorization": ""}):
        assert (await whoami(client, {**cookie, **foreign}))["caller"] is None
        assert (await whoami(opened, {**cookie, **foreign}))["caller"]["username"] is None
    # Such a call is a program's, so no page has to have made it.
    headers = {**bearer(text), "Cookie": cookie["Cookie"], "Sec-Fetch-Site": "cross-site"}
    assert (403, "forbidden") == code(await client.post("/v1/keys", json={"name": "x"}, headers=headers))


async def test_in_open_mode_too_a_session_counts(opened: httpx.AsyncClient, database: Database) -> None:
    """A page that signs in where it is not required acts as that user, until it signs out."""
    await make_user(database, "ann")
    headers = page(await with_password(opened))

    found = await whoami(opened, headers)
    assert ("open", "ann") == (found["mode"], found["caller"]["username"])
    assert (403, "forbidden") == code(await opened.get("/v1/users", headers=headers))
    assert (403, "cross_origin") == code(
        await opened.post("/v1/keys", json={"name": "x"}, headers={**headers, "Sec-Fetch-Site": "same-site"})
    )


async def test_a_revoked_key_and_a_new_password_end_sessions(client: httpx.AsyncClient, database: Database) -> None:
    """Where a key is revoked or a password changed, the sessions of either end at once."""
    await make_user(database, "ann")
    text = await make_key(database, "admin")
    hers, keys_page = page(await with_password(client)), page(await with_key(client, text))
    assert (await client.delete(f"/v1/keys/{key_id(text)}", headers=keys_page)).status_code == 204
    body = {"old_password": PASSWORD, "password": "another horse"}
    assert (await client.put("/v1/users/me/password", json=body, headers=hers)).status_code == 204

    for headers in (hers, keys_page):
        assert (401, "unauthorized") == code(await client.get("/v1/keys", headers=headers))
        assert (await whoami(client, headers))["caller"] is None
    assert (await with_password(client, "another horse")).status_code == 204


async def test_nothing_secret_is_logged_or_told(client: httpx.AsyncClient, database: Database) -> None:
    """No key, password or cookie is in a log line or an answer's body."""
    await make_user(database, "ann")
    text, told = await make_key(database, "read"), []
    with capture_logs() as logs:
        signed_in = await with_key(client, text)
        told += [await with_key(client, text[:-1] + "g"), await with_password(client, "canary")]
        told.append(await client.get("/v1/session", headers=page(signed_in)))
    said = repr([each.text for each in told]) + repr(logs)
    cookie = page(signed_in)["Cookie"]
    for needle in (text.rpartition("_")[2][:-1], cookie.rpartition(".")[2], "canary"):
        assert needle not in said

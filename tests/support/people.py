"""Users and keys in a test's database, and a small app with the routes that a test is about."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import APIRouter
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from gateway.drain import Drain
from gateway.http.problems import Problems
from gateway.http.route import Route, Routing
from gateway.metrics import Metrics
from gateway.owner_turns import OwnerTurns
from gateway.people.callers import Callers
from orchestra.credentials import new_key
from orchestra.http.hot_routes import HotApp
from orchestra.store import keys, users
from orchestra.store.database import Database
from orchestra.store.users import StoredUser
from schemas.api.keys import CreateKey, Scope
from schemas.api.users import Role

PASSWORD = "correct horse"
# As slow as real ones they would only cost time.
BCRYPT = BcryptHasher(4)
FAST = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1), BCRYPT))
HASH = FAST.hash(PASSWORD)


class Clock:
    """A clock that goes only when told, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def make_user(database: Database, username: str, role: Role = "user", tenant: str = "default") -> StoredUser:
    """A user with the password of all tests."""
    made = await users.create(database, tenant, username, HASH, role)
    stored = await users.by_id(database, made.id)
    assert stored is not None
    return stored


async def make_key(
    database: Database, *scopes: str, user: StoredUser | None = None, tenant: str = "default", **more: Any
) -> str:
    """A key of these scopes; its text."""
    key = new_key()
    wanted = CreateKey(name=more.pop("name", "program"), scopes=[Scope(scope) for scope in scopes], **more)
    await keys.create(database, tenant, key, wanted, user.resource.id if user else None)
    return key.text


def key_id(text: str) -> str:
    """What a key is called by."""
    return text.split("_")[1]


def bearer(text: str) -> dict[str, str]:
    """The headers of a caller with this key or token."""
    return {"Authorization": f"Bearer {text}"}


def routed(callers: Callers, routes: Sequence[Route], drain: Drain | None = None) -> APIRouter:
    """These routes behind their checks."""
    return Routing(callers, drain or Drain(), one_owner(), 10_000).router("tag", routes)


@asynccontextmanager
async def calling(*routers: APIRouter, address: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with these routes, which calls from an address."""
    app = HotApp(redirect_slashes=False)
    Problems(Metrics()).install(app)
    for router in routers:
        app.include_router(router)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
        yield opened


def one_owner() -> OwnerTurns:
    """Turns where all callers are one owner: none of them waits."""
    return OwnerTurns(None, max_waiting=0, max_seconds=60)

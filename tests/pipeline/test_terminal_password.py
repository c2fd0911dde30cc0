"""`orchestra password` against a gateway, and against other servers."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from orchestra.store import keys
from orchestra.store.database import Database
from tests.support.gateway import Gateway, own_env, running_gateway
from tests.support.people import PASSWORD, key_id, make_key, make_user
from tests.support.ports import free_port
from tests.support.stack import Stack
from tests.support.store import connect

NEW = "another horse"


@pytest.fixture(scope="module")
async def env(stack: Stack) -> dict[str, str]:
    return await own_env(stack)


@pytest.fixture(scope="module")
async def gateway(env: dict[str, str]) -> AsyncIterator[Gateway]:
    async with running_gateway(env, open_mode=False) as running:
        yield running


@pytest.fixture
async def database(env: dict[str, str]) -> AsyncIterator[Database]:
    opened = connect(env["DATABASE_URL"])
    yield opened
    await opened.close()


async def change(url: str, *words: str, old: str = PASSWORD, new: str = NEW) -> tuple[int, str, str]:
    command = [sys.executable, "-P", "-m", "orchestra.cli", "password", *words]
    done = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, "ORCHESTRA_GATEWAY": url}, input=f"{old}\n{new}\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("keep", [False, True])
async def test_a_password_is_changed(gateway: Gateway, database: Database, keep: bool) -> None:
    """The old password is required and ends; the keys end with it unless they are to be kept."""
    ann = await make_user(database, f"ann, {keep}")
    key = await make_key(database, "read", user=ann)
    name = ann.resource.username
    assert (0, "changed\n", "") == await change(gateway.url, name, *(["--keep-keys"] if keep else []))

    codes = [
        (await gateway.client.post("/token", data={"username": name, "password": each})).status_code
        for each in (PASSWORD, NEW)
    ]
    assert [401, 200] == codes
    found = await keys.find(database, key_id(key))
    assert found is not None
    assert keep == (found.resource.revoked_at is None)


async def test_what_is_refused(gateway: Gateway, database: Database) -> None:
    """A wrong password, a bad new one and a missing one each give one line and an exit code."""
    await make_user(database, "bob")
    status, _, said = await change(gateway.url, "bob", old="canary")
    assert (1, "wrong username or password (unauthorized)\n") == (status, said)
    status, _, said = await change(gateway.url, "bob", new="canary")
    assert (1, "password: must have 8 to 1024 characters (invalid_request)\n") == (status, said)
    status, _, said = await change(gateway.url, "bob", new="")
    assert (2, True) == (status, "two lines" in said)
    status, _, said = await change(f"http://127.0.0.1:{free_port()}", "bob")
    assert (1, 1, True) == (status, len(said.splitlines()), "did not answer" in said)


@pytest.mark.parametrize("answer", ["<html>", "[]", '{"access_token": "caf\\u00e9"}'])
async def test_what_is_no_gateway(answer: str) -> None:
    """A response of another server is reported as one."""
    app, port = web.Application(), free_port()

    async def token(_call: web.Request) -> web.Response:
        return web.Response(text=answer)

    app.router.add_post("/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        status, _, said = await change(f"http://127.0.0.1:{port}", "bob")
    finally:
        await runner.cleanup()
    assert (1, "the gateway at 127.0.0.1 returned status 200, and not as a gateway does\n") == (status, said)

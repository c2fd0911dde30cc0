"""`orchestra keys` on a real database."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.cli.migrate import dbmate
from orchestra.credentials import read_key
from orchestra.store import keys
from schemas.api.keys import Scope
from tests.support.people import make_user
from tests.support.poolers import open_refusing
from tests.support.ports import free_port
from tests.support.stack import Stack
from tests.support.store import connect
from tests.support.tree import ROOT


async def orchestra(folder: Path, *words: str, url: str | None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    command = [sys.executable, "-P", "-m", "orchestra.cli", "keys", *words]
    return await asyncio.to_thread(
        subprocess.run, command, env={**env, **({"DATABASE_URL": url} if url else {})}, cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


async def test_from_the_first_key_to_its_end(stack: Stack, tmp_path: Path) -> None:
    """A key is made and stands alone on stdout, is listed without its secret, and is revoked."""
    url = await stack.fresh_database()
    made = await orchestra(tmp_path, "create", "ops", "--scope", "admin", "--expires-in-days", "30", url=url)
    assert (0, 1) == (made.returncode, len(made.stdout.splitlines())), made.stderr
    text = made.stdout.strip()
    id, secret_hash = read_key(text) or pytest.fail(text)
    assert text not in made.stderr

    database = connect(url)
    found = await keys.find(database, id)
    assert found is not None
    assert (secret_hash, [Scope.ADMIN], None) == (found.secret_hash, found.resource.scopes, found.resource.user_id)
    listed = await orchestra(tmp_path, "list", url=url)
    assert (0, True, True) == (listed.returncode, id in listed.stdout, "ops" in listed.stdout), listed.stderr
    assert text.rpartition("_")[2] not in listed.stdout + listed.stderr

    assert await keys.any_way_in(database)
    revoked = await orchestra(tmp_path, "revoke", id, url=url)
    assert (0, "") == (revoked.returncode, revoked.stdout)
    assert not await keys.any_way_in(database)
    await database.close()


async def test_a_users_key(stack: Stack, tmp_path: Path) -> None:
    """A person's key has their name; without options it reads and writes until it is revoked."""
    url = await stack.fresh_database()
    database = connect(url)
    ann = await make_user(database, "ann")
    made = await orchestra(tmp_path, "create", "laptop", "--user", "ann", url=url)
    (found,) = await keys.page(database, "default", ann.resource.id, None, 10)
    await database.close()

    assert made.returncode == 0, made.stderr
    assert ([Scope.READ, Scope.WRITE], None) == (found.scopes, found.expires_at)
    assert (read_key(made.stdout.strip()) or [""])[0] == found.id


async def test_a_tenant_that_is_misspelt_is_seen(stack: Stack, tmp_path: Path) -> None:
    """The first key of a tenant is announced as such, and so is each name of a tenant that has no keys."""
    url = await stack.fresh_database()
    first, second = [await orchestra(tmp_path, "create", "x", "--tenant", "defualt", url=url) for _ in range(2)]
    listed = await orchestra(tmp_path, "list", "--tenant", "other", url=url)

    assert ["first key of tenant 'defualt'" in done.stderr for done in (first, second)] == [True, False]
    assert (0, "", "tenant 'other' has no keys\n") == (listed.returncode, listed.stdout, listed.stderr)


async def test_what_cannot_be(stack: Stack, tmp_path: Path) -> None:
    """Each refusal is one line, with exit code 1, and nothing on stdout."""
    url = await stack.fresh_database()
    bare = await stack.fresh_database()
    for _ in (ROOT / "migrations").glob("*.sql"):
        assert 0 == (await asyncio.to_thread(dbmate, "down", url=bare)).returncode
    nowhere = f"postgres://user:canary@127.0.0.1:{free_port()}/x"
    cases = {
        ("create", "x", "--user", "nobody"): (url, "no user"),
        ("create", "x", "--user", "nobody", "--tenant", "other"): (url, "no user"),
        ("create", ""): (url, "name: "),
        ("revoke", "a" * 12): (url, "no key"),
        ("revoke", "canary"): (url, "no key"),
        ("list",): (None, "DATABASE_URL is not set"),
        ("create", "x"): (nowhere, "cannot be reached"),
        ("create", "y"): (bare, "orchestra migrate"),
    }
    for words, (where, said) in cases.items():
        done = await orchestra(tmp_path, *words, url=where)
        assert (1, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines())), (words, done.stderr)
        assert re.search(said, done.stderr), (words, done.stderr)
        assert "canary" not in done.stderr


async def test_a_pooler_that_cannot_be_used(stack: Stack, tmp_path: Path) -> None:
    """A pooler that is not set up for us is named, with what to do."""
    async with open_refusing(stack.database_url) as url:
        done = await orchestra(tmp_path, "list", url=url)

    assert (1, "") == (done.returncode, done.stdout)
    assert "ignore_startup_parameters in pgbouncer.ini" in done.stderr

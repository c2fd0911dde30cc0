"""`orchestra migrate` on a real database."""

import asyncio
import os
import subprocess
import sys

import pytest

from orchestra.cli.migrate import with_sslmode
from tests.support.poolers import open_refusing
from tests.support.stack import Stack


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p@127.0.0.1:1/d", "postgres://u:p@127.0.0.1:1/d?sslmode=disable"),
        ("postgresql://u:p@localhost/d?x=1", "postgresql://u:p@localhost/d?x=1&sslmode=disable"),
        ("postgres://u:p@127.0.0.1/d?sslmode=require", "postgres://u:p@127.0.0.1/d?sslmode=require"),
        ("postgres://u:p@db.example/d", "postgres://u:p@db.example/d"),
    ],
)
def test_only_a_local_database_goes_without_tls_unasked(given: str, expected: str) -> None:
    """`sslmode=disable` is added for this machine alone, and never over what was asked for."""
    assert with_sslmode(given) == expected


def test_what_the_environment_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """`PGSSLMODE` counts for a database of this machine, too."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")

    assert "postgres://u:p@localhost/d" == with_sslmode("postgres://u:p@localhost/d")


def orchestra(*words: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "orchestra.cli", *words]
    return subprocess.run(command, env={**os.environ, "DATABASE_URL": url}, capture_output=True, text=True, check=False)


async def test_down_status_and_up(stack: Stack) -> None:
    """A migration can be undone, is then listed as pending with exit code 1, and can be applied again."""
    url = await stack.fresh_database()
    undone = orchestra("migrate", "down", url=url)
    pending = orchestra("migrate", "status", url=url)
    applied = orchestra("migrate", url=url)
    complete = orchestra("migrate", "status", url=url)

    assert [undone.returncode, pending.returncode, applied.returncode, complete.returncode] == [0, 1, 0, 0]
    assert "Pending: 0" in complete.stdout
    assert "Pending: 1" in pending.stdout


async def test_two_at_once_do_not_collide(stack: Stack) -> None:
    """Two replicas that migrate at the same moment both succeed."""
    url = await stack.fresh_database()
    orchestra("migrate", "down", url=url)
    both = await asyncio.gather(*(asyncio.to_thread(orchestra, "migrate", url=url) for _ in range(2)))

    assert [each.returncode for each in both] == [0, 0]


async def test_migrations_do_not_go_through_a_pooler(stack: Stack) -> None:
    """A pooler is refused with one line that says which address to use."""
    async with open_refusing(stack.database_url) as url:
        done = await asyncio.to_thread(orchestra, "migrate", url=url)

    assert (1, "") == (done.returncode, done.stdout)
    assert "set DATABASE_URL to the address of Postgres itself" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_wrong_direction_is_refused() -> None:
    """An unknown word is a usage error."""
    assert orchestra("migrate", "sideways", url="postgres://nowhere/x").returncode == 2

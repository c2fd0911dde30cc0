"""Promises of orchestra/store/pooler.py: a pooler passes on what a process needs, or is refused with the reason.

These poolers are simulated; tests/live/test_pgbouncer.py has the same promises with a real one.
"""

from typing import Any

import pytest

from orchestra.store.database import DatabaseUnavailableError, PoolerError, server_settings
from orchestra.store.pooler import share_sessions
from tests.support.pgbouncer import documented
from tests.support.poolers import Habits, open_pooler, open_refusing
from tests.support.stack import Stack
from tests.support.store import connect, request, take


async def refused(url: str) -> PoolerError:
    """Why a connection to this URL is refused."""
    database = connect(url)
    with pytest.raises(PoolerError) as caught:
        await database.run("SELECT 1")
    await database.close()
    return caught.value


@pytest.mark.parametrize("tracks", [True, False], ids=["renames statements", "has a session for each client"])
async def test_a_pooler_that_passes_everything_on_is_used(stack: Stack, *, tracks: bool) -> None:
    """A pooler that passes on settings and statements is as good as Postgres itself."""
    async with open_pooler(await stack.fresh_database(), Habits(tracks=tracks)) as url:
        database = connect(url)
        assert (await take(database, request())).inserted == 1
        assert not await database.shares_sessions()
        await database.close()


async def test_lost_settings_are_named_with_the_remedy(stack: Stack) -> None:
    """A pooler that loses settings is refused; the error names each one, and the statements that set them."""
    lost = Habits(settings={"jit": "off", "enable_seqscan": "off"})
    async with open_pooler(stack.database_url, lost) as url:
        error = await refused(url)

    assert "statement_timeout is 0 instead of 30000" in error.reason
    assert "idle_in_transaction_session_timeout is 0 instead of 5000" in error.reason
    assert "SET statement_timeout = 30000; SET idle_in_transaction_session_timeout = 5000`" in error.fix
    assert "jit" not in str(error)


async def test_settings_of_workers_do_not_suit_gateways(stack: Stack) -> None:
    """An address that has the settings of workers is refused by a gateway, and taken by a worker."""
    async with open_pooler(stack.database_url, Habits(settings=server_settings("x", takes_first=True))) as url:
        error = await refused(url)
        worker = connect(url, as_worker=True)
        assert await worker.is_well()
        await worker.close()

    assert error.reason.endswith("enable_bitmapscan is off instead of on")


async def test_a_refused_start_names_what_to_ignore(stack: Stack) -> None:
    """A pooler that refuses start-up settings is named, with the lines that change it."""
    async with open_refusing(stack.database_url) as url:
        error = await refused(url)

    assert "refuses start-up settings" in error.reason
    assert "statement_timeout, idle_in_transaction_session_timeout, jit, enable_seqscan, enable_bitmapscan" in error.fix
    assert "SET jit = off" in error.fix


async def test_a_refused_pooler_is_an_outage(stack: Stack) -> None:
    """A process waits for a pooler to be set up as it waits for Postgres, and no secret is in the reason."""
    async with open_refusing(stack.database_url) as url:
        error = await refused(url)

    assert isinstance(error, DatabaseUnavailableError)
    assert url.split(":")[2].split("@")[0] not in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("role", ["gateways", "workers"])
def test_the_how_to_shows_the_settings_that_are_checked(role: str) -> None:
    """The pgbouncer.ini of the how-to has every setting, for gateways and for workers."""
    ini = documented()
    tracked = {"application_name", "timezone"}
    settings = server_settings("x", takes_first=role == "workers")
    needed = {name: value for name, value in settings.items() if name not in tracked}
    statements = "; ".join(f"SET {name} = {value}" for name, value in needed.items())

    assert ini["databases"][f"orchestra_{role}"].endswith(f"connect_query='{statements}'")
    assert ini["pgbouncer"]["ignore_startup_parameters"] == ", ".join(needed)


class Client:
    """A connection through a pooler; ``sessions`` execute its statements, one after the other."""

    def __init__(self, *sessions: int) -> None:
        self._sessions = list(sessions)

    def get_server_pid(self) -> int:
        return 99

    def transaction(self) -> "Client":
        return self

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass

    async def prepare(self, _statement: str, **_: Any) -> "Client":
        return self

    async def fetch(self, *_: Any, **__: Any) -> list[dict[str, int]]:
        return [{"pid": self._next()}]

    async def execute(self, statement: str, **_: Any) -> str:
        return f"SELECT {int(statement.endswith(f' {self._next()}'))}"

    def _next(self) -> int:
        return self._sessions.pop(0) if len(self._sessions) > 1 else self._sessions[0]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (Client(99), Client(2), False),
        (Client(1), Client(2), False),
        (Client(1), Client(1), True),
        (Client(1), Client(2, 2, 1), True),
        (Client(1, 1, 1, 3), Client(2), True),
    ],
    ids=["Postgres itself", "a session for each client", "an idle pooler", "a busy one", "a session taken by another"],
)
async def test_shared_sessions_are_found(one: Client, other: Client, *, shared: bool) -> None:
    """A session that two clients get, or that a client does not get again, is shared."""
    assert await share_sessions(one, other) is shared  # type: ignore[arg-type]

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.people.startup_check import CannotStartError, check_way_in
from gateway.settings import GatewaySettings
from gateway.timings import Timings
from orchestra.store import keys
from orchestra.store.database import Database, PoolerError
from orchestra.store.pooler import Obstacle
from tests.support.fakes import Calls, away
from tests.support.people import make_key, make_user

STRANGERS = {"host": "0.0.0.0"}
OWN = {"open_mode": False}


def settings(**more: Any) -> GatewaySettings:
    return GatewaySettings.model_validate({"orchestra_secret": "x" * 32, **more})


async def events(database: Database, **more: Any) -> list[str]:
    """What a start with these settings logs."""
    with capture_logs() as logs:
        await check_way_in(settings(**more), database, Timings(look_for_way_in=0.001))
    return [each["event"] for each in logs]


async def test_an_open_gateway_says_so(database: Database) -> None:
    """An open gateway logs one warning, wherever it listens, and needs no key."""
    assert ["open_mode"] == await events(database)
    assert ["open_mode"] == await events(database, host="0.0.0.0", open_mode=True)


async def test_strangers_without_a_way_in(database: Database) -> None:
    """Without a key or an admin a public gateway refuses to start, with one line on how to create a key."""
    await make_user(database, "ann")
    await make_key(database, "admin", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    for more in (STRANGERS, {**STRANGERS, **OWN}):
        with pytest.raises(CannotStartError) as caught:
            await check_way_in(settings(**more), database)
        assert caught.value.exit_code == 78
        assert "orchestra keys create" in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_strangers_with_a_way_in(database: Database) -> None:
    """With a valid key a public gateway starts without a warning."""
    await make_key(database, "admin", expires_at=datetime.now(UTC) + timedelta(days=1))
    assert [] == await events(database, **STRANGERS)


async def test_only_ourselves(database: Database) -> None:
    """On loopback a gateway that requires credentials starts without a key, with a warning."""
    assert ["no_way_in"] == await events(database, **OWN)
    await make_user(database, "root", "admin")
    assert [] == await events(database, **OWN)


async def test_postgres_may_come_late(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public gateway starts once Postgres and its tables are there, and meanwhile says what it waits for."""
    monkeypatch.setattr(keys, "any_way_in", Calls(away(), RuntimeError("no table"), True))
    assert ["way_in_unknown"] * 2 == await events(database, **STRANGERS)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (away(), "reached"),
        (PoolerError(Obstacle("a pooler loses settings", "set them")), "a pooler loses settings: set them"),
        (RuntimeError("canary"), "migrations"),
    ],
)
async def test_postgres_does_not_come(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """The wait for Postgres ends with an error of one line; on loopback the start does not wait at all."""
    monkeypatch.setattr(keys, "any_way_in", Calls(error))
    with pytest.raises(CannotStartError) as caught:
        await check_way_in(settings(**STRANGERS), database, Timings(look_for_way_in=0.001, way_in=0.01))

    assert caught.value.exit_code == 1
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)
    assert ["way_in_unknown"] == await events(database, **OWN)

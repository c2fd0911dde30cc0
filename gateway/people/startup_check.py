"""Refuses to listen publicly while no credential could ever be accepted."""

import asyncio

import structlog

from gateway.settings import GatewaySettings
from gateway.timings import TIMINGS, Timings
from orchestra.store import keys
from orchestra.store.database import Database, DatabaseUnavailableError

_NO_WAY_IN = (
    "HOST is not loopback, so callers need credentials, but there is no valid API key and no admin: "
    "create a key with `orchestra keys create ops --scope admin` (or set OPEN_MODE=true to require no authentication)"
)

log = structlog.get_logger()


class CannotStartError(Exception):
    """Why this gateway must not or cannot start. ``exit_code``: the exit code of its process."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


async def check_way_in(settings: GatewaySettings, database: Database, timings: Timings = TIMINGS) -> None:
    """Check that some credential could be accepted, and warn about open mode.

    Where HOST is not loopback, wait up to ``timings.way_in`` seconds for Postgres. Raises ``CannotStartError`` when
    there is no valid credential (78), or Postgres cannot be queried (1).
    """
    if not settings.asks_credentials:
        log.warning("open_mode", address=settings.host)
    elif not settings.loopback:
        if not await _any_way_in(database, timings):
            raise CannotStartError(_NO_WAY_IN, 78)
    elif not await _any_way_in_if_known(database):
        log.warning("no_way_in", address=settings.host)


async def _any_way_in(database: Database, timings: Timings) -> bool:
    loop = asyncio.get_running_loop()
    limit = loop.time() + timings.way_in
    while True:
        try:
            return await keys.any_way_in(database)
        except DatabaseUnavailableError as error:
            reason = error.told
            log.warning("way_in_unknown", reason=reason)
        except Exception as error:  # Its tables may be created any moment.
            reason = "Postgres rejects the query for API keys; are all migrations applied?"
            log.warning("way_in_unknown", exc_info=error)
        if loop.time() > limit:
            raise CannotStartError(reason, 1)
        await asyncio.sleep(timings.look_for_way_in)


async def _any_way_in_if_known(database: Database) -> bool:
    try:
        return await keys.any_way_in(database)
    except Exception as error:
        log.warning("way_in_unknown", exc_info=error)
        return True  # `/readyz` reports the state of Postgres.

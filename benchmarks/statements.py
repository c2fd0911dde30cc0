"""Counts the statements that Postgres runs, from its log: the embedded one has no pg_stat_statements.

Logging costs time, so it is on only while nothing is measured and the load continues.
"""

import re
from pathlib import Path

from orchestra.store.database import Database

_STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:\n]+): ")
_ON = ("ALTER SYSTEM SET log_parameter_max_length = 0", "ALTER SYSTEM SET log_statement = 'all'")
_OFF = ("ALTER SYSTEM RESET log_statement", "ALTER SYSTEM RESET log_parameter_max_length")
_RELOAD = "SELECT pg_reload_conf()"


class StatementLog:
    """Postgres' log, which contains statements between ``on`` and ``off``."""

    def __init__(self, database: Database, log: Path) -> None:
        self._database = database
        self._log = log
        self._begin = 0

    async def on(self) -> None:
        """Start counting."""
        self._begin = self._log.stat().st_size
        await self._run(*_ON, _RELOAD)

    async def off(self) -> int:
        """Stop counting; returns the number of statements of all sessions."""
        await self._run(*_OFF, _RELOAD)
        with self._log.open("rb") as log:
            log.seek(self._begin)
            return count(log.read())

    async def _run(self, *statements: str) -> None:
        for statement in statements:
            await self._database.run(statement)


def count(log: bytes) -> int:
    """The number of statements in a piece of the log."""
    return len(_STATEMENT.findall(log))

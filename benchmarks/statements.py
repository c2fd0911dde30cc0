"""Counts the statements that Postgres runs: the embedded one has no pg_stat_statements, so its log has to tell.

Writing the log costs time. So it is on only while nothing is measured, and the load goes on meanwhile.
"""

import re
from pathlib import Path

from orchestra.store.database import Database

_STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:\n]+): ")
_ON = ("ALTER SYSTEM SET log_parameter_max_length = 0", "ALTER SYSTEM SET log_statement = 'all'")
_OFF = ("ALTER SYSTEM RESET log_statement", "ALTER SYSTEM RESET log_parameter_max_length")
_RELOAD = "SELECT pg_reload_conf()"


class StatementLog:
    """Postgres' log, which has statements in it between ``on`` and ``off``."""

    def __init__(self, database: Database, log: Path) -> None:
        self._database = database
        self._log = log
        self._begin = 0

    async def on(self) -> None:
        """Begin to count."""
        self._begin = self._log.stat().st_size
        await self._run(*_ON, _RELOAD)

    async def off(self) -> int:
        """How many there were, those of every session."""
        await self._run(*_OFF, _RELOAD)
        with self._log.open("rb") as log:
            log.seek(self._begin)
            return count(log.read())

    async def _run(self, *statements: str) -> None:
        for statement in statements:
            await self._database.run(statement)


def count(log: bytes) -> int:
    """The statements in a piece of a log."""
    return len(_STATEMENT.findall(log))

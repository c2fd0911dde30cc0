"""What the count of statements promises: one for each that Postgres ran, nothing for its other log lines."""

from benchmarks.statements import count

_LOG = b"""2026-01-01 00:00:00.000 UTC [7] LOG:  statement: BEGIN
2026-01-01 00:00:00.001 UTC [7] LOG:  execute __asyncpg_stmt_4__: SELECT 1
\tFROM requests -- LOG: statement of nobody
2026-01-01 00:00:00.002 UTC [7] DETAIL:  Parameters: $1 = '1'
2026-01-01 00:00:00.003 UTC [7] LOG:  execute <unnamed>: SELECT 2
2026-01-01 00:00:00.004 UTC [5] LOG:  checkpoint starting: time
2026-01-01 00:00:00.005 UTC [7] LOG:  statement: COMMIT
"""


def test_statements_are_counted() -> None:
    """Plain and prepared statements count; their continuation lines and the server's own remarks do not."""
    assert count(_LOG) == 4

"""Promises about what gateways and workers repeat on a timer: it reads no table from end to end (docs/decisions/0016).

Statements that have tests of their own are not here: tests/orchestra/store/test_queue.py, test_pauses.py,
test_requests.py, test_minutes.py, test_outbox.py, test_cancels.py, test_growth.py.
"""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from orchestra.store import endings, leases, minutes, retention
from orchestra.store.database import Database
from tests.support.plans import plan_of

SPAN = {"after": datetime(2026, 1, 1, tzinfo=UTC), "before": datetime(2026, 1, 2, tzinfo=UTC)}
BEAT = {"worker_id": UUID(int=1), "lease": 15, "state": None}
# Each with the index that bounds it: by its order and a limit, or by a range that does not grow.
REPEATED: dict[str, tuple[str, dict[str, Any], str]] = {
    "deadlines": (endings._EXPIRE, {"limit": 500}, "requests_due"),
    "leases": (leases._RENEW, BEAT, "requests_running"),
    "what ended": (minutes._COUNT, SPAN, "requests_ended"),
    "the next ending": (minutes._NEXT_ENDING, {"after": SPAN["after"]}, "requests_ended"),
    "what is not kept": (retention._NOT_KEPT, {"limit": 500}, "requests_not_kept"),
    "old audit": (retention._AUDIT, {"days": 90, "limit": 500}, "audit_oldest"),
    "old minutes": (retention._SWEEP[-1], {"days": 30, "limit": 500}, "request_minutes_pkey"),
}


@pytest.mark.parametrize("what", REPEATED)
async def test_what_is_repeated_goes_through_its_index(database: Database, what: str) -> None:
    """However large the tables are, a process that only waits reads the part of an index that it needs."""
    statement, values, index = REPEATED[what]

    plan = await plan_of(database, statement, **values)

    assert re.search(rf"Scan (Backward )?(using|on) {index}", plan), plan
    assert "Seq Scan on" not in plan, plan

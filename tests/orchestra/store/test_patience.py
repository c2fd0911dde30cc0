"""Promises of orchestra/store/patience.py: what must be done is done once Postgres answers, and nothing hides a bug."""

import pytest
from structlog.testing import capture_logs

from orchestra.store.database import DataRefusedError
from orchestra.store.patience import until_available
from tests.support.fakes import Calls, away


async def test_work_is_repeated_while_postgres_is_away() -> None:
    """Each failure is logged and reported; then the result is returned."""
    work, failures = Calls(away(), away(), "done"), Calls(None)

    with capture_logs() as logs:
        assert "done" == await until_available(
            lambda: work(None), "not_done", lambda: failures.calls.append(()), pause=0, n=1
        )

    assert ([("not_done", 1)] * 2, 2) == ([(each["event"], each["n"]) for each in logs], len(failures.calls))


@pytest.mark.parametrize("error", [DataRefusedError("22P05"), RuntimeError()])
async def test_other_errors_are_raised(error: Exception) -> None:
    """Other errors are raised, because they would come again each time."""
    with pytest.raises(type(error)):
        await until_available(lambda: Calls(error)(None), "not_done", pause=0)

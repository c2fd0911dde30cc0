"""Work on Postgres that must be done sooner or later: retried while Postgres is unavailable."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from orchestra.store.database import DatabaseUnavailableError

T = TypeVar("T")

log = structlog.get_logger()


async def until_available(
    work: Callable[[], Awaitable[T]],
    event: str,
    on_failure: Callable[[], None] = lambda: None,
    *,
    pause: float,
    **known: Any,
) -> T:
    """The result of ``work``, retried until Postgres is available.

    ``work`` must be safe to repeat: a failed call may have been committed.
    Between two tries are ``pause`` seconds, plus or minus half of that.
    Each failure is logged as ``event`` with the fields ``known``, and then ``on_failure`` is called.
    """
    while True:
        try:
            return await work()
        except DatabaseUnavailableError as error:
            log.warning(event, reason=str(error), **known)
            on_failure()
            # Jitter: when Postgres is back, processes do not all call at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

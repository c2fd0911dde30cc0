"""Work on Postgres that is done sooner or later: tried again for as long as Postgres is away."""

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
    """What ``work`` gives, once Postgres answers. It must be safe to repeat: it may have been done unheard.

    Between two tries are ``pause`` seconds, half of that more or less.
    Each failure is logged as ``event``, with what is ``known``, and told to ``on_failure``.
    """
    while True:
        try:
            return await work()
        except DatabaseUnavailableError as error:
            log.warning(event, reason=str(error), **known)
            on_failure()
            # Not all at once, when it is back.
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

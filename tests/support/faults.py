"""Faults that go on while a test runs."""

import asyncio
import itertools
from collections.abc import Sequence

from tests.support.services import Service


async def kill_in_turn(services: Sequence[Service], every_seconds: float, times: int | None = None) -> None:
    """Kill one after the other as `kill -9` does and restart it, at this pace, ``times`` times or until cancelled."""
    for service in itertools.islice(itertools.cycle(services), times):
        await asyncio.sleep(every_seconds)
        await service.kill()
        await service.start()

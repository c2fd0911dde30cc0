"""What viewers of the console add to a gateway: the live stream, and what a page asks for every few seconds."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from benchmarks.bench import Bench
from benchmarks.meters import attribute, processes

Poll = tuple[str, Mapping[str, Any], float]
"""A path, its query, and the seconds between two calls."""

_TOPICS, _QUEUE, _WORKERS = "/v1/topics", "/v1/queue", "/v1/workers"
PAGES: Mapping[str, Sequence[Poll]] = {
    "the live stream": (),
    "the overview": (
        (_QUEUE, {}, 4),
        (_TOPICS, {}, 15),
        ("/v1/stats", {"step": 60}, 20),
        ("/v1/stats", {"step": 3600, "by": "model"}, 60),
    ),
    "the queue": ((_QUEUE, {}, 4), (_TOPICS, {}, 10), (_WORKERS, {}, 10)),
}
"""What a viewer of each page asks for, beside the live stream."""


async def added_percent(bench: Bench, session: aiohttp.ClientSession, viewers: int, seconds: float) -> dict[str, float]:
    """What this many viewers of each page add to the gateway, in percent of a core."""
    alone = await _percent(bench, seconds)
    added = {}
    for page, polls in PAGES.items():
        async with _watched(session, viewers, polls):
            added[page] = await _percent(bench, seconds) - alone
    return added


async def _percent(bench: Bench, seconds: float) -> float:
    group = {"gateway": bench.groups()["gateway"]}
    before, began = attribute(processes(), group), time.monotonic()
    await asyncio.sleep(seconds)
    return 100 * (attribute(processes(), group)["gateway"] - before["gateway"]) / (time.monotonic() - began)


@asynccontextmanager
async def _watched(session: aiohttp.ClientSession, viewers: int, polls: Sequence[Poll]) -> AsyncIterator[None]:
    """Watch from this many streams; each has had a frame before the body begins."""
    framed = [asyncio.Event() for _ in range(viewers)]
    tasks = [asyncio.create_task(_follow(session, each)) for each in framed]
    tasks += [asyncio.create_task(_poll(session, poll)) for poll in polls for _ in range(viewers)]
    try:
        await asyncio.wait_for(asyncio.gather(*(each.wait() for each in framed)), 30)
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _follow(session: aiohttp.ClientSession, framed: asyncio.Event) -> None:
    async with session.get("/v1/live", timeout=aiohttp.ClientTimeout()) as response:
        response.raise_for_status()
        async for line in response.content:
            if line.startswith(b"event: frame"):
                framed.set()


async def _poll(session: aiohttp.ClientSession, poll: Poll) -> None:
    path, query, seconds = poll
    await asyncio.sleep(seconds * random.random())
    while True:
        async with session.get(path, params=query) as response:
            await response.read()
            response.raise_for_status()
        await asyncio.sleep(seconds)

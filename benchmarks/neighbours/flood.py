"""A flood of one caller, in a separate process: ``python -m benchmarks.neighbours.flood``.

It reads the fields of ``Flood`` from stdin, and prints a line when it begins. Then it posts as fast as it is answered,
and prints the result in a second line: ``seconds`` that it took, ``cpu_seconds`` of this process meanwhile, and
``statuses``: how many calls had each.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import uvloop

from benchmarks.load import tell
from benchmarks.question import SLOW, question

_TAG = f"{SLOW}-flood"


@dataclass(frozen=True)
class Flood:
    """What is posted to where. ``urls``: called in turn. ``pause``: seconds that a connection waits after an answer."""

    urls: list[str]
    key: str
    model: str
    requests: int
    connections: int
    pause: float = 0.0
    nice: int = 0

    @classmethod
    def loaded(cls, text: bytes) -> "Flood":
        """The flood from the output of ``dumped``."""
        return cls(**orjson.loads(text))

    def body(self, number: int) -> bytes:
        """The body of one call."""
        return orjson.dumps({"model": self.model, "messages": [{"role": "user", "content": question(_TAG, number)}]})

    async def post(self) -> dict[str, Any]:
        """Post everything; returns the result."""
        statuses, numbers = Counter[str](), iter(range(self.requests))
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)) as session:
            began, used = time.perf_counter(), time.process_time()
            tell({"phase": "posting"})
            await asyncio.gather(*(self._connection(session, numbers, statuses) for _ in range(self.connections)))
        return {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - used,
            "statuses": dict(statuses),
        }

    async def _connection(self, session: aiohttp.ClientSession, numbers: Iterator[int], statuses: Counter[str]) -> None:
        headers = {
            "Authorization": f"Bearer {self.key}", "Content-Type": "application/json", "Prefer": "respond-async",
        }  # fmt: skip
        for number in numbers:
            url = self.urls[number % len(self.urls)]
            async with session.post(url, data=self.body(number), headers=headers) as response:
                await response.read()
                statuses[str(response.status)] += 1
            await asyncio.sleep(self.pause)


def main() -> None:
    """Post the flood on stdin."""
    flood = Flood.loaded(sys.stdin.buffer.read())
    os.nice(flood.nice)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tell(runner.run(flood.post()))


if __name__ == "__main__":
    main()

"""Small stand-ins for what a worker's parts talk to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from orchestra.store.claims import Claimed, ClaimOrder
from orchestra.store.database import DatabaseUnavailableError
from orchestra.store.turns import RequestRef
from workers.timings import Timings

QUICK = Timings(
    renew=0.001, retry_database=0.001, look_for_turns=0.001, max_look_for_turns=0.001, look_at_held=0.001,
    refresh_models=0.001, retry_models=0.001, mark=0.001, sweep=0.001, retention=0.001, look_for_unused=0.001,
)  # fmt: skip
"""Waits of a worker's parts that are as good as none."""


@dataclass
class FakeSlots:
    """Slots that give out ``order`` and keep every call."""

    order: ClaimOrder | None = None
    started: list[Claimed] = field(default_factory=list)
    stopped: list[RequestRef] = field(default_factory=list)
    doubts: int = 0
    wakes: int = 0
    due: list[float] = field(default_factory=list)

    @contextmanager
    def intake_order(self) -> Iterator[ClaimOrder | None]:
        """The order that the test sets."""
        yield self.order

    @contextmanager
    def ending_order(self, count: int) -> Iterator[ClaimOrder | None]:
        """The order that the test sets."""
        assert count > 0
        yield self.order

    def start(self, claimed: Sequence[Claimed]) -> None:
        """Start turns."""
        self.started += claimed

    def start_next(self, _order: ClaimOrder, claimed: Sequence[Claimed]) -> None:
        """Start turns that were claimed with endings."""
        self.start(claimed)

    def stop(self, refs: Sequence[RequestRef], _why: object) -> None:
        """Stop turns."""
        self.stopped += refs

    def doubt(self) -> None:
        """Note that a transaction ended without an answer."""
        self.doubts += 1

    def wake(self) -> None:
        """Note that there may be turns to claim."""
        self.wakes += 1

    def wake_in(self, seconds: float) -> None:
        """Note when a turn is due."""
        self.due.append(seconds)


@dataclass
class Sent:
    """One record that a producer was given."""

    topic: str
    value: bytes | None
    key: bytes | None
    headers: dict[str, bytes | None]
    acknowledged: "asyncio.Future[None]"


@dataclass
class FakeProducer:
    """Keeps what it is given. Acknowledges at once unless ``slow``; fails the next sends with ``errors``."""

    slow: bool = False
    errors: list[Exception] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> "asyncio.Future[None]":
        """Take a record."""
        if self.errors:
            raise self.errors.pop(0)
        assert key is not None or value is not None, "aiokafka refuses to send what has neither"
        future = asyncio.get_running_loop().create_future()
        self.sent.append(Sent(topic, value, key, dict(headers), future))
        if not self.slow:
            future.set_result(None)
        return future

    async def flush(self) -> None:
        """Acknowledge what is open."""
        for each in self.sent:
            if not each.acknowledged.done():
                each.acknowledged.set_result(None)

    def values(self, topic: str) -> list[bytes | None]:
        """What was sent to a topic, in order."""
        return [each.value for each in self.sent if each.topic == topic]


class Rounds:
    """The rounds of a publisher, which a test begins by ``hand_over``."""

    def __init__(self) -> None:
        self._gathered: list[Callable[[], None]] = []

    def gather(self, _attempt: object, flush: Callable[[], None]) -> None:
        """Keep it for the next round."""
        self._gathered.append(flush)

    def hand_over(self, _attempt: object = None) -> None:
        """Begin the round."""
        gathered, self._gathered = self._gathered, []
        for flush in gathered:
            flush()


class Calls:
    """A function of the store: records its calls and returns ``results`` in turn, then the last one each time."""

    def __init__(self, *results: Any) -> None:
        self._results = list(results)
        self.calls: list[tuple[Any, ...]] = []

    async def __call__(self, _database: object, *arguments: Any, **_named: Any) -> Any:
        """Answer a call."""
        self.calls.append(arguments)
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, Exception):
            raise result
        return result(*arguments) if callable(result) else result


def away() -> DatabaseUnavailableError:
    """Postgres cannot be reached."""
    return DatabaseUnavailableError("ConnectionRefusedError")


@asynccontextmanager
async def running(*parts: Coroutine[Any, Any, Any]) -> AsyncIterator[list["asyncio.Task[Any]"]]:
    """Parts that run beside the test, and are cancelled after it."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def steps(count: int = 20) -> None:
    """Let whatever is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


def no_pause(monkeypatch: Any, module: Any, *names: str) -> None:
    """Make these waits of a module as good as nothing."""
    for name in names:
        monkeypatch.setattr(module, name, 0.001)

"""What was done to the system, and how long it took to be well again."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Injected:
    """One kind of fault. ``asked``: how often it was to be injected; ``times``: when it was, in seconds since 1970.

    ``recoveries``: seconds from a fault until what it broke worked again. ``wrong``: what the injector itself saw that
    must not be. ``counts``: by kind, where one fault has several.
    """

    what: str
    asked: int
    times: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """How often it was injected."""
        return len(self.times)

    @property
    def worst(self) -> float | None:
        """The longest recovery, in seconds."""
        return max(self.recoveries, default=None)

    def note(self) -> float:
        """Count one injection; its time."""
        self.times.append(time.time())
        return self.times[-1]


class Limit:
    """A moment after which nothing more is begun."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """True once the time is up."""
        return self.left <= 0

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._end - time.monotonic()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the limit."""
        await asyncio.sleep(max(0.0, min(seconds, self.left)))

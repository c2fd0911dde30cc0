"""The faults that were injected, and how long the system took to recover."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Injected:
    """One kind of fault. ``asked``: how often to inject it. ``times``: when it was, in seconds since 1970.

    ``recoveries``: seconds from a fault until what it broke worked again. ``wrong``: violations that the injector
    itself saw. ``counts``: by kind, if one fault has several.
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
        """The longest recovery in seconds."""
        return max(self.recoveries, default=None)

    def note(self) -> float:
        """Count one injection; returns its time."""
        self.times.append(time.time())
        return self.times[-1]


class Limit:
    """A time limit; nothing new is started after it."""

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
        """Sleep, but not past the limit."""
        await asyncio.sleep(max(0.0, min(seconds, self.left)))

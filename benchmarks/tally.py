"""The outcome of every request of a load, and the figures of the time that counts."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Window:
    """The time in which something counts, in seconds of one clock."""

    begin: float
    end: float

    def holds(self, moment: float) -> bool:
        """True for a moment inside it."""
        return self.begin <= moment < self.end


@dataclass
class Tally:
    """All requests. Times are in seconds of one clock; a request starts when it was due, however late it was sent."""

    open: dict[int, float] = field(default_factory=dict)
    answered: list[tuple[float, float, float]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: int = 0

    def begin(self, number: int, due: float) -> None:
        """Record that a request was sent."""
        self.open[number] = due

    def answer(self, number: int, first: float, whole: float) -> None:
        """Record its own answer: when the first part arrived, and when all of it had."""
        self.answered.append((self.open.pop(number), first, whole))

    def fail(self, number: int, error: str) -> None:
        """Record an error instead of an answer."""
        del self.open[number]
        self.errors[error] += 1

    def mistake(self, number: int) -> None:
        """Record an answer that is not its own."""
        del self.open[number]
        self.wrong += 1

    def count(self, window: Window) -> int:
        """The number of requests answered in this time."""
        return sum(window.holds(whole) for _, _, whole in self.answered)

    def latencies_ms(self, windows: Sequence[Window], now: float) -> list[float]:
        """In order, ms to the first text of the requests that started in one of these windows.

        A request that is still open counts with its age, the minimum of its latency.
        """
        begun = [(due, first - due) for due, first, _ in self.answered]
        begun += [(due, now - due) for due in self.open.values()]
        return sorted(1000 * latency for due, latency in begun if any(window.holds(due) for window in windows))

    def figures(self, window: Window, now: float) -> dict[str, Any]:
        """Throughput counts answers in the window; latency is that of ``latencies_ms``."""
        latencies = self.latencies_ms([window], now)
        answered = self.count(window)
        return {
            "answered": answered,
            "rps": answered / (window.end - window.begin),
            "latency_p50_ms": percentile(latencies, 0.5),
            "latency_p99_ms": percentile(latencies, 0.99),
            "wrong": self.wrong,
            "unanswered": len(self.open),
            "errors": dict(self.errors),
        }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed; 0 if there are none."""
    if not ordered:
        return 0.0
    return ordered[math.ceil(share * len(ordered)) - 1]

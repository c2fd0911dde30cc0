"""What became of every request of one load, and the figures of the time that counts."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Window:
    """From when to when something counts, in seconds of one clock."""

    begin: float
    end: float

    def holds(self, moment: float) -> bool:
        """True for a moment in it."""
        return self.begin <= moment < self.end


@dataclass
class Tally:
    """All requests. Times are in seconds of one clock; a request begins when it was due, however late it was sent."""

    open: dict[int, float] = field(default_factory=dict)
    answered: list[tuple[float, float, float]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: int = 0

    def begin(self, number: int, due: float) -> None:
        """A request is sent."""
        self.open[number] = due

    def answer(self, number: int, first: float, whole: float) -> None:
        """Its own answer has come: the first of it, and all of it."""
        self.answered.append((self.open.pop(number), first, whole))

    def fail(self, number: int, error: str) -> None:
        """It was told that there is no answer."""
        del self.open[number]
        self.errors[error] += 1

    def mistake(self, number: int) -> None:
        """It was given an answer that is not its own."""
        del self.open[number]
        self.wrong += 1

    def count(self, window: Window) -> int:
        """How many were answered in this time."""
        return sum(window.holds(whole) for _, _, whole in self.answered)

    def figures(self, window: Window, now: float) -> dict[str, Any]:
        """Throughput is of what was answered in the window; latency, in ms to the first text, of what began in it.

        What is still open counts with its age, which is the least that its latency can be.
        """
        begun = [(due, first - due) for due, first, _ in self.answered]
        begun += [(due, now - due) for due in self.open.values()]
        latencies = sorted(1000 * latency for due, latency in begun if window.holds(due))
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
    """The least value that at least this share of them does not exceed; 0 when there are none."""
    if not ordered:
        return 0.0
    return ordered[math.ceil(share * len(ordered)) - 1]

"""How many calls of each model this worker may have open, learnt from the refusals.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), but the decrease goes straight to what was let in.
"""

from collections import Counter
from collections.abc import Iterator

from orchestra.store.claims import ModelLimit


class Throttle:
    """Counts the calls in flight by model. A model that never refused has no limit but ``most``, the worker's own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_flight: Counter[str] = Counter()
        self._limits: dict[str, float] = {}

    def begun(self, model: str) -> None:
        """A turn of this model is in flight."""
        self._in_flight[model] += 1

    def ended(self, model: str) -> None:
        """It no longer is."""
        self._in_flight[model] -= 1
        if not self._in_flight[model]:
            del self._in_flight[model]

    def refused(self, model: str) -> None:
        """The model would not take one more than the others that are in flight: those are the limit, at least 1."""
        self._limits[model] = max(1.0, self._in_flight[model] - 1.0)

    def accepted(self, model: str) -> None:
        """The model answered: room for one more after each round."""
        if model in self._limits:
            self._limits[model] += 1 / self._limits[model]
            if self._limits[model] >= self._most:
                del self._limits[model]

    def limits(self) -> Iterator[ModelLimit]:
        """The models that have a limit, and how many more calls of each may be opened now."""
        for model, limit in self._limits.items():
            yield ModelLimit(model, max(0, int(limit) - self._in_flight[model]))

"""How many calls of each model this worker may have open, and from when on, learnt from the refusals.

A model that refuses one call while it answers others is full: the others are its limit. Additive increase,
multiplicative decrease (Chiu and Jain, 1989), but the decrease goes straight to what was let in. A model that refuses
them all is held back: no call for a while, then a single one, and twice the wait each time that one is refused too.
"""

import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from orchestra.store.claims import ModelLimit
from orchestra.store.endings import HeldModel
from schemas.errors import ErrorCode, OrchestraError
from workers.retry import ACCOUNT, MOST_RETRY_AFTER, PACES, Uniform

# Callers may choose names of models freely: the one that was refused longest ago is forgotten.
MOST_MODELS = 64
# Who names so short a wait while others run has no place just now; one of those that ends is the better sign.
_FULL_SECONDS = 2.0
# Not a matter of how many calls are open: what still runs was let in before.
_ALL_OF_IT = ACCOUNT | {ErrorCode.UNAVAILABLE}


class Refusal(NamedTuple):
    """What a refusal led to. ``seconds``: how long the model is held back. ``first``: it was not held back before."""

    seconds: float
    first: bool


@dataclass
class _Refusing:
    """A model that has refused. ``refusals``: how often in a row it was held back, each time until ``until``."""

    error: OrchestraError
    limit: float = 1.0
    refusals: int = 0
    until: float = 0.0


class Throttle:
    """Counts the calls in flight by model. A model that never refused has no limit but ``most``, the worker's own.

    ``clock`` gives seconds; the times that calls began are by the same clock.
    """

    def __init__(
        self, most: int, clock: Callable[[], float] = time.monotonic, uniform: Uniform = random.uniform
    ) -> None:
        self._most = most
        self._clock = clock
        self._uniform = uniform
        self._in_flight: Counter[str] = Counter()
        self._refusing: OrderedDict[str, _Refusing] = OrderedDict()

    def begun(self, model: str) -> None:
        """A turn of this model is in flight."""
        self._in_flight[model] += 1

    def ended(self, model: str) -> None:
        """It no longer is."""
        self._in_flight[model] -= 1
        if not self._in_flight[model]:
            del self._in_flight[model]

    def refused(self, model: str, error: OrchestraError, began: float) -> Refusal:
        """The model refused a call that began then, with a code of ``PACES``."""
        now, others = self._clock(), self._in_flight[model] - 1
        state = self._refusing.setdefault(model, _Refusing(error))
        self._refusing.move_to_end(model)
        if len(self._refusing) > MOST_MODELS:
            self._refusing.popitem(last=False)
        state.error, first = error, not state.refusals
        state.limit = 1.0 if error.code in ACCOUNT else max(1.0, float(others))
        advised = min(error.retry_after or 0.0, MOST_RETRY_AFTER)
        if error.code in _ALL_OF_IT or others < 1 or advised > _FULL_SECONDS:
            if began >= state.until:  # Not one of those that were under way when the others were refused.
                state.refusals += 1
                state.limit = 1.0
                state.until = now + PACES[error.code].wait(state.refusals, self._uniform)
            state.until = max(state.until, now + advised)
        return Refusal(max(0.0, state.until - now), first and state.refusals > 0)

    def accepted(self, model: str, began: float) -> bool:
        """The model answered a call that began then: room for one more after each round. True: that ends a hold."""
        state = self._refusing.get(model)
        if state is None or began < state.until:
            return False
        held, state.refusals = state.refusals > 0, 0
        state.limit += 1 / state.limit
        # Of a model that was not there at all no limit has been learnt.
        if state.limit >= self._most or state.error.code is ErrorCode.UNAVAILABLE:
            del self._refusing[model]
        return held

    def limits(self) -> Iterator[ModelLimit]:
        """The models that have a limit, and how many more calls of each may be opened now."""
        now = self._clock()
        for model, state in self._refusing.items():
            room = 0 if state.until > now else max(0, int(state.limit) - self._in_flight[model])
            yield ModelLimit(model, room)

    def held(self) -> list[HeldModel]:
        """The models that are held back now."""
        now = self._clock()
        return [
            HeldModel(model, state.error.code, state.error.detail, state.until - now)
            for model, state in self._refusing.items()
            if state.until > now
        ]

"""Learns from refusals how many calls of each model this worker may have open, and when it may call a model again.

A model that refuses one call while it serves others is full: the number of the others is its limit. The limit follows
additive increase, multiplicative decrease (Chiu and Jain, 1989), but decreases directly to the number of accepted
calls. A model that refuses every call is held back: no call for a while, then a single one. The wait doubles each time
that call is refused too.
"""

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from orchestra.store.claims import ModelLimit
from orchestra.store.endings import HeldModel
from schemas.errors import ErrorCode, OrchestraError
from workers.retry import ACCOUNT, MAX_RETRY_AFTER, PACES, Uniform

# Callers choose the names of models freely. Beyond this many, the model that was refused longest ago is forgotten.
MAX_MODELS = 64
# A model that asks for a wait up to this while other calls run is full. The end of one of those is the better signal.
_FULL_SECONDS = 2.0
# Errors that hold the model back even while other calls of it run: those calls were accepted before the fault began.
_WITHOUT_EXCEPTION = ACCOUNT | {ErrorCode.UNAVAILABLE}


class Refusal(NamedTuple):
    """The effect of a refusal: the model is held back for ``seconds``; ``first`` if it was not held back before."""

    seconds: float
    first: bool


@dataclass
class _Refusing:
    """A model that has refused calls. ``refusals``: holds in a row; ``until``: the end of the latest one."""

    error: OrchestraError
    limit: float = 1.0
    refusals: int = 0
    until: float = 0.0


class Throttle:
    """Counts the calls in flight by model. A model that never refused has no limit but ``max_calls``, the worker's own.

    ``clock`` returns seconds; the start times of calls are by the same clock. ``wake`` is called when a model that has
    refused calls may get more of them. ``refusing`` is set while there is such a model.
    """

    def __init__(
        self,
        max_calls: int,
        clock: Callable[[], float] = time.monotonic,
        uniform: Uniform = random.uniform,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._max_calls = max_calls
        self._clock = clock
        self._uniform = uniform
        self._in_flight: Counter[str] = Counter()
        self._wake = wake
        self._refusing: OrderedDict[str, _Refusing] = OrderedDict()
        self.refusing = asyncio.Event()

    @property
    def in_flight(self) -> Mapping[str, int]:
        """The number of turns in flight by model."""
        return self._in_flight

    def begun(self, model: str) -> None:
        """Count a turn of this model that is in flight from now on."""
        self._in_flight[model] += 1

    def ended(self, model: str) -> None:
        """Count a turn of this model that has ended."""
        self._in_flight[model] -= 1
        if not self._in_flight[model]:
            del self._in_flight[model]

    def refused(self, model: str, error: OrchestraError, began: float) -> Refusal:
        """Note that the model refused the call that began at ``began``, with a code of ``PACES``."""
        now, others = self._clock(), self._in_flight[model] - 1
        state = self._refusing.setdefault(model, _Refusing(error))
        self._refusing.move_to_end(model)
        self.refusing.set()
        if len(self._refusing) > MAX_MODELS:
            self._refusing.popitem(last=False)
        state.error, first = error, not state.refusals
        state.limit = 1.0 if error.code in ACCOUNT else max(1.0, float(others))
        advised = min(error.retry_after or 0.0, MAX_RETRY_AFTER)
        if error.code in _WITHOUT_EXCEPTION or others < 1 or advised > _FULL_SECONDS:
            if began >= state.until:  # Calls that were already in flight at the last refusal do not count again.
                state.refusals += 1
                state.limit = 1.0
                state.until = now + PACES[error.code].wait(state.refusals, self._uniform)
            state.until = max(state.until, now + advised)
        return Refusal(max(0.0, state.until - now), first and state.refusals > 0)

    def accepted(self, model: str, began: float) -> bool:
        """Note that the model answered the call that began at ``began``. True if that ends a hold.

        The limit grows by one after as many answers as the limit.
        """
        state = self._refusing.get(model)
        if state is None or began < state.until:
            return False
        held, state.refusals = state.refusals > 0, 0
        state.limit += 1 / state.limit
        # An unavailable model says nothing about its limit.
        if state.limit >= self._max_calls or state.error.code is ErrorCode.UNAVAILABLE:
            del self._refusing[model]
            if not self._refusing:
                self.refusing.clear()
        self._wake()
        return held

    def limits(self) -> Iterator[ModelLimit]:
        """The models that have a limit, with the number of further calls that each may get now."""
        now = self._clock()
        for model, state in self._refusing.items():
            room = 0 if state.until > now else max(0, int(state.limit) - self._in_flight[model])
            yield ModelLimit(model, room)

    def held(self) -> list[HeldModel]:
        """The models that are held back now, each with its error and the seconds left."""
        now = self._clock()
        return [
            HeldModel(model, state.error.code, state.error.detail, state.until - now)
            for model, state in self._refusing.items()
            if state.until > now
        ]

"""An hour of a worker's queue, played in no time: real rules of retrying, a clock and a model of the test's own."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from orchestra.store.claims import CALLER_SECONDS
from schemas.errors import OrchestraError
from tests.support.records import claimed
from workers.outcome import Expired, Failed, RetryLater
from workers.retry import PACES, after_error
from workers.throttle import Throttle

LOOK_SECONDS = 0.25
CALL_SECONDS = 0.05

Model = Callable[[float], OrchestraError | None]
"""What the model says at a time: an error, or None for an answer."""


@dataclass
class Asked:
    """One request of the hour: when it came, and what became of it."""

    came: float = 0.0
    caller_waits: bool = False
    max_tries: int = 5
    deadline: float = 1e9
    tries: int = 0
    fence: int = 0
    run_at: float = 0.0
    last_error: str | None = None
    calls: list[float] = field(default_factory=list)
    ending: Literal["completed", "failed", "expired"] | None = None
    ended: float = 0.0


class Hour:
    """Workers that share a queue; each forgets all that it has learnt every ``forgets`` seconds, as by a restart."""

    def __init__(self, model: Model, requests: list[Asked], workers: int = 1, forgets: float = 1e9) -> None:
        self.requests = requests
        self._open = requests
        self._model = model
        self._forgets = forgets
        self._now = 0.0
        self._dice = random.Random(1)
        self._workers = [self._new() for _ in range(workers)]
        for asked in requests:
            asked.run_at = asked.came

    @property
    def calls(self) -> list[float]:
        """When the model was called."""
        return sorted(at for asked in self.requests for at in asked.calls)

    def play(self, seconds: float = 3600.0) -> "Hour":
        """Let the time pass."""
        reborn = self._forgets
        while self._now < seconds:
            self._now += LOOK_SECONDS
            self._open = [asked for asked in self._open if asked.ending is None]
            if self._now >= reborn:
                self._workers = [self._new() for _ in self._workers]
                reborn += self._forgets
            for throttle in self._workers:
                self._tell(throttle)
                self._run(throttle, self._claim(throttle))
        return self

    def _new(self) -> Throttle:
        return Throttle(1000, lambda: self._now, self._dice.uniform)

    def _claim(self, throttle: Throttle) -> list[Asked]:
        """What `orchestra.store.claims` does."""
        room = next((limit.room for limit in throttle.limits()), 1000)
        if not room:
            return []
        due = [each for each in self._open if each.run_at <= self._now and each.ending is None]
        return sorted(due, key=lambda each: each.run_at)[:room]

    def _tell(self, throttle: Throttle) -> None:
        """What `workers.held` does for callers who wait."""
        for held in throttle.held():
            for asked in self._open:
                if asked.ending is not None or not asked.caller_waits or max(asked.came, asked.run_at) > self._now:
                    continue
                left = asked.came + CALLER_SECONDS - self._now
                if left >= 0 and min(left, PACES[held.code].patience) < held.seconds:
                    asked.ending, asked.ended = "failed", self._now

    def _run(self, throttle: Throttle, claims: list[Asked]) -> None:
        began = self._now
        for asked in claims:
            throttle.begun("m")
            asked.tries, asked.fence = asked.tries + 1, asked.fence + 1
            asked.calls.append(began)
        for asked in claims:
            self._end(throttle, asked, began)
            throttle.ended("m")

    def _end(self, throttle: Throttle, asked: Asked, began: float) -> None:
        error = self._model(began)
        if error is None:
            throttle.accepted("m", began)
            asked.ending, asked.ended = "completed", self._now
            return
        held = throttle.refused("m", error, began).seconds if error.code in PACES else 0.0
        caller_seconds = max(0.0, asked.came + CALLER_SECONDS - self._now) if asked.caller_waits else 0.0
        turn = replace(
            claimed(tries=asked.tries, fence=asked.fence, max_tries=asked.max_tries, last_error=asked.last_error),
            caller_seconds=caller_seconds,
            seconds_left=asked.deadline - self._now,
        )
        match after_error(turn, error, self._dice.uniform, held):
            case RetryLater(delay, give_try_back, code):
                asked.tries -= int(give_try_back)
                asked.run_at, asked.last_error = self._now + CALL_SECONDS + delay, code
            case Failed():
                asked.ending, asked.ended = "failed", self._now
            case Expired():
                asked.ending, asked.ended = "expired", self._now

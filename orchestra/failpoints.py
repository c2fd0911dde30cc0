"""Named points in the code at which a process can be ordered to die or to stop, for the fault campaign."""

import os
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

# Every failpoint in the code, in the order of a request's way; a test compares the two.
FAILPOINTS = (
    "intake.after_read",
    "intake.before_transaction",
    "intake.after_commit",
    "intake.after_offsets",
    "claim.after_commit",
    "run.before_call",
    "run.mid_stream",
    "run.after_end_mark",
    "finish.before_transaction",
    "finish.after_commit",
    "publish.before_mark",
    "publish.after_mark",
    "sweep.after_give_back",
    "drain.after_leaving",
)
_SIGNALS: Mapping[str, signal.Signals] = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}


@dataclass(frozen=True)
class Order:
    """What a process does at every ``every``-th time it reaches a point: die, or stop until SIGCONT."""

    verb: Literal["kill", "freeze"]
    every: int


def reach(point: str) -> None:
    """Do here what the environment orders: with ``FAILPOINTS=name=kill@3,…`` the process dies at the third time."""
    armed, passed = _armed()
    if point in armed:
        passed[point] += 1
        if passed[point] % armed[point].every == 0:
            os.kill(os.getpid(), _SIGNALS[armed[point].verb])


def parse(text: str) -> dict[str, Order]:
    """The orders by point. Raises ``ValueError``."""
    armed = {}
    for order in filter(None, (part.strip() for part in text.split(","))):
        point, _, action = order.partition("=")
        verb, _, every = action.partition("@")
        if point not in FAILPOINTS or verb not in _SIGNALS or not every.isdecimal() or int(every) < 1:
            raise ValueError(f"FAILPOINTS: {order!r} is not NAME=kill@TIMES with a name of orchestra/failpoints.py")
        armed[point] = Order("kill" if verb == "kill" else "freeze", int(every))
    return armed


def environment(armed: Mapping[str, Order]) -> dict[str, str]:
    """The environment variables that carry these orders to a process."""
    return {"FAILPOINTS": ",".join(f"{point}={order.verb}@{order.every}" for point, order in armed.items())}


@cache
def _armed() -> tuple[dict[str, Order], Counter[str]]:
    return parse(os.environ.get("FAILPOINTS", "")), Counter()

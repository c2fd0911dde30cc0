"""Named places on a request's way where a process can be told to die, as `kill -9` would have it, for the campaign."""

import os
import signal
from collections.abc import Mapping
from functools import cache

# Every place that the code reaches, in the order of a request's way; a test compares the two.
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


def reach(point: str) -> None:
    """Die here if the environment asks for it: ``FAILPOINTS=name=kill@3,…`` dies when it is there the third time."""
    armed = _armed()
    if point in armed:
        armed[point] -= 1
        if not armed[point]:
            os.kill(os.getpid(), signal.SIGKILL)


def parse(text: str) -> dict[str, int]:
    """How often each point is passed before the process dies there, that time included. Raises ``ValueError``."""
    armed = {}
    for order in filter(None, (part.strip() for part in text.split(","))):
        point, _, action = order.partition("=")
        verb, _, times = action.partition("@")
        if point not in FAILPOINTS or verb != "kill" or not times.isdecimal() or int(times) < 1:
            raise ValueError(f"FAILPOINTS: {order!r} is not NAME=kill@TIMES with a name of orchestra/failpoints.py")
        armed[point] = int(times)
    return armed


def environment(armed: Mapping[str, int]) -> dict[str, str]:
    """What a process is told so that it dies at these points."""
    return {"FAILPOINTS": ",".join(f"{point}=kill@{times}" for point, times in armed.items())}


@cache
def _armed() -> dict[str, int]:
    return parse(os.environ.get("FAILPOINTS", ""))

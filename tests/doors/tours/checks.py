"""What the tours in Python share: named checks, each of which prints one line of JSON."""

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The door at two gateways, and the first one's own API.
DOOR, DOOR_2, GATEWAY = os.environ["DOOR_URL"], os.environ["DOOR_URL_2"], os.environ["GATEWAY_URL"]
# Keys of two owners.
KEY, OTHER_KEY = os.environ["DOOR_KEY"], os.environ["DOOR_OTHER_KEY"]
MODEL = "simulated"
# Ten words in a second, and words for a minute.
SLOW, ENDLESS = "simulated:tokens=10,gap_ms=100", "simulated:tokens=600,gap_ms=100"
# Silent for longer than a call may wait here (DOOR_WAIT_SECONDS).
LATE = "simulated:latency_ms=22000"
# The first attempt fails after two words, the second one succeeds.
BROKEN_ONCE = "simulated:tokens=6,gap_ms=100,fail=bad_upstream,fail_after=2,fail_times=1"
# The first attempt fails before the first word.
LATE_ONCE = "simulated:tokens=6,fail=bad_upstream,fail_times=1"
# Words, runs without white space, line breaks and characters outside the BMP.
ODD = "Tabs\tand\n\nlines \u2028 \N{FOX FACE}\N{ZERO WIDTH JOINER}e\u0301 " + "x" * 200 + "  end "

_CHECKS: list[tuple[str, Callable[[], Any]]] = []
_SECONDS = 60.0
_HERE = str(Path(__file__).parent)
_HELPERS = {"checks", "openai_shared"}


def check(call: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a function, which may be a coroutine function, as the check of this call."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        _CHECKS.append((call, function))
        return function

    return register


class DifferenceError(Exception):
    """The answer is not the one that was expected."""


def same(expected: Any, got: Any, what: str = "") -> None:
    """Raises ``DifferenceError`` unless both are equal."""
    if expected != got:
        raise DifferenceError(f"{what + ': ' if what else ''}expected {expected!r}, got {got!r}")


def holds(condition: Any, what: str) -> None:
    """Raises ``DifferenceError`` with this text unless the condition is true."""
    if not condition:
        raise DifferenceError(what)


def run() -> None:
    """Run the checks in their order: all, or those whose name contains an argument."""
    asyncio.run(_run(sys.argv[1:]))


async def _run(chosen: list[str]) -> None:
    for call, function in _CHECKS:
        if chosen and not any(each in call for each in chosen):
            continue
        difference = None
        try:
            if inspect.iscoroutinefunction(function):
                await asyncio.wait_for(function(), _SECONDS)
            else:
                await asyncio.wait_for(asyncio.to_thread(function), _SECONDS)
        except Exception as error:
            difference = _told(error)
        print(json.dumps({"call": call, "difference": difference}), flush=True)
    # The thread of a check that hangs would keep the process from ending.
    os._exit(0)


def _told(error: Exception) -> str:
    """The error, and the last line of ours that led to it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_HERE)]
    lines = [frame for frame in frames if Path(frame.filename).stem not in _HELPERS]
    place = f" ({Path(lines[-1].filename).name}:{lines[-1].lineno})" if lines else ""
    name = "" if isinstance(error, DifferenceError) else f"{type(error).__name__}: "
    return f"{name}{error}{place}"

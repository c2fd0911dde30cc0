"""The curves: what grows, in which steps, and what each step sets up and runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.cells import Cell
from schemas.topics import REQUESTS

# Loads that two cores carry easily at any size: the cost of an answer must not include the cost of a queue.
_ANSWERS = Cell("growth", "wait", rate=50)
_LONG_ANSWERS = Cell("growth", "wait", rate=25)
# Long enough that thousands are open although few start per second.
_SECONDS = 30
_SLOTS = 1000

Scale = Literal["log", "log2", "log from 0"]


@dataclass(frozen=True)
class Point:
    """What is measured at one step of a curve.

    ``messages``: history of each conversation. ``rows``: rows in each table. ``tenants``: number of tenants that the
    requests belong to (0: no keys). ``slots``: of a worker. ``files``: open at once in one of our processes.
    """

    cell: Cell = _ANSWERS
    workers: int = 1
    gateways: int = 1
    partitions: int = REQUESTS.partitions
    slots: int = _SLOTS
    messages: int = 0
    rows: int = 0
    tenants: int = 0
    files: int = 0


@dataclass(frozen=True)
class Curve:
    """What grows, with the measured steps. ``shows``: the figures that represent the cost."""

    name: str
    grows: str
    steps: tuple[int, ...]
    scale: Scale
    point: Callable[[int], Point]
    shows: Literal["answers", "calls", "streams"] = "answers"


def _history(messages: int) -> Point:
    return Point(_LONG_ANSWERS, messages=messages)


def _calls(open_calls: int) -> Point:
    # By Kafka producers: waiting at a gateway is another curve.
    cell = Cell("calls", "kafka", rate=open_calls / _SECONDS, llm_ms=1000 * _SECONDS)
    return Point(cell, slots=max(_SLOTS, 2 * open_calls), files=2 * open_calls)


def _streams(open_streams: int) -> Point:
    cell = Cell("streams", "stream", rate=open_streams / _SECONDS, llm_ms=1000, tokens=_SECONDS, gap_ms=1000)
    return Point(cell, slots=max(_SLOTS, 2 * open_streams), files=2 * open_streams)


CURVES = (
    Curve("history", "messages in the conversation", (1, 10, 100, 1000), "log", _history),
    Curve("rows", "rows in each table", (0, 100_000, 1_000_000, 10_000_000), "log from 0", lambda at: Point(rows=at)),
    Curve("calls", "calls in flight in one worker", (1, 100, 1000, 10_000), "log", _calls, "calls"),
    Curve("streams", "open streams at one gateway", (1, 64, 512, 2000, 5000), "log", _streams, "streams"),
    Curve("workers", "workers", (1, 2, 4, 8), "log2", lambda at: Point(workers=at)),
    Curve("gateways", "gateways", (1, 2, 4), "log2", lambda at: Point(gateways=at)),
    Curve("partitions", "partitions of each topic", (8, 32, 64, 128), "log2", lambda at: Point(partitions=at)),
    Curve("tenants", "tenants, each with a key", (1, 10, 100, 1000), "log", lambda at: Point(tenants=at)),
)


def chosen(names: Sequence[str]) -> list[Curve]:
    """The curves with these names, in the order of ``CURVES``. Raises ``ValueError``."""
    known = [curve.name for curve in CURVES]
    if strange := [name for name in names if name not in known]:
        raise ValueError(f"no curve is called {', '.join(strange)}; there are {', '.join(known)}")
    return [curve for curve in CURVES if curve.name in names]

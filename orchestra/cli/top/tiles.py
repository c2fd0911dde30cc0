"""The numbers of now: the tiles of the console's overview."""

from datetime import timedelta
from typing import NamedTuple

from orchestra.cli.format import brief, compact, counted
from orchestra.cli.top.seen import Seen
from schemas.api.live import LiveFrame, OwnFrame
from schemas.api.stats import Durations, StatsAnswer, StatsPoint

OLD_SECONDS = 60.0
_MINUTE = timedelta(minutes=1)


class Tile(NamedTuple):
    """One number. ``alarming``: whether it needs someone."""

    name: str
    value: str
    note: str = ""
    alarming: bool = False


def tiles(seen: Seen) -> list[Tile]:
    """The numbers of the tenant for operators, of their own requests for all others; none before the first frame."""
    match seen.frame:
        case LiveFrame() as frame:
            return _of_tenant(frame, seen.stats)
        case OwnFrame() as frame:
            oldest = Tile("Oldest waits", brief(frame.oldest_seconds))
            return [Tile("Open", f"{frame.open:,}"), Tile("Parked", f"{frame.parked:,}"), oldest]
    return []


def _of_tenant(frame: LiveFrame, stats: StatsAnswer | None) -> list[Tile]:
    last, workers, letters = last_minute(stats), frame.workers, frame.dead_letters
    failed = "none failed" if last is None or not last.failed else f"{last.failed:,} failed"
    answered = "-" if stats is None else f"{compact(last.completed if last else 0)}/min"
    return [
        Tile("Waiting", counted(frame.runnable), _more_that_waits(frame)),
        Tile("Oldest waits", brief(frame.oldest_seconds), alarming=(frame.oldest_seconds or 0) >= OLD_SECONDS),
        Tile("Running", counted(frame.in_progress), f"of {workers.capacity:,} slots" if workers.capacity else ""),
        Tile("Answered", answered, failed if stats else ""),
        _time("Queue time, p95", last.queue_seconds if last else None),
        _time("Model time, p95", last.model_seconds if last else None),
        Tile("Workers", f"{workers.alive:,}", f"{workers.in_flight:,} running", not workers.alive),
        Tile("Dead letters", counted(letters), "not sent again" if letters.count else "", bool(letters.count)),
    ]


def _more_that_waits(frame: LiveFrame) -> str:
    if frame.unread:
        return f"{frame.unread:,} not read yet"
    return f"{counted(frame.delayed)} delayed" if frame.delayed.count else ""


def _time(name: str, took: Durations | None) -> Tile:
    return Tile(name, brief(took.p95), f"median {brief(took.p50)}") if took else Tile(name, "-")


def last_minute(stats: StatsAnswer | None) -> StatsPoint | None:
    """What ended in the last full minute that is counted; None: nothing did, or there are no statistics."""
    if stats is None:
        return None
    full = stats.counted_at.replace(second=0, microsecond=0) - _MINUTE
    return next((each for each in stats.data if each.at == full), None)

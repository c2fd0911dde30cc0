"""What needs an operator, in words, the worst first: the findings of the console's overview."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple

from orchestra.cli.format import clock, counted, span
from orchestra.cli.options import WORKER_STARTER
from orchestra.cli.top.seen import Seen
from orchestra.cli.top.tiles import OLD_SECONDS
from schemas.api.live import LiveFrame
from schemas.api.queue import Count, QueueState
from schemas.api.stats import StatsAnswer
from schemas.api.topics import TopicList

_MAX_LAG = 1000
_MAX_FAILED_SHARE = 0.05
_FEW = 20
_COUNTED_LATE_SECONDS = 60.0
_ORDER = ("bad", "warn", "info")


class Finding(NamedTuple):
    """Something to know now."""

    kind: Literal["bad", "warn", "info"]
    text: str


def findings(seen: Seen, now: datetime) -> list[Finding]:
    """What an operator should know; nothing for other callers. ``now``: the gateway's time."""
    frame = seen.frame
    if not isinstance(frame, LiveFrame):
        return []
    found = [
        *_workers(frame),
        *_paused(seen.queue),
        *_models(frame, seen.queue),
        *_letters(frame),
        *_age(frame),
        *_lag(seen.topics),
        *_failures(frame),
        *_counted(seen.stats, now),
    ]
    return sorted(found, key=lambda each: _ORDER.index(each.kind))


def _workers(frame: LiveFrame) -> Iterator[Finding]:
    workers, runnable = frame.workers, frame.runnable
    waits = [_plural(runnable, "request waits", "requests wait")] if runnable.count else []
    if frame.unread:
        waits.append(f"{_plural(frame.unread, 'record is', 'records are')} accepted and not read yet")
    waiting = ", ".join(waits) or "new requests wait"
    if not workers.alive:
        yield Finding("bad", f"No worker is alive: {waiting}. Start one with {WORKER_STARTER}.")
    elif workers.draining == workers.alive:
        yield Finding("bad", f"Every worker drains: {waiting}. Let one work again, or start another.")
    elif workers.capacity and workers.in_flight >= workers.capacity:
        slots, working = _plural(workers.capacity, "slot"), _plural(workers.alive - workers.draining, "worker")
        yield Finding("warn", f"All {slots} of {working} are taken: {waiting}.")


def _paused(queue: QueueState | None) -> Iterator[Finding]:
    for pause in queue.pauses if queue else ():
        what = "All work" if pause.model is None else f"Model {pause.model}"
        until = clock(pause.until) if pause.until else "someone resumes it"
        text = f"{what} is paused until {until}{': ' * bool(pause.reason)}{pause.reason}"
        yield Finding("warn", text if text.endswith((".", "!", "?")) else f"{text}.")


def _models(frame: LiveFrame, queue: QueueState | None) -> Iterator[Finding]:
    known = {each.model: each for each in queue.held} if queue else {}
    for model in frame.held_models:
        why, until = "", ""
        if held := known.get(model):
            why = f" ({held.code or 'unknown'}{': ' * bool(held.detail)}{held.detail or ''})"
            until = f"; its requests are held back until {clock(held.until)}"
        yield Finding("warn", f"Model {model} refuses calls{why}{until}.")


def _letters(frame: LiveFrame) -> Iterator[Finding]:
    if frame.dead_letters.count:
        were = "record was refused and was", "records were refused and were"
        yield Finding("warn", f"{_plural(frame.dead_letters, *were)} not sent again.")


def _age(frame: LiveFrame) -> Iterator[Finding]:
    if frame.oldest_seconds is not None and frame.oldest_seconds >= OLD_SECONDS:
        waited = span(frame.oldest_seconds)
        yield Finding("warn", f"The oldest request that could run has waited for {waited}.")


def _lag(topics: TopicList | None) -> Iterator[Finding]:
    for topic in topics.data if topics else ():
        if topic.lag is not None and topic.lag > _MAX_LAG:
            yield Finding("warn", f"{topic.lag:,} records of {topic.topic} are not read yet.")


def _failures(frame: LiveFrame) -> Iterator[Finding]:
    failed = sum(each.failed for each in frame.minutes)
    ended = failed + sum(each.completed for each in frame.minutes)
    if ended >= _FEW and failed / ended >= _MAX_FAILED_SHARE:
        share, since = f"{100 * failed / ended:.0f} %", f"{frame.minutes[0].minute:%H:%M:%S}Z"
        text = f"{share} of the requests that ended since {since} failed: {failed:,} of {ended:,}."
        yield Finding("bad", text)


def _counted(stats: StatsAnswer | None, now: datetime) -> Iterator[Finding]:
    behind = (now - stats.counted_at).total_seconds() if stats else 0.0
    if behind >= _COUNTED_LATE_SECONDS:
        yield Finding("info", f"Statistics were last counted {span(behind)} ago: workers count them.")


def _plural(count: Count | int, one: str, many: str = "") -> str:
    """A count and what it counts. ``many``: of several; by default with an s."""
    count = Count(count=count, more=False) if isinstance(count, int) else count
    return f"{counted(count)} {one if count.count == 1 and not count.more else many or f'{one}s'}"

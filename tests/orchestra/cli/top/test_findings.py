"""What needs an operator, and the numbers beside it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestra.cli.options import WORKER_STARTER
from orchestra.cli.top.findings import findings
from orchestra.cli.top.search import read_filter
from orchestra.cli.top.seen import Seen
from orchestra.cli.top.tiles import tiles
from schemas.api.live import LiveFrame, OwnFrame
from schemas.api.queue import QueueState
from schemas.api.stats import StatsAnswer
from schemas.api.topics import TopicList
from tests.support.operating import FRAME, ID, NONE, OWN_FRAME, QUEUE, STATS, TOPICS

UNTIL = "2026-01-31 12:00:00Z"
NOW = datetime(2026, 1, 31, 12, 1, 10, tzinfo=UTC)
CALM: dict[str, Any] = {
    **FRAME, "runnable": NONE, "dead_letters": NONE, "oldest_seconds": None, "held_models": [], "minutes": [],
}  # fmt: skip
WORKERS = CALM["workers"]


def told(more: dict[str, Any], **seen: Any) -> list[tuple[str, str]]:
    frame = LiveFrame.model_validate({**CALM, **more})
    return [(each.kind, each.text) for each in findings(Seen(frame, **seen), NOW)]


@pytest.mark.parametrize(
    ("more", "kind", "text"),
    [
        ({"workers": {**WORKERS, "alive": 0}}, "bad", "No worker is alive: new requests wait."),
        (
            {"workers": {**WORKERS, "alive": 0}, "runnable": {"count": 1, "more": False}},
            "bad",
            "alive: 1 request waits.",
        ),
        (
            {"workers": {**WORKERS, "alive": 0}, "unread": 1},
            "bad",
            f"alive: 1 record is accepted and not read yet. Start one with {WORKER_STARTER}.",
        ),
        (
            {"workers": {**WORKERS, "draining": 2}, "runnable": {"count": 2, "more": False}, "unread": 1200},
            "bad",
            "drains: 2 requests wait, 1,200 records are accepted and not read yet.",
        ),
        ({"workers": {**WORKERS, "draining": 2}}, "bad", "Every worker drains: new requests wait."),
        (
            {"workers": {**WORKERS, "in_flight": 1000}},
            "warn",
            "All 1,000 slots of 2 workers are taken: new requests wait.",
        ),
        (
            {"workers": {**WORKERS, "draining": 1, "in_flight": 1000}},
            "warn",
            "All 1,000 slots of 1 worker are taken: new requests wait.",
        ),
        ({"held_models": ["gone"]}, "warn", "Model gone refuses calls."),
        ({"dead_letters": {"count": 1, "more": False}}, "warn", "1 record was refused and was not sent again."),
        ({"dead_letters": {"count": 9, "more": True}}, "warn", "9+ records were refused and were not sent again."),
        ({"oldest_seconds": 180.0}, "warn", "The oldest request that could run has waited for 3 min."),
        ({"minutes": FRAME["minutes"]}, "bad", "20 % of the requests that ended since 12:00:00Z failed: 10 of 50."),
    ],
    ids=[
        "none", "none-and-one", "none-and-unread", "drain-and-both", "drain", "full", "rest-full",
        "held", "letter", "letters", "old", "failures",
    ],
)  # fmt: skip
def test_what_a_frame_says(more: dict[str, Any], kind: str, text: str) -> None:
    """Each state that needs someone is one finding, in the console's words."""
    ((found, said),) = told(more)

    assert (kind, True) == (found, text in said)


def test_what_the_queue_the_topics_and_the_statistics_say() -> None:
    """Pauses and refusals with why and until when, topics that lag, late statistics. The worst is first."""
    topics = {"data": [{**TOPICS["data"][0], "lag": 1001}]}
    found = told(
        {"held_models": ["gone"], "minutes": FRAME["minutes"]},
        queue=QueueState.model_validate(QUEUE),
        topics=TopicList.model_validate(topics),
        stats=StatsAnswer.model_validate({**STATS, "counted_at": NOW - timedelta(minutes=3)}),
    )

    assert [
        ("bad", "20 % of the requests that ended since 12:00:00Z failed: 10 of 50."),
        ("warn", "Model paused-one is paused until someone resumes it: moved."),
        ("warn", f"Model gone refuses calls (auth: bad \x1b[2J key); its requests are held back until {UNTIL}."),
        ("warn", "1,001 records of llm.requests are not read yet."),
        ("info", "Statistics were last counted 3 min ago: workers count them."),
    ] == found  # fmt: skip


def test_a_pause_of_all_work_is_said_in_a_sentence() -> None:
    """It ends by itself or is resumed, and a reason that ends like a sentence gets no second full stop."""
    pauses = [{**QUEUE["pauses"][0], "model": None, "reason": reason, "until": UNTIL} for reason in ("", "Moved!")]
    queue = QueueState.model_validate({**QUEUE, "pauses": pauses})

    assert [
        ("warn", f"All work is paused until {UNTIL}."), ("warn", f"All work is paused until {UNTIL}: Moved!")
    ] == told({}, queue=queue)  # fmt: skip


def test_calm_needs_nothing() -> None:
    """Nothing is made up, and users have no findings."""
    assert [] == told({}, stats=StatsAnswer.model_validate(STATS))
    assert [] == findings(Seen(OwnFrame.model_validate(OWN_FRAME)), NOW)


def test_the_numbers_of_now() -> None:
    """What ended is that of the last full minute, and of no other; without statistics it is unknown."""
    frame = LiveFrame.model_validate(FRAME)
    shown = {each.name: each for each in tiles(Seen(frame, stats=StatsAnswer.model_validate(STATS)))}
    late = StatsAnswer.model_validate({**STATS, "counted_at": NOW + timedelta(minutes=1)})

    assert ("3/min", "1 failed") == shown["Answered"][1:3]
    assert ("3 min", "median 1.0 s") == shown["Queue time, p95"][1:3]
    assert {"Oldest waits", "Dead letters"} == {each.name for each in shown.values() if each.alarming}
    assert ["0/min", "-"] == [
        each.value for each in tiles(Seen(frame, stats=late)) if each.name in ("Answered", "Model time, p95")
    ]
    assert "-" == next(each.value for each in tiles(Seen(frame)) if each.name == "Answered")
    assert [] == tiles(Seen())


def test_what_waits_and_is_not_in_the_queue_yet() -> None:
    """What no worker has read is said beside what waits, and so is what is delayed where all is read."""
    delayed = {"delayed": {"count": 4, "more": False}}
    shown = [tiles(Seen(LiveFrame.model_validate({**FRAME, **delayed, "unread": unread})))[0] for unread in (9000, 0)]

    assert ["9,000 not read yet", "4 delayed"] == [each.note for each in shown]


def test_what_is_typed_into_the_filter() -> None:
    """An id alone is one; words are filters, some with a short name; values with blanks are in quotes."""
    assert {} == read_filter(" ")
    assert {"id": [ID]} == read_filter(ID.upper())
    words = 'state:"in progress" model:a/b:c error:timeout waited:2'
    filters = {"status": "in_progress", "model": "a/b:c", "error_code": "timeout", "waited_min": "2"}
    assert filters == read_filter(words)
    for wrong in ("colour:red", "model:", f"{ID} model:m", "id:1"):
        with pytest.raises(ValueError, match="neither an id nor a filter"):
            read_filter(wrong)

"""Modules of the console that need no page: texts of numbers and times, filters, findings."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page

FRAME: dict[str, Any] = {
    "workers": {"alive": 2, "in_flight": 1, "draining": 0, "capacity": 20},
    "runnable": {"count": 3, "more": False},
    "held_models": [],
    "dead_letters": {"count": 0, "more": False},
    "oldest_seconds": None,
    "minutes": [],
}
NOTHING = "\u2013"
QUEUE = {
    "pauses": [],
    "held": [{"model": "llama3", "workers": 1, "until": "2026-01-31T12:00:30Z", "code": "auth", "detail": "no key"}],
}


def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    files = re.findall(r"/console/files/[0-9a-f]+/", page.content())[0]
    script = f"([...given]) => import('{files}{module}.js').then((module) => module.{function}(...given))"
    return page.evaluate(script, [*arguments])


def test_times_and_numbers_as_text(page: Page) -> None:
    """A time has the unit that people use for it, and a time that is missing or below zero is never a number."""
    durations = [0.0042, 0.5, 3.42, 59.6, 95, 3600, 90061, -3, None]

    assert ["4 ms", "500 ms", "3.4 s", "1 min", "1 min 35 s", "1 h", "1 d 1 h", "0 ms", NOTHING] == [
        call(page, "format", "duration", each) for each in durations
    ]
    assert ["1.6 min", "2 h", "59 s"] == [call(page, "format", "brief", each) for each in (95, 7200, 59)]
    assert ["999", "9,999", "12.3 k", "1.2 M"] == [
        call(page, "format", "compact", each) for each in (999, 9999, 12_340, 1_200_000)
    ]
    assert ["$0", "$0.0019", "$1.50", "$240"] == [call(page, "format", "money", each) for each in (0, 0.0019, 1.5, 240)]
    assert ["500+", "3", NOTHING] == [
        call(page, "format", "count", each)
        for each in ({"count": 500, "more": True}, {"count": 3, "more": False}, None)
    ]
    assert ["0 requests", "1 request", "1,234 requests", "1+ requests"] == [
        call(page, "format", "plural", each, "request") for each in (0, 1, 1234, {"count": 1, "more": True})
    ]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("model:llama3", {"filter": {"model": "llama3"}}),
        ("state:failed type:analyst", {"filter": {"status": "failed", "task_type": "analyst"}}),
        ('owner:"the night shift"', {"filter": {"owner": "the night shift"}}),
        ("model:simulated:fail=auth", {"filter": {"model": "simulated:fail=auth"}}),
        ("7C9E6679-7425-40DE-944B-E07FC1F90AE7", {"id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}),
        ("", {"filter": {}}),
    ],
)
def test_a_search_is_read(text: str, read: dict[str, Any], page: Page) -> None:
    """An id, or names with values, also with colons and spaces in them, become a filter."""
    assert read == call(page, "filters", "read", text)


@pytest.mark.parametrize("text", ["llama3", "colour:red", "model:"])
def test_a_search_that_means_nothing_is_refused(text: str, page: Page) -> None:
    """A word without a name, an unknown name and a name without a value are named."""
    assert f"“{text}”" in call(page, "filters", "read", text)["wrong"]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (
            {"workers": {"alive": 0, "in_flight": 0, "capacity": 0}},
            "bad",
            "No worker is alive: 3 requests wait. Start one.",
        ),
        (
            {"workers": {"alive": 0, "in_flight": 0, "capacity": 0}, "unread": 2},
            "bad",
            "No worker is alive: 3 requests wait, 2 records are accepted and not read yet. Start one.",
        ),
        (
            {"workers": {"alive": 2, "in_flight": 20, "draining": 0, "capacity": 20}},
            "warn",
            "All 20 slots of 2 workers are taken",
        ),
        ({"held_models": ["llama3"]}, "warn", "Model llama3 refuses calls (auth: no key)"),
        ({"dead_letters": {"count": 1, "more": False}}, "warn", "1 record was refused"),
        ({"oldest_seconds": 95}, "warn", "has waited for 1 min 35 s"),
        (
            {"minutes": [{"minute": "2026-01-31T11:59:00Z", "failed": 8, "completed": 32}]},
            "bad",
            "20 % of the requests that ended since 11:59:00 failed: 8 of 40",
        ),
    ],
)
def test_a_finding_is_worded(change: dict[str, Any], kind: str, words: str, page: Page) -> None:
    """Each thing that needs someone is one finding in words."""
    seen = {"frame": {**FRAME, **change}, "queue": QUEUE, "now": 1_769_860_800_000}
    (found,) = call(page, "findings", "findings", json.loads(json.dumps(seen)))

    assert kind == found["kind"]
    assert words in "".join(found["text"])


@pytest.mark.parametrize(("model", "what"), [(None, "All work is"), ("llama3", "Model llama3 is")])
def test_a_pause_is_worded(model: str | None, what: str, page: Page) -> None:
    """A pause says what is paused and why, and its reason is shown as it was written."""
    pause = {"model": model, "reason": "`rm -rf` ran", "paused_by": "nobody", "until": None}
    (found,) = call(page, "findings", "findings", {"frame": FRAME, "queue": {"held": [], "pauses": [pause]}, "now": 0})

    assert [f"{what} paused until someone resumes it: `rm -rf` ran."] == found["text"]


def test_nothing_needs_anyone(page: Page) -> None:
    """A system that works has no finding."""
    assert [] == call(page, "findings", "findings", {"frame": FRAME, "now": 1_769_860_800_000})


def test_the_worst_finding_is_first(page: Page) -> None:
    """Findings are in the order of what they mean, not of where they come from."""
    frame = {
        **FRAME,
        "dead_letters": {"count": 3, "more": False},
        "workers": {"alive": 0, "in_flight": 0, "capacity": 0},
    }
    found = call(page, "findings", "findings", {"frame": frame, "now": 1_769_860_800_000})

    assert ["bad", "warn"] == [each["kind"] for each in found]


def test_a_request_is_asked_again_in_its_conversation(page: Page) -> None:
    """Its texts and its model become a draft; of chat completions without their conversation; other contents do not."""
    said = [{"role": "system", "content": "Briefly."}, {"role": "user", "content": "Hello"}]
    request = {"model": "llama3", "conversation_id": "c", "door": None, "messages": said}
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    drafts = [call(page, "sending", "draftOf", {**request, **more}) for more in ({}, {"door": "chat"})]

    assert [{"conversation_id": "c"}, {}] == [draft["options"] for draft in drafts]
    assert [("llama3", said)] * 2 == [(draft["model"], draft["messages"]) for draft in drafts]
    assert [None] * 3 == [call(page, "sending", "draftOf", {**request, "messages": each}) for each in (None, [], parts)]

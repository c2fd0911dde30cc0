"""`orchestra queue`, `workers`, `lag` and `stats` against a gateway that follows a script."""

import json
from typing import Any

import pytest

from tests.support.scripted_gateway import ScriptedGateway

TIME = "2026-01-31T12:00:00Z"
NONE = {"count": 0, "more": False}
TIMES = {"mean": 1.0, "p50": 1.0, "p95": 200.0, "p99": None}
ANSWERS: dict[str, Any] = {
    "/v1/queue": {
        "open": 600, "parked": 0, "runnable": {"count": 500, "more": True}, "delayed": NONE, "waiting": NONE,
        "in_progress": NONE, "oldest_seconds": 3.0,
        "by_priority": [
            {"priority": 5, "runnable": 500, "held": 0, "paused": 0, "delayed": 0, "oldest_seconds": 3.0, "more": True}
        ],
        "by_model": [{"model": "llama3", "runnable": 500, "held": 0, "paused": 0, "delayed": 0, "oldest_seconds": 3.0}],
        "pauses": [{"model": "paused-one", "reason": "moved", "paused_by": "key:k", "paused_at": TIME, "until": None}],
        "held": [{"model": "gone", "workers": 1, "until": TIME, "code": "auth", "detail": "bad \x1b[2J key"}],
        "head": [
            {"id": "7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01", "conversation_id": "x", "owner": None, "model": "llama3",
             "priority": 5, "waited_seconds": 3.0, "last_error": None}
        ],
    },
    "/v1/workers": {
        "data": [
            {"id": "old", "started_at": TIME, "lease_until": TIME, "alive": False, "drain_requested_at": None,
             "version": None, "draining": None,
             "in_flight": None, "capacity": None, "models": None, "topics": None}
        ],
        "more": False,
    },
    "/v1/topics": {
        "data": [
            {"topic": "llm.requests", "lag": 2, "partitions": [
                {"partition": 7, "start": 0, "end": 9, "read": 7, "lag": 2, "read_up_to": TIME, "last_record_at": TIME}
            ]}
        ]
    },
    "/v1/stats": {
        "counted_at": TIME, "step": 600, "data": [
            {"at": TIME, "key": None, "requests": 4, "completed": 3, "failed": 1, "cancelled": 0, "expired": 0,
             "input_tokens": 1000, "output_tokens": 5, "cost": 0.5, "queue_seconds": TIMES, "model_seconds": TIMES}
        ],
    },
}  # fmt: skip


@pytest.fixture
def script(script: ScriptedGateway) -> ScriptedGateway:
    script.answers = {f"GET {path}": answer for path, answer in ANSWERS.items()}
    return script


@pytest.mark.parametrize(
    ("verb", "said", "code"),
    [
        (
            "queue",
            ["600 open", "500+", "paused-one is paused by key:k", "gone refuses calls", "bad [2J key", "7b1f0c52"],
            0,
        ),
        ("workers", ["old", "lost"], 1),
        ("lag", ["llm.requests/7: read 7 of 9, 2 behind"], 0),
        ("stats", ["1,000", "0.50", "3 min"], 0),
    ],
)
async def test_what_an_operator_sees_is_printed(script: ScriptedGateway, verb: str, said: list[str], code: int) -> None:
    """Each verb prints what it found, without control characters; without a worker that is alive it fails."""
    done = await script.orchestra(verb)

    assert code == done.status
    assert [text for text in said if text not in done.output] == []
    assert "\x1b[2J" not in done.output


@pytest.mark.parametrize(("verb", "path"), [("queue", "/v1/queue"), ("lag", "/v1/topics"), ("stats", "/v1/stats")])
async def test_json_is_the_answer_itself(script: ScriptedGateway, verb: str, path: str) -> None:
    """A program gets what the gateway answered."""
    assert ANSWERS[path] == json.loads((await script.orchestra(verb, "--json")).output)


async def test_minutes_of_statistics_become_seconds(script: ScriptedGateway) -> None:
    """A step is given in minutes, and only what was asked is sent."""
    await script.orchestra("stats", "--step", "5", "--by", "model")

    assert [("GET /v1/stats", {"step": "300", "by": "model"})] == script.asked

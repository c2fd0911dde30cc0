"""`orchestra queue`, `workers`, `lag` and `stats` against a gateway that follows a script."""

import json
from typing import Any

import pytest

from tests.support.operating import LOST, QUEUE, STATS, TOPICS, WORKERS
from tests.support.scripted_gateway import ScriptedGateway

ANSWERS: dict[str, Any] = {
    "/v1/queue": QUEUE,
    "/v1/workers": {**WORKERS, "data": [each for each in WORKERS["data"] if not each["alive"]]},
    "/v1/topics": TOPICS,
    "/v1/stats": STATS,
}


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
        ("workers", [LOST, "lost"], 1),
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


async def test_who_paused_is_left_out_where_nobody_has_a_name(script: ScriptedGateway) -> None:
    """A gateway without keys does not know who paused a model."""
    pause = {**QUEUE["pauses"][0], "paused_by": "nobody"}
    script.answers["GET /v1/queue"] = {**QUEUE, "pauses": [pause]}

    assert "paused-one is paused until it is resumed: moved\n" in (await script.orchestra("queue")).output


async def test_what_no_worker_has_read_is_said(script: ScriptedGateway) -> None:
    """What is accepted and not read is in no list, so the queue says how much that is."""
    script.answers["GET /v1/queue"] = {**QUEUE, "unread": 1200}

    assert "1,200 accepted, not read yet by a worker\n" in (await script.orchestra("queue")).output


@pytest.mark.parametrize(("verb", "path"), [("queue", "/v1/queue"), ("lag", "/v1/topics"), ("stats", "/v1/stats")])
async def test_json_is_the_answer_itself(script: ScriptedGateway, verb: str, path: str) -> None:
    """A program gets what the gateway answered."""
    assert ANSWERS[path] == json.loads((await script.orchestra(verb, "--json")).output)


async def test_minutes_of_statistics_become_seconds(script: ScriptedGateway) -> None:
    """A step is given in minutes, and only what was asked is sent."""
    await script.orchestra("stats", "--step", "5", "--by", "model")

    assert [("GET /v1/stats", {"step": "300", "by": "model"})] == script.asked

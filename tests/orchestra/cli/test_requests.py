"""`orchestra requests` against a gateway that follows a script."""

import csv
import io
import json
from typing import Any

import pytest

from tests.support.scripted_gateway import ScriptedGateway

TIME = "2026-01-31T12:00:00Z"
ID, OTHER = "7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01", "3f9d2c74-51aa-4e0b-b0f7-8c6d1e2a4b90"
PATH = f"/v1/requests/{ID}"
REQUEST: dict[str, Any] = {
    "id": ID, "status": "pending", "cancel_requested": False, "owner": "ada", "priority": 7, "created_at": TIME,
    "attempts": 1, "tries": 1, "max_tries": 5, "messages": [{"role": "user", "content": "clear \x1b[2J me"}],
    "record": {"topic": "llm.requests", "partition": 3, "offset": 42},
    "errors": [{"attempt": 1, "code": "timeout", "detail": "slow", "at": TIME}],
}  # fmt: skip
WAITING: dict[str, Any] = {
    "id": ID, "status": "pending", "position": 44, "ahead": None, "estimate_seconds": 12.5,
    "reasons": [{"code": "behind_in_conversation", "detail": "One comes first.", "until": TIME, "request_id": OTHER}],
}  # fmt: skip


@pytest.fixture
def script(script: ScriptedGateway) -> ScriptedGateway:
    """With one request."""
    script.answers = {f"GET {PATH}": REQUEST, f"GET {PATH}/waiting": WAITING}
    return script


async def test_why_a_request_waits_is_printed(script: ScriptedGateway) -> None:
    """With its facts, what failed, and about how long it will be, without control characters."""
    done = await script.orchestra("requests", "show", ID)

    expected = [
        "pending", "owner: ada", "llm.requests/3 at 42", "attempt 1 failed", "timeout: slow", f"waits for {OTHER}",
        "behind_in_conversation: One comes first. Until", "position: 44", "in about 12.5 s", "user: clear [2J me",
    ]  # fmt: skip
    assert 0 == done.status
    assert [text for text in expected if text not in done.output] == []
    assert "\x1b[2J" not in done.output


async def test_a_request_that_ended_is_not_asked_why_it_waits(script: ScriptedGateway) -> None:
    """One call, and its answer is printed."""
    script.answers[f"GET {PATH}"] = {**REQUEST, "status": "completed", "reply": "done"}

    done = await script.orchestra("requests", "show", ID)

    assert [(f"GET {PATH}", {})] == script.asked
    assert "assistant: done" in done.output


async def test_a_request_waits_from_when_it_was_accepted(script: ScriptedGateway) -> None:
    """That comes first of its times; where it is not known, a request waits from when a worker read it."""
    started = {**REQUEST, "started_at": "2026-01-31T12:00:04Z"}
    accepted = {**started, "accepted_at": "2026-01-31T11:59:55Z"}
    script.answers[f"GET {PATH}"] = [accepted, started]

    known, unknown = [await script.orchestra("requests", "show", ID) for _ in range(2)]

    assert "accepted: 2026-01-31 11:59:55Z\ncreated: 2026-01-31 12:00:00Z\n" in known.output
    assert "\nwaited: 9.0 s\n" in known.output
    assert "\nwaited: 4.0 s\n" in unknown.output


async def test_a_list_becomes_a_sheet(script: ScriptedGateway) -> None:
    """One line for each request, page by page: quoted as CSV has it, without texts and without formulas of callers."""
    usage = {"input_tokens": 3, "output_tokens": 5, "cost": 0.25}
    ended = {"started_at": "2026-01-31T12:00:04.5Z", "finished_at": "2026-01-31T13:00:09+01:00", "reply": "secret"}
    answered = {**REQUEST, **ended, "status": "completed", "owner": "=1+1", "model": 'a,"b"', "usage": usage}
    failed = {**REQUEST, "id": OTHER, "status": "failed", "error": {"code": "timeout", "detail": "two\nlines"}}
    script.answers["GET /v1/requests"] = [{"data": [answered], "next": "c"}, {"data": [failed, failed], "next": "d"}]

    done = await script.orchestra("requests", "list", "--csv", "--limit", "2")

    titles, *rows = csv.reader(io.StringIO(done.output, newline=""))
    assert 0 == done.status
    assert [ID, OTHER] == [row[0] for row in rows]
    first, second = (dict(zip(titles, row, strict=True)) for row in rows)
    assert ("'=1+1", 'a,"b"', "5", "0.25") == tuple(first[name] for name in ("owner", "model", "output_tokens", "cost"))
    assert ("2026-01-31T12:00:04.500000Z", "2026-01-31T12:00:09.000000Z") == (first["started_at"], first["finished_at"])
    assert ("timeout", "two\nlines", "") == (second["error_code"], second["error_detail"], second["cost"])
    assert not [text for text in ("secret", "clear") if text in done.output]


async def test_a_sheet_is_written_as_it_is_read(script: ScriptedGateway) -> None:
    """What came before a failure is there, so memory does not grow with the list."""
    script.answers["GET /v1/requests"] = [{"data": [REQUEST], "next": "c"}, "unavailable"]

    done = await script.orchestra("requests", "list", "--csv", "--limit", "100000")
    both = await script.orchestra("requests", "list", "--csv", "--json")

    assert (1, 2) == (done.status, len(done.output.splitlines()))
    assert 2 == both.status


async def test_a_list_is_read_as_far_as_it_is_wanted(script: ScriptedGateway) -> None:
    """Every filter is an option; pages follow until there are enough, and a row has its owner and priority."""
    row = {**REQUEST, "status": "failed", "model": "m\x1b[2J", "error": {"code": "timeout", "detail": "slow"}}
    script.answers["GET /v1/requests"] = [{"data": [row], "next": "c"}, {"data": [row, row], "next": "d"}]
    words = ["--status", "failed", "--owner", "ada", "--id", ID, "--waited-min", "2", "--limit", "2"]

    done = await script.orchestra("requests", "list", *words)

    asked = {"status": "failed", "owner": "ada", "id": ID, "waited_min": "2.0", "limit": "2"}
    assert [("GET /v1/requests", asked), ("GET /v1/requests", {**asked, "cursor": "c"})] == script.asked
    assert (0, 2) == (done.status, done.output.count(ID))
    assert "m[2J, ada, timeout" in done.output


async def test_a_list_as_json_is_its_rows(script: ScriptedGateway) -> None:
    """A program gets the rows as the gateway wrote them; without any it is an empty list, a person gets a line."""
    row = {"id": ID, "status": "pending", "owner": None, "priority": 7, "created_at": TIME, "attempts": 0}
    nothing = {"data": [], "next": None}
    script.answers["GET /v1/requests"] = [{"data": [row], "next": None}, nothing, nothing]

    told = [await script.orchestra("requests", "list", *words) for words in (["--json"], ["--json"], ["--model", "x"])]

    assert ([row], []) == (json.loads(told[0].output), json.loads(told[1].output))
    assert "no such requests\n" == told[2].output


async def test_json_has_both(script: ScriptedGateway) -> None:
    """A program gets what the gateway answered, with `waiting` while it is open."""
    assert {**REQUEST, "waiting": WAITING} == json.loads(
        (await script.orchestra("requests", "show", ID, "--json")).output
    )

"""`orchestra requests` against a gateway that follows a script."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.support.command_line import Done, orchestra
from tests.support.scripted_gateway import ScriptedGateway, scripted_gateway

TIME = "2026-01-31T12:00:00Z"
ID, OTHER = "7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01", "3f9d2c74-51aa-4e0b-b0f7-8c6d1e2a4b90"
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


class Script:
    """A gateway with one request; ``asked``: the paths of its calls."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.request = REQUEST

    async def answer(self, call: web.Request) -> web.Response:
        """Answer one call."""
        self.asked.append(call.path)
        return web.json_response(WAITING if call.path.endswith("/waiting") else self.request)

    async def run(self, *words: str) -> Done:
        """Run the command against this gateway."""
        return await orchestra("requests", "show", *words, ORCHESTRA_GATEWAY=self.url, COLUMNS="200")


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    made, app = Script(), web.Application()
    app.router.add_route("GET", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def listing() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as gateway:
        yield gateway


async def test_why_a_request_waits_is_printed(script: Script) -> None:
    """With its facts, what failed, and about how long it will be, without control characters."""
    done = await script.run(ID)

    expected = [
        "pending", "owner: ada", "llm.requests/3 at 42", "attempt 1 failed", "timeout: slow", f"waits for {OTHER}",
        "behind_in_conversation: One comes first. Until", "position: 44", "in about 12.5 s", "user: clear [2J me",
    ]  # fmt: skip
    assert 0 == done.status
    assert [text for text in expected if text not in done.output] == []
    assert "\x1b[2J" not in done.output


async def test_a_request_that_ended_is_not_asked_why_it_waits(script: Script) -> None:
    """One call, and its answer is printed."""
    script.request = {**REQUEST, "status": "completed", "reply": "done"}

    done = await script.run(ID)

    assert [f"/v1/requests/{ID}"] == script.asked
    assert "assistant: done" in done.output


async def test_a_list_is_read_as_far_as_it_is_wanted(listing: ScriptedGateway) -> None:
    """Every filter is an option; pages follow until there are enough, and a row has its owner and priority."""
    row = {**REQUEST, "status": "failed", "model": "m\x1b[2J", "error": {"code": "timeout", "detail": "slow"}}
    listing.answers["GET /v1/requests"] = [{"data": [row], "next": "c"}, {"data": [row, row], "next": "d"}]
    words = ["--status", "failed", "--owner", "ada", "--id", ID, "--waited-min", "2", "--limit", "2"]

    done = await listing.orchestra("requests", "list", *words)

    asked = {"status": "failed", "owner": "ada", "id": ID, "waited_min": "2", "limit": "2"}
    assert [("GET /v1/requests", asked), ("GET /v1/requests", {**asked, "cursor": "c"})] == listing.asked
    assert (0, 2) == (done.status, done.output.count(ID))
    assert "m[2J, ada, timeout" in done.output


async def test_a_list_as_json_is_its_rows(listing: ScriptedGateway) -> None:
    """A program gets the rows as the gateway wrote them; without any it is an empty list, a person gets a line."""
    row = {"id": ID, "status": "pending", "owner": None, "priority": 7, "created_at": TIME, "attempts": 0}
    nothing = {"data": [], "next": None}
    listing.answers["GET /v1/requests"] = [{"data": [row], "next": None}, nothing, nothing]

    told = [await listing.orchestra("requests", "list", *words) for words in (["--json"], ["--json"], ["--model", "x"])]

    assert ([row], []) == (json.loads(told[0].output), json.loads(told[1].output))
    assert "no such requests\n" == told[2].output


async def test_json_has_both(script: Script) -> None:
    """A program gets what the gateway answered, with `waiting` while it is open."""
    assert {**REQUEST, "waiting": WAITING} == json.loads((await script.run(ID, "--json")).output)

"""`orchestra bulk` against a gateway that follows a script."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orchestra.cli.bulk import Sender, batches
from orchestra.cli.calls import calling
from tests.support.command_line import orchestra
from tests.support.ports import free_port

Answer = Callable[[list[Any]], Any]


def accept(requests: list[Any]) -> Any:
    return {"data": [{"request_id": each["messages"], "error": None} for each in requests]}


def refuse(code: str, *, retryable: bool) -> Any:
    return {"request_id": None, "error": {"code": code, "detail": "because", "status": 400, "retryable": retryable}}


@dataclass
class Script:
    """What was asked, and the answers to the next calls; to all others that every message is accepted."""

    url: str = ""
    answers: list[Any] = field(default_factory=list)
    calls: list[list[Any]] = field(default_factory=list)

    async def answer(self, call: web.Request) -> web.Response:
        requests = (await call.json())["requests"]
        self.calls.append(requests)
        found = self.answers.pop(0) if self.answers else accept
        if isinstance(found, int):
            return web.json_response({"code": "because", "detail": "of this"}, status=found)
        return web.json_response(found(requests) if callable(found) else found)


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    made, app = Script(), web.Application(client_max_size=2**21)
    app.router.add_post("/v1/messages/bulk", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    made.url = f"http://127.0.0.1:{port}"
    yield made
    await runner.cleanup()


async def run(script: Script, folder: Path, *lines: str) -> tuple[int | None, list[dict[str, Any]], str]:
    """The exit code, the outcomes and the progress of a run with these lines."""
    path = folder / "messages.jsonl"
    path.write_text("\n".join(lines))
    done = await orchestra("bulk", str(path), ORCHESTRA_GATEWAY=script.url)
    return done.status, [json.loads(line) for line in done.output.splitlines()], done.stderr


def line(text: str, **more: Any) -> str:
    return json.dumps({"messages": text, **more})


async def test_each_line_has_its_outcome(script: Script, tmp_path: Path) -> None:
    """Outcomes come in the order of the lines, also of those that no gateway was sent; each message has a key."""
    code, told, progress = await run(script, tmp_path, line("a"), "{", "", "[]", line("b", idempotency_key="mine"))

    assert (1, [1, 2, 4, 5]) == (code, [each["line"] for each in told])
    assert [None, "not_json", "invalid_request", None] == [each["error"] and each["error"]["code"] for each in told]
    assert "2 accepted, 2 refused" in progress
    ((first, second),) = script.calls
    assert ("a", "mine") == (first["messages"], second["idempotency_key"])
    assert first["idempotency_key"].endswith("-1")


async def test_a_call_has_as_many_messages_as_fit(script: Script, tmp_path: Path) -> None:
    """Calls are limited in messages and in bytes, and every message is sent once, in order."""
    long = [line("x" * 400_000) for _ in range(3)]
    code, told, _ = await run(script, tmp_path, *(line(str(n)) for n in range(1001)), *long, line("y" * 1_000_000))

    numbers = [each["line"] for each in told]
    assert (1, [*range(1, 1006)], "too_large") == (code, numbers, told[-1]["error"]["code"])
    assert [1000, 3, 1] == [len(call) for call in script.calls]


async def test_what_may_be_accepted_later_is_sent_again(script: Script) -> None:
    """Messages and calls that failed for now are repeated with the same keys, for a limited time."""

    def send(*lines: str) -> list[Any]:
        with calling(script.url, None) as client:
            sender = Sender(client, pauses=(0.0, 0.0, 0.0))
            return [each for batch in batches([each.encode() for each in lines], "run") for each in sender.send(batch)]

    some = {"data": [{"request_id": "a", "error": None}, refuse("overloaded", retryable=True)]}
    script.answers = [503, some]
    told = await asyncio.to_thread(send, line("a"), line("b"))

    assert [(1, "a"), (2, "b")] == [(number, each["request_id"]) for number, each in told]
    assert [["a", "b"], ["a", "b"], ["b"]] == [[each["messages"] for each in call] for call in script.calls]
    assert ["run-2"] * 3 == [call[-1]["idempotency_key"] for call in script.calls]

    script.answers = [{"data": [refuse("overloaded", retryable=True)]}] * 4
    ((_, outcome),) = await asyncio.to_thread(send, line("a"))
    assert "overloaded" == outcome["error"]["code"]


async def test_a_call_that_fails_for_good(script: Script, tmp_path: Path) -> None:
    """A gateway that refuses the call, or does not answer, ends the command with the reason."""
    script.answers = [401]
    code, told, reason = await run(script, tmp_path, line("a"))
    assert (1, [], True) == (code, told, "because: of this" in reason)

    script.url = f"http://127.0.0.1:{free_port()}"
    code, told, reason = await run(script, tmp_path, line("a"))
    assert (3, []) == (code, told)
    assert "did not answer" in reason

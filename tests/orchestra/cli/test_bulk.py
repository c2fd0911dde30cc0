"""`orchestra bulk` against a gateway that follows a script."""

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchestra.cli.bulk import Sender, batches
from tests.support.ports import free_port
from tests.support.scripted_gateway import ScriptedGateway

CALL = "POST /v1/messages/bulk"


def told(*outcomes: Any) -> Any:
    return {"data": outcomes, "accepted": 0, "refused": 0}


def accept(sent: Any) -> Any:
    """Every message is accepted, as a request whose id is its number in the call."""
    return told(*({"request_id": str(UUID(int=at)), "error": None} for at, _ in enumerate(sent["requests"])))


def refuse(code: str, *, retryable: bool) -> Any:
    return {"request_id": None, "error": {"code": code, "detail": "because", "status": 400, "retryable": retryable}}


def calls(script: ScriptedGateway) -> list[Any]:
    """The messages of each call."""
    return [sent["requests"] for _, sent in script.asked]


@pytest.fixture
def script(script: ScriptedGateway) -> ScriptedGateway:
    script.answers[CALL] = accept
    return script.of("bulk", root="")


async def run(script: ScriptedGateway, folder: Path, *lines: str) -> tuple[int | None, list[dict[str, Any]], str]:
    """The exit code, the outcomes and the progress of a run with these lines."""
    path = folder / "messages.jsonl"
    path.write_text("\n".join(lines))
    done = await script.orchestra(str(path))
    return done.status, [json.loads(line) for line in done.output.splitlines()], done.stderr


def line(text: str, **more: Any) -> str:
    return json.dumps({"messages": text, **more})


async def test_each_line_has_its_outcome(script: ScriptedGateway, tmp_path: Path) -> None:
    """Outcomes come in the order of the lines, also of those that no gateway was sent; each message has a key."""
    broken = ["{", "", "[]", "[" * 100_000, '{"priority": NaN}', '{"messages": "\\ud800"}']
    code, lines, progress = await run(script, tmp_path, line("a"), *broken, line("b", idempotency_key="mine"))

    assert (1, [1, 2, 4, 5, 6, 7, 8]) == (code, [each["line"] for each in lines])
    codes = [None, "not_json", "invalid_request", "not_json", "not_json", "invalid_request", None]
    assert codes == [each["error"] and each["error"]["code"] for each in lines]
    assert "2 accepted, 5 refused" in progress
    ((first, second),) = calls(script)
    assert ("a", "mine") == (first["messages"], second["idempotency_key"])
    assert first["idempotency_key"].endswith("-1")


async def test_a_call_has_as_many_messages_as_fit(script: ScriptedGateway, tmp_path: Path) -> None:
    """Calls are limited in messages and in bytes, and every message is sent once, in order."""
    long = [line("x" * 400_000) for _ in range(3)]
    code, lines, _ = await run(script, tmp_path, *(line(str(n)) for n in range(1001)), *long, line("y" * 1_000_000))

    numbers = [each["line"] for each in lines]
    assert (1, [*range(1, 1006)], "too_large") == (code, numbers, lines[-1]["error"]["code"])
    assert [1000, 3, 1] == [len(call) for call in calls(script)]


async def test_what_may_be_accepted_later_is_sent_again(script: ScriptedGateway) -> None:
    """Messages and calls that failed for now are repeated with the same keys, for a limited time."""

    def send(*lines: str) -> list[Any]:
        with closing(Sender(script.url, None, pauses=(0.0, 0.0, 0.0))) as sender:
            return [each for batch in batches([each.encode() for each in lines], "run") for each in sender.send(batch)]

    id = str(UUID(int=0))
    script.answers[CALL] = [503, told({"request_id": id, "error": None}, refuse("overloaded", retryable=True)), accept]
    outcomes = await asyncio.to_thread(send, line("a"), line("b"))

    assert [(1, id), (2, id)] == [(number, each["request_id"]) for number, each in outcomes]
    assert [["a", "b"], ["a", "b"], ["b"]] == [[each["messages"] for each in call] for call in calls(script)]
    assert ["run-2"] * 3 == [call[-1]["idempotency_key"] for call in calls(script)]

    script.answers[CALL] = told(refuse("overloaded", retryable=True))
    ((_, outcome),) = await asyncio.to_thread(send, line("a"))
    assert "overloaded" == outcome["error"]["code"]


async def test_a_call_that_fails_for_good(script: ScriptedGateway, tmp_path: Path) -> None:
    """A gateway that refuses the call, or does not answer, ends the command with the reason."""
    script.answers[CALL] = 401
    code, lines, reason = await run(script, tmp_path, line("a"))
    assert (1, [], True) == (code, lines, "of this (because)" in reason)

    script.url = f"http://127.0.0.1:{free_port()}"
    code, lines, reason = await run(script, tmp_path, line("a"))
    assert (3, []) == (code, lines)
    assert "127.0.0.1" in reason

"""Promises of workers/generate.py: whatever the LLM service does, the result is text, an end, or a named error."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import web

from orchestra.transcript import Piece
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import GenerateRequest, Usage
from tests.support.llm_script import (
    END,
    LlmScript,
    Script,
    compressed,
    endless_line,
    line,
    llm_script,
    problem,
    refuses,
    reset,
    sends,
)
from tests.support.waiting import eventually
from workers import generate
from workers.generate import Done, FallbackRestart, LlmService, State, connect
from workers.settings import WorkerSettings
from workers.timings import Timings

CANARY = "canary-93c1"
HEAD: dict[str, Any] = {"index": 0, "id": "call_1", "name": "weather"}
ARGUMENTS: dict[str, Any] = {"index": 0, "text": "{}"}
SCRIPTS: dict[str, Script] = {
    "whole": sends(line(delta="The "), line(delta="fox \N{FOX FACE}"), END),
    "one_by_one": sends(*(bytes([byte]) for byte in line(delta="ü\N{FOX FACE}") + END)),
    "all_at_once": sends(line(delta="a") + line(delta="b") + END),
    "no_last_newline": sends(line(delta="a"), END.rstrip()),
    "empty_lines": sends(b"\n\n", line(delta="a"), b"\n", END),
    "empty_answer": sends(END),
    "restarts": sends(line(delta="half"), line(restart={"model": "other", "more": 1}), line(delta="whole"), END),
    "restart_of_a_kind": sends(line(delta="half"), line(restart="other"), END),
    "half": sends(line(delta="first "), line(delta="second")),
    "nothing": sends(),
    "cut_in_a_line": sends(line(delta="first "), b'{"delta": "sec'),
    "garbage": sends(line(delta="a"), b"\x00<html>\n"),
    "list": sends(b"[]\n"),
    "number": sends(b"7\n"),
    "null": sends(b"null\n"),
    "delta_of_a_kind": sends(line(delta=7), END),
    "done_of_a_kind": sends(line(done="yes")),
    "no_usage": sends(line(done=True)),
    "usage_of_a_kind": sends(line(done=True, usage={"input_tokens": "many", "output_tokens": -1})),
    "unknown_line": sends(line(hello="you"), END),
    "error_of_a_kind": sends(line(error="oh")),
    "error_code_of_a_kind": sends(line(error={"code": ["x"], "detail": 1})),
    "unknown_error": sends(line(error={"code": "internal", "detail": CANARY})),
    "error_inside": sends(line(delta="a"), line(error={"code": "overloaded", "detail": "later", "retry_after": 3})),
    "error_in_the_past": sends(line(error={"code": "rate_limited", "detail": "x", "retry_after": -5})),
    "nul": sends(line(delta="a\0b"), END),
    "all_kinds": sends(
        line(reasoning="so\0"),
        line(delta="I "),
        line(delta="look."),
        line(tool=HEAD),
        line(tool_delta=ARGUMENTS),
        line(tool={**HEAD, "index": 1, "id": "call\0"}),
        line(tool_delta={"index": 1, "text": "\0"}),
        line(refusal="no\0"),
        line(state={"provider": "p", "a\0": ["\0", {"b": None}]}),
        END,
    ),
    "restarts_with_calls": sends(line(tool=HEAD), line(restart={"model": "other"}), line(tool=HEAD), END),
    "arguments_first": sends(line(tool_delta=ARGUMENTS), END),
    "arguments_late": sends(line(tool=HEAD), line(delta="text"), line(tool_delta=ARGUMENTS), END),
    "arguments_after_reasoning": sends(line(tool=HEAD), line(reasoning="so"), line(tool_delta=ARGUMENTS), END),
    "arguments_of_a_call_before": sends(
        line(tool=HEAD), line(tool={**HEAD, "index": 1}), line(tool_delta=ARGUMENTS), END
    ),
    "call_out_of_order": sends(line(tool={**HEAD, "index": 1}), END),
    "call_twice": sends(line(tool=HEAD), line(tool=HEAD), END),
    "calls_without_end": sends(*(line(tool={**HEAD, "index": index}) for index in range(129)), END),
    "call_without_id": sends(line(tool={**HEAD, "id": ""}), END),
    "call_of_a_kind": sends(line(tool={"index": "first", "id": 1}), END),
    "call_of_no_function": sends(line(tool={**HEAD, "name": "not a name"}), END),
    "arguments_of_a_kind": sends(line(tool=HEAD), line(tool_delta={"index": 0, "text": {}}), END),
    "reasoning_of_a_kind": sends(line(reasoning=7), END),
    "refusal_of_a_kind": sends(line(refusal=["no"]), END),
    "state_of_a_kind": sends(line(state="opaque"), END),
    "state_without_end": sends(b'{"state": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}\n", END),
    "endless_line": endless_line,
    "reset": reset,
    "compressed": compressed,
    "redirect": refuses(307, Location="/elsewhere"),
    "server_error": refuses(500, b"<html>" + b"x" * 1_000_000),
    "rate_limited": refuses(429, problem("rate_limited"), Retry_After="7"),
    "rate_limited_plain": refuses(429, b"slow down", Retry_After="7"),
    "retry_after_date": refuses(503, problem("overloaded"), Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"),
    "retry_after_nonsense": refuses(503, problem("overloaded"), Retry_After="-3"),
    "unauthorized": refuses(401, problem("unauthorized", CANARY)),
    "unknown_model": refuses(422, problem("unknown_model", "no such model")),
    "problem_of_a_kind": refuses(400, b'["code"]'),
    "problem_code_of_a_kind": refuses(400, problem("invalid_request", "x" * 10_000)),
    "problem_with_nul": refuses(422, problem("invalid_request", "a\0b")),
}


@pytest.fixture
async def service() -> AsyncIterator[LlmScript]:
    """A scripted LLM service."""
    async with llm_script(**SCRIPTS) as running:
        yield running


@pytest.fixture
async def llm(service: LlmScript) -> AsyncIterator[LlmService]:
    """A worker's client to it."""
    async with connect(settings(service.url)) as client:
        yield client


def settings(url: str, **more: str) -> WorkerSettings:
    """A worker's settings with this LLM service."""
    return WorkerSettings.model_validate({"orchestra_secret": "s" * 32, "llm_service_url": url, **more})


def body(model: str) -> GenerateRequest:
    """A request to a model."""
    return GenerateRequest.model_validate(
        {"model": model, "messages": [{"role": "user", "content": CANARY}], "stream": True}
    )


async def answer(llm: LlmService, model: str) -> tuple[str, Usage]:
    """The text and usage of a complete answer."""
    pieces: list[str] = []
    usage = None
    async for piece in llm.generate(body(model)):
        if isinstance(piece, Done):
            usage = piece.usage
        elif isinstance(piece, FallbackRestart):
            pieces.clear()
        elif isinstance(piece, str):
            pieces.append(piece)
    assert usage is not None
    return "".join(pieces), usage


async def error(llm: LlmService, model: str) -> OrchestraError:
    """The error of a call, which must not repeat the request."""
    with pytest.raises(OrchestraError) as raised:
        await answer(llm, model)
    assert CANARY not in f"{raised.value} {raised.value.detail}"
    return raised.value


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("whole", "The fox \N{FOX FACE}"),
        ("one_by_one", "ü\N{FOX FACE}"),
        ("all_at_once", "ab"),
        ("no_last_newline", "a"),
        ("empty_lines", "a"),
        ("empty_answer", ""),
        ("nul", "a\N{REPLACEMENT CHARACTER}b"),
        ("compressed", "text"),
        ("restarts", "whole"),
    ],
)
async def test_a_whole_stream_is_its_text_and_usage(llm: LlmService, model: str, text: str) -> None:
    """A complete stream gives its text and usage, wherever its bytes are split."""
    assert (text, Usage(input_tokens=3, output_tokens=2)) == await answer(llm, model)


async def test_an_answer_of_all_kinds_comes_in_order(llm: LlmService) -> None:
    """Every kind of piece arrives as it was sent, but for U+0000, which cannot be stored."""
    pieces = [piece async for piece in llm.generate(body("all_kinds"))]

    head = Piece("tool_call", "", 0, "call_1", "weather")
    assert [
        Piece("reasoning", "so\ufffd"), "I ", "look.", head, Piece("tool_arguments", "{}", 0),
        replace(head, index=1, call_id="call\ufffd"), Piece("tool_arguments", "\ufffd", 1),
        Piece("refusal", "no\ufffd"), State({"provider": "p", "a\ufffd": ["\ufffd", {"b": None}]}),
        Done(Usage(input_tokens=3, output_tokens=2)),
    ] == pieces  # fmt: skip


async def test_calls_are_counted_from_a_restart(llm: LlmService) -> None:
    """The first call of a fallback's answer is number 0 again."""
    head = Piece("tool_call", "", 0, "call_1", "weather")
    pieces = [piece async for piece in llm.generate(body("restarts_with_calls"))]

    assert [head, FallbackRestart(), head] == pieces[:-1]


@pytest.mark.parametrize(
    "model",
    "half nothing cut_in_a_line garbage list number null delta_of_a_kind done_of_a_kind no_usage usage_of_a_kind"
    " unknown_line restart_of_a_kind error_of_a_kind error_code_of_a_kind unknown_error endless_line reset redirect"
    " server_error problem_of_a_kind arguments_first arguments_late arguments_after_reasoning call_out_of_order"
    " arguments_of_a_call_before call_twice calls_without_end call_without_id call_of_a_kind call_of_no_function"
    " arguments_of_a_kind reasoning_of_a_kind refusal_of_a_kind state_of_a_kind state_without_end".split(),
)
async def test_nonsense_is_bad_upstream(llm: LlmService, model: str) -> None:
    """A broken, incomplete or unreadable stream is BAD_UPSTREAM and never an answer."""
    assert ErrorCode.BAD_UPSTREAM is (await error(llm, model)).code


@pytest.mark.parametrize(
    ("model", "code", "retry_after"),
    [
        ("error_inside", ErrorCode.OVERLOADED, 3.0),
        ("error_in_the_past", ErrorCode.RATE_LIMITED, 0.0),
        ("rate_limited", ErrorCode.RATE_LIMITED, 7.0),
        ("rate_limited_plain", ErrorCode.RATE_LIMITED, 7.0),
        ("retry_after_date", ErrorCode.OVERLOADED, None),
        ("retry_after_nonsense", ErrorCode.OVERLOADED, 0.0),
        ("unauthorized", ErrorCode.AUTH, None),
        ("unknown_model", ErrorCode.UNKNOWN_MODEL, None),
        ("problem_code_of_a_kind", ErrorCode.INVALID_REQUEST, None),
        ("problem_with_nul", ErrorCode.INVALID_REQUEST, None),
    ],
)
async def test_a_refusal_is_told_by_name(
    llm: LlmService, model: str, code: ErrorCode, retry_after: float | None
) -> None:
    """A refusal before or during the stream has its code and a retry_after that is never negative."""
    refused = await error(llm, model)

    assert (code, retry_after) == (refused.code, refused.retry_after)
    assert len(refused.detail) <= 500
    assert "\0" not in refused.detail


class Watched(bytes):
    """Bytes that count how many of them are copied or searched, also inside other bytes."""

    handled = 0

    def split(self, *separator: Any) -> list[bytes]:
        Watched.handled += len(self)
        return [Watched(part) for part in super().split(*separator)]

    def __add__(self, other: Any) -> "Watched":
        Watched.handled += len(self) + len(other)
        return Watched(super().__add__(other))

    def __radd__(self, other: Any) -> Any:
        Watched.handled += len(self)
        if isinstance(other, bytearray):  # It grows in place.
            return NotImplemented
        Watched.handled += len(other)
        return Watched(other.__add__(bytes(self)))


async def test_the_work_for_a_line_grows_as_its_bytes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work for a line that arrives byte by byte grows linearly with its length."""
    monkeypatch.setattr(Watched, "handled", 0)
    sent = line(delta="x" * 10_000) + line(delta="y" * 10_000)
    pieces = [Watched(sent[at : at + 1]) for at in range(len(sent))]
    response: Any = SimpleNamespace(content=SimpleNamespace(readany=AsyncMock(side_effect=[*pieces, b""])))

    lines = [each async for each in generate._lines(response)]

    assert sent.splitlines() == lines
    assert Watched.handled <= 3 * len(sent)


async def test_silence_is_a_timeout(service: LlmScript) -> None:
    """Silence before the first byte or in the middle of the stream is a timeout."""
    async with connect(settings(service.url), Timings(silence=0.2)) as llm:
        for model in ("mute", "hang"):
            assert ErrorCode.TIMEOUT is (await error(llm, model)).code
    await asyncio.gather(*(call.left.wait() for call in service.calls))


async def test_nobody_there_is_unavailable() -> None:
    """A refused connection is UNAVAILABLE."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with connect(settings(f"http://127.0.0.1:{nobody.getsockname()[1]}")) as llm:
            assert ErrorCode.UNAVAILABLE is (await error(llm, "whole")).code
            with pytest.raises(OrchestraError):
                await llm.models()


async def test_who_stops_reading_closes_the_call(service: LlmScript, llm: LlmService) -> None:
    """A reader that stops closes the call, and the service notices at once."""
    async with aclosing(llm.generate(body("hang"))) as pieces:
        assert "first " == await anext(pieces)

    await asyncio.wait_for(service.calls[0].left.wait(), 10)


async def test_a_cancelled_task_closes_the_call(service: LlmScript, llm: LlmService) -> None:
    """A cancelled task closes its call, in the middle of the stream or before it starts."""
    for model in ("hang", "mute"):
        task = asyncio.create_task(answer(llm, model))
        call = await eventually(lambda model=model: [c for c in service.calls if c.body["model"] == model])  # type: ignore[misc]
        task.cancel()
        await asyncio.wait([task])
        await asyncio.wait_for(call[0].left.wait(), 10)


async def test_a_connection_is_used_again(service: LlmScript, llm: LlmService) -> None:
    """A connection is reused after a complete answer and after a refusal."""
    for model in ("whole", "rate_limited", "whole", "error_inside", "whole"):
        try:
            await answer(llm, model)
        except OrchestraError:
            continue

    assert 5 == len(service.calls)
    assert 1 == len(service.connections)


async def test_many_calls_are_open_at_once(service: LlmScript, llm: LlmService) -> None:
    """The client itself does not limit the number of open calls."""
    tasks = [asyncio.create_task(answer(llm, "hang")) for _ in range(300)]

    await eventually(lambda: service.open_now == 300)

    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_the_token_is_sent_and_redirects_are_not_followed(service: LlmScript) -> None:
    """The token goes to the service with every call and nowhere else; without a token there is no header."""
    async with connect(settings(service.url, llm_service_token=CANARY)) as llm:
        await answer(llm, "whole")
        with pytest.raises(OrchestraError):
            await answer(llm, "redirect")
    async with connect(settings(service.url)) as llm:
        await answer(llm, "whole")

    assert [f"Bearer {CANARY}", f"Bearer {CANARY}", None] == [
        each.headers.get("Authorization") for each in service.calls
    ]


async def test_the_body_is_what_the_contract_says(service: LlmScript, llm: LlmService) -> None:
    """The body follows the contract, and absent values are left out."""
    await answer(llm, "whole")

    assert body("whole").model_dump(exclude_none=True) == service.calls[0].body


async def test_models_are_listed(llm: LlmService) -> None:
    """Models are listed as the service offers them."""
    assert ["m"] == [each.name for each in (await llm.models()).data]


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (web.Response(body=b"<html>"), ErrorCode.BAD_UPSTREAM),
        (web.Response(body=b'{"data": [{"name": 7}]}'), ErrorCode.BAD_UPSTREAM),
        (web.Response(status=401, body=problem("unauthorized")), ErrorCode.AUTH),
        (web.Response(status=503, body=b"busy"), ErrorCode.UNAVAILABLE),
    ],
)
async def test_a_list_that_cannot_be_read_is_an_error(
    service: LlmScript, llm: LlmService, response: web.Response, code: ErrorCode
) -> None:
    """A list that cannot be parsed is a named error and never a crash."""
    service.models = response

    with pytest.raises(OrchestraError) as raised:
        await llm.models()

    assert code is raised.value.code

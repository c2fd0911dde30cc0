import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from llm_service.providers.base import Call, EndOfText, Piece
from llm_service.providers.connection import UpstreamLimits
from llm_service.providers.openai_compatible import OpenAICompatible
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, Usage
from tests.support.llm_server import eventually
from tests.support.llm_upstream import TEXT, Upstream, upstream

CANARY = "canary-7d1f"
LIMITS = UpstreamLimits(connect_seconds=5, idle_seconds=20, reply_bytes=100_000)


@pytest.fixture
async def server() -> AsyncIterator[Upstream]:
    async with upstream() as started:
        yield started


@asynccontextmanager
async def _provider(
    url: str, key: str | None = None, *, openai_itself: bool = False
) -> AsyncIterator[OpenAICompatible]:
    provider = OpenAICompatible(url, key, LIMITS, openai_itself=openai_itself)
    try:
        yield provider
    finally:
        await provider.aclose()


def _call(model: str, **more: object) -> Call:
    return Call(model=model, messages=[ChatMessage(role="user", content=CANARY)], max_tokens=9, **more)  # type: ignore[arg-type]


async def _pieces(url: str, model: str) -> list[Piece]:
    async with _provider(url) as provider:
        return [piece async for piece in provider.stream(_call(model))]


async def test_the_call_says_what_was_asked_and_no_more(server: Upstream) -> None:
    """The server gets model, messages, limit and the options that were given; what was not given is left out."""
    async with _provider(server.url, "key") as provider:
        _ = [piece async for piece in provider.stream(_call("whole", temperature=0.0, stop=["x"]))]

    assert server.calls[0].headers["Authorization"] == "Bearer key"
    assert server.calls[0].body == {
        "model": "whole",
        "messages": [{"role": "user", "content": CANARY}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "temperature": 0.0,
        "stop": ["x"],
    }


async def test_a_server_need_not_be_asked_for_its_count(server: Upstream) -> None:
    """Some servers refuse a call with `stream_options`; the tokens that they do not tell are estimated."""
    async with _provider(server.url) as provider:
        *_, ending = [piece async for piece in provider.stream(_call("no_usage", stream_options=False))]

    assert "stream_options" not in server.calls[0].body
    assert isinstance(ending, EndOfText)
    assert ending.usage == Usage(input_tokens=4, output_tokens=3)


async def test_the_trace_goes_along(server: Upstream) -> None:
    """The provider learns to which trace a call belongs, where there is one."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with _provider(server.url) as provider:
        for each in (trace, None):
            _ = [piece async for piece in provider.stream(_call("whole", traceparent=each))]

    assert [call.headers.get("traceparent") for call in server.calls] == [trace, None]


async def test_openai_itself_has_its_own_name_for_the_limit(server: Upstream) -> None:
    """Newer models of OpenAI refuse `max_tokens`."""
    async with _provider(server.url, openai_itself=True) as provider:
        _ = [piece async for piece in provider.stream(_call("whole"))]

    assert server.calls[0].body["max_completion_tokens"] == 9
    assert "max_tokens" not in server.calls[0].body


@pytest.mark.parametrize(
    ("model", "text", "usage", "finish_reason"),
    [
        ("whole", TEXT, (11, 7), "stop"),
        ("linger", TEXT, (11, 7), "stop"),
        ("no_done", "ok", (11, 7), "stop"),
        ("no_usage", "abcdefg", (4, 3), "stop"),
        ("cut_short", "ok", (11, 7), "length"),
        ("unstorable", "a\ufffdb\ufffdc", (11, 7), "stop"),
        ("halves", "a\N{GRINNING FACE}b\ufffd", (11, 7), "stop"),
        ("uncounted", "abcdefg", (4, 3), "stop"),
        ("long_comment", "ok", (11, 7), "stop"),
        ("created", "ok", (11, 7), "stop"),
        ("gzip", "ok", (11, 7), "stop"),
        ("deflate", "ok", (11, 7), "stop"),
        ("whole_document", "ok", (11, 7), "stop"),
        ("separators", "a\u2028b\u2029c\x85d", (11, 7), "stop"),
        ("bom", "ok", (11, 7), "stop"),
        ("carriage_returns", "ok", (11, 7), "stop"),
        ("byte_by_byte", "ok", (11, 7), "stop"),
        ("unfinished", "ok", (11, 7), "stop"),
        ("nothing_but_length", "", (11, 7), "length"),
        ("in_message", "ok", (11, 7), "stop"),
        ("in_messages", "ok", (4, 1), "stop"),
        ("told_twice", "ok", (4, 1), "stop"),
        ("in_text", "ok", (4, 1), "stop"),
        ("as_document", "ok", (11, 7), "stop"),
        ("as_document_of_text", "ok", (11, 7), "stop"),
        ("as_document_after_blanks", "ok", (4, 1), "stop"),
        ("in_refusal", "ok", (4, 1), "stop"),
        ("in_parts", "ok", (4, 1), "stop"),
        ("silent_after_its_end", "ok", (4, 1), "stop"),
        ("reset_after_its_end", "ok", (4, 1), "stop"),
        ("only_done", "ok", (4, 1), "stop"),
        ("done_unfinished", "ok", (4, 1), "stop"),
        ("in_last_line", "ok", (4, 1), "stop"),
        ("reasoning_cut", "", (4, 0), "length"),
    ],
)
async def test_a_whole_answer_is_read(
    server: Upstream, model: str, text: str, usage: tuple[int, int], finish_reason: str
) -> None:
    """Text, usage and finish reason come out whatever the server's manners, and wherever it puts them."""
    *deltas, ending = await _pieces(server.url, model)

    assert "".join(str(delta) for delta in deltas) == text
    assert isinstance(ending, EndOfText)
    assert ending.usage == Usage(input_tokens=usage[0], output_tokens=usage[1])
    assert ending.finish_reason == finish_reason


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("half", ErrorCode.BAD_UPSTREAM),
        ("reset", ErrorCode.BAD_UPSTREAM),
        ("garbage", ErrorCode.BAD_UPSTREAM),
        ("html", ErrorCode.BAD_UPSTREAM),
        ("huge", ErrorCode.BAD_UPSTREAM),
        ("endless_line", ErrorCode.BAD_UPSTREAM),
        ("gzip_broken", ErrorCode.BAD_UPSTREAM),
        ("gzip_bomb", ErrorCode.BAD_UPSTREAM),
        ("br", ErrorCode.BAD_UPSTREAM),
        ("gzip_error", ErrorCode.CONTEXT_TOO_LONG),
        ("no_model", ErrorCode.UNKNOWN_MODEL),
        ("nothing", ErrorCode.EMPTY_REPLY),
        ("done_alone", ErrorCode.EMPTY_REPLY),
        ("no_choices", ErrorCode.EMPTY_REPLY),
        ("reasoning", ErrorCode.EMPTY_REPLY),
        ("tool", ErrorCode.EMPTY_REPLY),
        ("tool_calls", ErrorCode.EMPTY_REPLY),
        ("tool_calls_cut", ErrorCode.EMPTY_REPLY),
        ("tool_calls_in_document", ErrorCode.EMPTY_REPLY),
        ("elsewhere", ErrorCode.BAD_UPSTREAM),
        ("elsewhere_cut", ErrorCode.BAD_UPSTREAM),
        ("other_document", ErrorCode.BAD_UPSTREAM),
        ("half_a_document", ErrorCode.BAD_UPSTREAM),
        ("bare_error", ErrorCode.CONTEXT_TOO_LONG),
        ("error_object", ErrorCode.CONTEXT_TOO_LONG),
        ("error_detail", ErrorCode.RATE_LIMITED),
        ("error_message", ErrorCode.OVERLOADED),
        ("error_named", ErrorCode.RATE_LIMITED),
        ("error_text", ErrorCode.OVERLOADED),
        ("error_beside", ErrorCode.BAD_UPSTREAM),
        ("error_document", ErrorCode.QUOTA_EXHAUSTED),
        ("error_documents", ErrorCode.REFUSED_BY_PROVIDER),
        ("error_at_last", ErrorCode.BAD_UPSTREAM),
        ("endless_event", ErrorCode.BAD_UPSTREAM),
        ("redirect", ErrorCode.BAD_UPSTREAM),
        ("big_error", ErrorCode.BAD_UPSTREAM),
        ("server_error", ErrorCode.BAD_UPSTREAM),
        ("error_inside", ErrorCode.OVERLOADED),
        ("filtered", ErrorCode.CONTENT_FILTER),
        ("too_long", ErrorCode.CONTEXT_TOO_LONG),
        ("unauthorized", ErrorCode.AUTH),
        ("rate_limited", ErrorCode.RATE_LIMITED),
    ],
)
async def test_every_fault_has_its_code_and_repeats_nothing(server: Upstream, model: str, code: ErrorCode) -> None:
    """A fault is one code of the closed list, and the prompt, which the server repeats, is not in it."""
    with pytest.raises(OrchestraError) as failed:
        await _pieces(server.url, model)

    assert failed.value.code == code
    assert not any(secret in failed.value.detail for secret in (CANARY, "secret prompt"))
    assert len(server.calls) == 1


async def test_what_came_in_place_of_an_answer_is_told(server: Upstream) -> None:
    """Tools are named where they are why there is no text."""
    with pytest.raises(OrchestraError, match="tools are not supported"):
        await _pieces(server.url, "tool_calls")
    with pytest.raises(OrchestraError, match="no readable text"):
        await _pieces(server.url, "elsewhere")


async def test_leaving_early_closes_the_call(server: Upstream) -> None:
    """The server sees the connection close when the stream is no longer wanted."""
    async with _provider(server.url) as provider, aclosing(provider.stream(_call("hang"))) as pieces:
        await anext(pieces)

    async with asyncio.timeout(20):
        await server.calls[0].left.wait()


async def test_cancelling_before_the_first_byte_closes_the_call(server: Upstream) -> None:
    """A call that waits for its first byte ends with the task that made it."""
    task = asyncio.create_task(_pieces(server.url, "silent"))
    await eventually(lambda: len(server.calls) == 1)
    task.cancel()

    async with asyncio.timeout(20):
        await server.calls[0].left.wait()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_check_asks_for_the_list_of_models(server: Upstream) -> None:
    """A check passes where the list is given, repeats what refuses it, and generates nothing."""
    async with _provider(server.url, "key") as provider:
        await provider.check()
    async with _provider(f"{server.url}/other", "key") as provider:
        with pytest.raises(OrchestraError, match="404"):
            await provider.check()

    assert server.calls == []


async def test_nobody_listening_is_no_timeout() -> None:
    """A refused connection is `unavailable`: no call was made, and none can be for now."""
    with pytest.raises(OrchestraError) as failed:
        await _pieces("http://127.0.0.1:9/v1", "whole")

    assert failed.value.code == ErrorCode.UNAVAILABLE


@pytest.mark.parametrize(
    "answer", [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\x00" * 100]
)
async def test_a_server_that_speaks_no_http_is_bad_upstream(answer: bytes) -> None:
    """Bytes that are no HTTP answer are refused by name."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as listener:
        with pytest.raises(OrchestraError) as failed:
            await _pieces(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", "whole")

    assert failed.value.code == ErrorCode.BAD_UPSTREAM

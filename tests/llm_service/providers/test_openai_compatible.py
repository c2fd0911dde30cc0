import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from llm_service.providers.base import Call, EndOfText, Piece, State
from llm_service.providers.connection import UpstreamLimits
from llm_service.providers.openai_compatible import OpenAICompatible
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, Options, Usage
from tests.support.llm_server import eventually
from tests.support.llm_upstream import TEXT, Upstream, upstream
from tests.support.llm_wires import items, items_in

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


def _call(model: str, *, stream_options: bool = True, traceparent: str | None = None, **options: object) -> Call:
    return Call(
        model=model,
        messages=[ChatMessage(role="user", content=CANARY)],
        max_tokens=9,
        options=Options.model_validate(options),
        stream_options=stream_options,
        traceparent=traceparent,
    )


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


_PNG = "data:image/png;base64,iVBORw0KGgo="
_PARTS = [
    {"type": "text", "text": "look"},
    {"type": "image_url", "image_url": {"url": _PNG, "detail": "low"}},
    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"}},
]
_CALLS = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"n":1}'}}]
_DIALOGUE: list[dict[str, Any]] = [
    {"role": "developer", "content": "be kind"},
    {"role": "user", "content": _PARTS, "name": "Ann"},
    {"role": "assistant", "content": None, "tool_calls": _CALLS},
    {"role": "tool", "tool_call_id": "a", "content": "2"},
    {"role": "assistant", "content": None, "refusal": "no"},
    {"role": "user", "content": "why?"},
]
_SCHEMA = {"name": "s", "schema": {"type": "object"}, "strict": True, "description": None}
_OPTIONS = {
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": None}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": _SCHEMA},
    "seed": 7,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "reasoning_effort": "low",
    "user": "u-17",
    "reasoning": "include",
}


def _items_call(model: str, messages: list[dict[str, Any]], provider: str = "vllm", **options: object) -> Call:
    said = [ChatMessage.model_validate(message) for message in messages]
    return Call(model, said, 9, options=Options.model_validate(options), text_only=False, provider=provider)


async def _sent(server: Upstream, call: Call, *, openai_itself: bool = False) -> dict[str, Any]:
    async with _provider(server.url, openai_itself=openai_itself) as provider:
        _ = [piece async for piece in provider.stream(call)]
    return server.calls[-1].body


async def test_all_that_a_request_has_is_sent(server: Upstream) -> None:
    """Parts, calls, results and options go out as they came in; null and what is ours stay here."""
    body = await _sent(server, _items_call("whole", _DIALOGUE, **_OPTIONS))

    assert body["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": _PARTS, "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": _CALLS},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "why?"},
    ]
    function = {"name": "f", "parameters": {"type": "object"}}
    schema = {name: value for name, value in _SCHEMA.items() if value is not None}
    same = {name: value for name, value in _OPTIONS.items() if name not in ("tools", "response_format", "reasoning")}
    rest = {name: value for name, value in body.items() if name != "messages"}
    assert rest == {
        "model": "whole",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "tools": [{"type": "function", "function": function}],
        "response_format": {"type": "json_schema", "json_schema": schema},
        **same,
    }


async def test_openai_itself_has_names_that_others_do_not(server: Upstream) -> None:
    """The role `developer` and the field `refusal` are only sent to OpenAI."""
    messages = (await _sent(server, _items_call("whole", _DIALOGUE), openai_itself=True))["messages"]

    assert messages[0] == {"role": "developer", "content": "be kind"}
    assert messages[4] == {"role": "assistant", "content": None, "refusal": "no"}


async def test_the_items_of_an_answer_come_out_in_order(server: Upstream) -> None:
    """Reasoning, text and calls, streamed or in one document, and why it ended."""
    for model in ("items", "items_document"):
        async with _provider(server.url) as provider:
            call = _items_call(model, _DIALOGUE, tools=_OPTIONS["tools"], reasoning="include")
            *pieces, state, ending = [piece async for piece in provider.stream(call)]

        assert items_in(pieces) == items("call_1", "call_2")
        assert state == State({"provider": "vllm", "reasoning_content": "hm"})
        assert ending == EndOfText(Usage(input_tokens=11, output_tokens=7), "tool_calls")


@pytest.mark.parametrize(("provider", "returned"), [("vllm", True), ("gemini", False)])
async def test_state_is_returned_to_its_own_provider_only(server: Upstream, provider: str, *, returned: bool) -> None:
    """What came with a call goes back with it, unchanged; another provider never sees it."""
    extra = {"google": {"thought_signature": "x"}}
    state = {"provider": provider, "reasoning_content": "hm", "calls": {"a": extra}, "content": "forged"}
    messages = [*_DIALOGUE[:2], {**_DIALOGUE[2], "state": state}, *_DIALOGUE[3:]]
    sent = (await _sent(server, _items_call("whole", messages)))["messages"][2]

    more = {"reasoning_content": "hm"} if returned else {}
    calls = [{**_CALLS[0], "extra_content": extra}] if returned else _CALLS
    assert sent == {"role": "assistant", "content": None, "tool_calls": calls, **more}


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [("", "{}"), ('{"n":', '{"unreadable":"{\\"n\\":"}'), ("[1]", '{"unreadable":"[1]"}')],
)
async def test_arguments_that_were_cut_off_are_sent_as_json(server: Upstream, arguments: str, sent: str) -> None:
    """Servers reject a dialogue for one call whose arguments are no object."""
    called = {**_DIALOGUE[2], "tool_calls": [{**_CALLS[0], "function": {"name": "f", "arguments": arguments}}]}
    messages = (await _sent(server, _items_call("whole", [called, *_DIALOGUE[3:]])))["messages"]

    assert messages[0]["tool_calls"][0]["function"]["arguments"] == sent


@pytest.mark.parametrize(("choice", "refused"), [("required", True), ("auto", False), ("none", False)])
async def test_a_model_that_calls_no_tools_is_not_made_to(server: Upstream, choice: str, *, refused: bool) -> None:
    """The embedded model's server reads no tools: a call that must be made is refused by name."""
    call = _items_call("whole", _DIALOGUE, tools=_OPTIONS["tools"], tool_choice=choice)
    provider = OpenAICompatible(server.url, None, LIMITS, calls_tools=False)
    try:
        if refused:
            with pytest.raises(OrchestraError, match=r"^tool_choice: ") as error:
                await anext(provider.stream(call))
            assert error.value.code == ErrorCode.UNSUPPORTED_OPTION
        else:
            assert [piece async for piece in provider.stream(call)]
    finally:
        await provider.aclose()
    assert len(server.calls) == (not refused)

"""What the library's providers make of real wire formats, and that the library does nothing behind our back."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from any_llm.exceptions import AuthenticationError, ContextLengthExceededError, ProviderError, RateLimitError

from llm_service.providers.any_llm import ProviderSetupError, ThroughAnyLLM
from llm_service.providers.any_llm_dialogue import turns
from llm_service.providers.base import Call, EndOfText, Piece, State
from llm_service.providers.connection import UpstreamLimits
from orchestra.transcript import Piece as Item
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, Options, Usage
from tests.support.llm_server import eventually
from tests.support.llm_upstream import TEXT, Upstream, upstream
from tests.support.llm_wires import items, items_in

CANARY = "canary-7d1f"
KEY = "key-51c2"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LIMITS = UpstreamLimits(connect_seconds=5, idle_seconds=20, reply_bytes=100_000)
kinds = pytest.mark.parametrize("kind", ["anthropic", "gemini"])


@pytest.fixture
async def server() -> AsyncIterator[Upstream]:
    async with upstream() as started:
        yield started


@asynccontextmanager
async def _provider(kind: str, url: str) -> AsyncIterator[ThroughAnyLLM]:
    provider = ThroughAnyLLM(kind, url, KEY, LIMITS)
    try:
        yield provider
    finally:
        await provider.aclose()


def _call(model: str, *messages: tuple[str, str], traceparent: str | None = None, **options: object) -> Call:
    spoken = messages or (("user", CANARY),)
    chat = [ChatMessage.model_validate({"role": role, "content": content}) for role, content in spoken]
    asked = Options.model_validate(options)
    return Call(model=model, messages=chat, max_tokens=9, options=asked, traceparent=traceparent)


async def _pieces(kind: str, url: str, call: Call) -> list[Piece]:
    async with _provider(kind, url) as provider:
        return [piece async for piece in provider.stream(call)]


_DIALOGUE = (
    ("system", "be kind"),
    ("user", "one"),
    ("user", "two"),
    ("assistant", "three"),
    ("system", "be brief"),
    ("user", "four"),
)


async def test_anthropic_gets_roles_in_turn_and_the_system_apart(server: Upstream) -> None:
    """System messages are where Anthropic wants them, and neighbours of one role are one message."""
    await _pieces("anthropic", server.root, _call("whole", *_DIALOGUE, temperature=0.0, stop=["x"]))

    assert server.calls[0].headers["x-api-key"] == KEY
    assert server.calls[0].body == {
        "model": "whole",
        "system": "be kind\n\nbe brief",
        "messages": [
            {"role": "user", "content": "one\n\ntwo"},
            {"role": "assistant", "content": "three"},
            {"role": "user", "content": "four"},
        ],
        "max_tokens": 9,
        "temperature": 0.0,
        "stop_sequences": ["x"],
        "stream": True,
    }


async def test_gemini_gets_roles_in_turn_and_the_system_apart(server: Upstream) -> None:
    """The same dialogue in Gemini's shape, with the key in a header and not in the address."""
    await _pieces("gemini", server.root, _call("whole", *_DIALOGUE, top_p=0.5))
    body = server.calls[0].body

    assert server.calls[0].headers["x-goog-api-key"] == KEY
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "one\n\ntwo"}]},
        {"role": "model", "parts": [{"text": "three"}]},
        {"role": "user", "parts": [{"text": "four"}]},
    ]
    assert body["systemInstruction"] == {"role": "user", "parts": [{"text": "be kind\n\nbe brief"}]}
    assert body["generationConfig"] == {"maxOutputTokens": 9, "topP": 0.5}


@kinds
@pytest.mark.parametrize(
    ("model", "text", "finish_reason"),
    [
        ("whole", TEXT, "stop"),
        ("linger", TEXT, "stop"),
        ("cut_short", "ok", "length"),
        ("nothing_but_length", "", "length"),
        ("long_comment", "ok", "stop"),
        ("created", "ok", "stop"),
        ("gzip", "ok", "stop"),
        ("deflate", "ok", "stop"),
        ("whole_document", "ok", "stop"),
        ("separators", "a\u2028b\u2029c\x85d", "stop"),
        ("bom", "ok", "stop"),
        ("carriage_returns", "ok", "stop"),
        ("byte_by_byte", "ok", "stop"),
        ("unfinished", "ok", "stop"),
    ],
)
async def test_a_whole_answer_is_read(server: Upstream, kind: str, model: str, text: str, finish_reason: str) -> None:
    """Text, the provider's own count of tokens and the finish reason come out."""
    *deltas, ending = await _pieces(kind, server.root, _call(model))

    assert "".join(str(delta) for delta in deltas) == text
    assert ending == EndOfText(Usage(input_tokens=11, output_tokens=7), finish_reason)  # type: ignore[arg-type]


@kinds
async def test_what_cannot_be_stored_is_replaced(server: Upstream, kind: str) -> None:
    """U+0000 never leaves the service."""
    *deltas, _ending = await _pieces(kind, server.root, _call("unstorable"))

    assert "".join(str(delta) for delta in deltas).startswith("a\ufffdb")


@kinds
async def test_a_character_in_halves_is_joined(server: Upstream, kind: str) -> None:
    """Whatever the library makes of the halves, what is passed on is text; Anthropic's passes them on."""
    *deltas, _ending = await _pieces(kind, server.root, _call("halves"))

    text = "".join(str(delta) for delta in deltas)
    assert text.encode().decode() == text
    assert kind == "gemini" or text == "a\N{GRINNING FACE}b\ufffd"


@kinds
async def test_tokens_that_were_not_counted_are_estimated(server: Upstream, kind: str) -> None:
    """Servers that do not count tell 0, and a prompt and an answer of no tokens there cannot be."""
    *_, ending = await _pieces(kind, server.root, _call("uncounted"))

    assert ending == EndOfText(Usage(input_tokens=4, output_tokens=3))


@kinds
@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("half", ErrorCode.BAD_UPSTREAM),
        ("reset", ErrorCode.BAD_UPSTREAM),
        ("garbage", ErrorCode.BAD_UPSTREAM),
        ("html", ErrorCode.BAD_UPSTREAM),
        ("huge", ErrorCode.BAD_UPSTREAM),
        ("endless_line", ErrorCode.BAD_UPSTREAM),
        ("endless_event", ErrorCode.BAD_UPSTREAM),
        ("gzip_broken", ErrorCode.BAD_UPSTREAM),
        ("gzip_bomb", ErrorCode.BAD_UPSTREAM),
        ("br", ErrorCode.BAD_UPSTREAM),
        ("gzip_error", ErrorCode.CONTEXT_TOO_LONG),
        ("redirect", ErrorCode.BAD_UPSTREAM),
        ("big_error", ErrorCode.BAD_UPSTREAM),
        ("server_error", ErrorCode.BAD_UPSTREAM),
        ("nothing", ErrorCode.EMPTY_REPLY),
        ("tool", ErrorCode.EMPTY_REPLY),
        ("bare_error", ErrorCode.CONTEXT_TOO_LONG),
        ("error_inside", ErrorCode.OVERLOADED),
        ("overloaded", ErrorCode.OVERLOADED),
        ("filtered", ErrorCode.CONTENT_FILTER),
        ("too_long", ErrorCode.CONTEXT_TOO_LONG),
        ("no_model", ErrorCode.UNKNOWN_MODEL),
        ("unauthorized", ErrorCode.AUTH),
        ("rate_limited", ErrorCode.RATE_LIMITED),
    ],
)
async def test_every_fault_has_its_code_and_repeats_nothing(
    server: Upstream, kind: str, model: str, code: ErrorCode, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault is one code of the closed list after one call; prompt and key are neither in it nor in a log."""
    with caplog.at_level(logging.WARNING), pytest.raises(OrchestraError) as failed:
        await _pieces(kind, server.root, _call(model))

    assert failed.value.code == code
    assert not any(secret in failed.value.detail + caplog.text for secret in (CANARY, KEY, "secret prompt"))
    assert len(server.calls) == 1


@kinds
async def test_leaving_early_closes_the_call(server: Upstream, kind: str) -> None:
    """The server sees the connection close when the stream is no longer wanted, while the provider goes on."""
    async with _provider(kind, server.root) as provider:
        async with aclosing(provider.stream(_call("hang"))) as pieces:
            await anext(pieces)
        async with asyncio.timeout(20):
            await server.calls[0].left.wait()


@kinds
async def test_cancelling_before_the_first_byte_closes_the_call(server: Upstream, kind: str) -> None:
    """A call that waits for its first byte ends with the task that made it."""
    async with _provider(kind, server.root) as provider:
        task = asyncio.ensure_future(anext(provider.stream(_call("silent"))))
        await eventually(lambda: len(server.calls) == 1)
        task.cancel()
        async with asyncio.timeout(20):
            await server.calls[0].left.wait()
        await asyncio.gather(task, return_exceptions=True)


@kinds
async def test_nobody_listening_is_no_timeout(kind: str) -> None:
    """A refused connection is `unavailable`: no call was made, and none can be for now."""
    with pytest.raises(OrchestraError) as failed:
        await _pieces(kind, "http://127.0.0.1:9", _call("whole"))

    assert failed.value.code == ErrorCode.UNAVAILABLE


@kinds
async def test_the_trace_goes_along(server: Upstream, kind: str) -> None:
    """The provider learns to which trace a call belongs, where there is one; other calls of the library carry none."""
    async with _provider(kind, server.root) as provider:
        for trace in (TRACE, None):
            _ = [piece async for piece in provider.stream(_call("whole", traceparent=trace))]

    assert [call.headers.get("traceparent") for call in server.calls] == [TRACE, None]


@kinds
async def test_a_check_spends_nothing(server: Upstream, kind: str) -> None:
    """A check requests the list of models, generates nothing, and fails if there is no server."""
    async with _provider(kind, server.root) as provider:
        await provider.check()
    async with _provider(kind, "http://127.0.0.1:9") as provider:
        with pytest.raises(OrchestraError):
            await provider.check()

    assert server.calls == []


async def test_a_key_of_the_environment_goes_nowhere_by_itself(
    server: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server without a key of its own gets none, whatever the library could find."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", CANARY)
    provider = ThroughAnyLLM("anthropic", server.root, None, LIMITS)
    _ = [piece async for piece in provider.stream(_call("whole", ("user", "hi")))]
    await provider.aclose()

    assert CANARY not in str(server.calls[0].headers)


class _Library:
    """A library of the kind that takes no connection of ours."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def acompletion(self, **_asked: object) -> AsyncIterator[object]:
        if self._error:
            raise self._error
        return self._nothing()

    async def _nothing(self) -> AsyncIterator[object]:
        await asyncio.Event().wait()
        yield


@pytest.mark.parametrize(
    ("error", "code", "wait"),
    [
        (RateLimitError(CANARY, retry_after="7"), ErrorCode.RATE_LIMITED, 7),
        (RateLimitError(CANARY, retry_after="soon"), ErrorCode.RATE_LIMITED, None),
        (ContextLengthExceededError(CANARY), ErrorCode.CONTEXT_TOO_LONG, None),
        (AuthenticationError(CANARY), ErrorCode.AUTH, None),
        (ProviderError(CANARY, original_exception=ConnectionError(CANARY)), ErrorCode.BAD_UPSTREAM, None),
        (KeyError(CANARY), ErrorCode.BAD_UPSTREAM, None),
        (None, ErrorCode.TIMEOUT, None),
    ],
)
async def test_errors_of_other_libraries_are_understood(
    error: Exception | None, code: ErrorCode, wait: float | None
) -> None:
    """Where only the library sees the connection, its errors and its silence have the same codes, and no text."""
    provider = ThroughAnyLLM("anthropic", "http://127.0.0.1:9", KEY, LIMITS)
    provider._library = _Library(error)  # type: ignore[assignment]
    provider._silence = 0.01
    with pytest.raises(OrchestraError) as failed:
        await anext(provider.stream(_call("whole")))
    await provider.aclose()

    assert (failed.value.code, failed.value.retry_after) == (code, wait)
    assert CANARY not in failed.value.detail


def test_a_package_that_is_missing_is_named() -> None:
    """A provider whose own packages are not installed is refused at start, with what to install."""
    with pytest.raises(ProviderSetupError, match=r"any-llm-sdk\[cohere\]"):
        ThroughAnyLLM("cohere", None, KEY, LIMITS)


_PNG, _PDF = "data:image/png;base64,iVBORw0KGgo=", "data:application/pdf;base64,JVBERg=="
_TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}},
    },
}
_FGS = [
    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"n": 1}'}},
    {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
]
_ITEMS: list[dict[str, Any]] = [
    {"role": "developer", "content": "be kind"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": _PNG}},
            {"type": "file", "file": {"file_data": _PDF, "filename": "a.pdf"}},
        ],
    },
    {"role": "user", "content": "well?"},
    {"role": "assistant", "content": "ok", "tool_calls": _FGS},
    {"role": "tool", "tool_call_id": "a", "content": "2"},
    {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "3"}]},
    {"role": "assistant", "refusal": "no"},
    {"role": "user", "content": "why?"},
]


def _items_call(model: str, messages: list[dict[str, Any]], provider: str, **options: object) -> Call:
    said = [ChatMessage.model_validate(message) for message in messages]
    return Call(model, said, 4096, options=Options.model_validate(options), text_only=False, provider=provider)


async def _sent(server: Upstream, kind: str, messages: list[dict[str, Any]], **options: object) -> dict[str, Any]:
    await _pieces(kind, server.root, _items_call("whole", messages, kind, **options))
    return server.calls[-1].body


async def test_anthropic_gets_parts_calls_and_results_in_its_own_blocks(server: Upstream) -> None:
    """Pictures, PDFs, calls and their results are where Anthropic wants them, with the thoughts before the calls."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "x"}
    state = {"provider": "anthropic", "thinking": [thinking]}
    body = await _sent(server, "anthropic", [*_ITEMS[:3], {**_ITEMS[3], "state": state}, *_ITEMS[4:]])

    assert body["system"] == "be kind"
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
                    "title": "a.pdf",
                },
                {"type": "text", "text": "well?"},
            ],
        },
        {
            "role": "assistant",
            "content": [
                thinking,
                {"type": "text", "text": "ok"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"n": 1}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "2"},
                {"type": "tool_result", "tool_use_id": "b", "content": "3"},
            ],
        },
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "why?"},
    ]


async def test_gemini_gets_parts_calls_and_results_in_its_own_shape(server: Upstream) -> None:
    """The same in Gemini's shape, with the signature that belongs to a call."""
    state = {"provider": "gemini", "calls": {"a": {"google": {"thought_signature": "c2lnbmVk"}}}}
    body = await _sent(server, "gemini", [*_ITEMS[:3], {**_ITEMS[3], "state": state}, *_ITEMS[4:]])

    assert body["systemInstruction"]["parts"] == [{"text": "be kind"}]
    user, model, results, *rest = body["contents"]
    assert user == {
        "role": "user",
        "parts": [
            {"text": "look"},
            {"inlineData": {"data": "iVBORw0KGgo=", "mime_type": "image/png"}},
            {"inlineData": {"data": "JVBERg==", "mime_type": "application/pdf"}},
            {"text": "well?"},
        ],
    }
    assert model == {
        "role": "model",
        "parts": [
            {"text": "ok"},
            {"functionCall": {"id": "a", "name": "f", "args": {"n": 1}}, "thoughtSignature": "c2lnbmVk"},
            {"functionCall": {"id": "b", "name": "g", "args": {}}},
        ],
    }
    assert [part["functionResponse"] for part in results["parts"]] == [
        {"id": "a", "name": "f", "response": {"result": 2}},
        {"id": "b", "name": "g", "response": {"result": 3}},
    ]
    assert [turn["parts"] for turn in rest] == [[{"text": "no"}], [{"text": "why?"}]]


_NAMED = {"type": "function", "function": {"name": "f"}}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "s", "schema": _TOOL["function"]["parameters"]}}


async def test_anthropic_gets_the_options_that_it_has(server: Upstream) -> None:
    """Tools with their whole schema, the choice among them, the format, the effort, the user."""
    options = {"tool_choice": _NAMED, "parallel_tool_calls": False, "reasoning_effort": "low", "user": "u-17"}
    body = await _sent(server, "anthropic", _ITEMS[:2], tools=[_TOOL], **options)
    formatted = await _sent(server, "anthropic", _ITEMS[:2], response_format=_FORMAT)

    assert body["tools"][0]["name"] == "f"
    assert body["tools"][0]["input_schema"]["properties"] == {"n": {"type": "integer", "minimum": 1}}
    assert body["tool_choice"] == {"type": "tool", "name": "f", "disable_parallel_tool_use": True}
    assert body["output_config"] == {"effort": "low"}
    assert body["metadata"] == {"user_id": "u-17"}
    assert formatted["output_config"]["format"]["type"] == "json_schema"


async def test_gemini_gets_the_options_that_it_has(server: Upstream) -> None:
    """The same for Gemini, whose tools keep every keyword of their schema."""
    options = {"tool_choice": _NAMED, "parallel_tool_calls": True, "seed": 7, "presence_penalty": 0.5, "user": "u-17"}
    body = await _sent(server, "gemini", _ITEMS[:2], tools=[_TOOL], **options)
    formatted = await _sent(server, "gemini", _ITEMS[:2], response_format=_FORMAT)
    objects = await _sent(server, "gemini", _ITEMS[:2], response_format={"type": "json_object"})

    declared = {"name": "f", "description": "d", "parameters_json_schema": _TOOL["function"]["parameters"]}
    assert body["tools"] == [{"functionDeclarations": [declared]}]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}
    assert body["generationConfig"] == {"maxOutputTokens": 4096, "seed": 7, "presencePenalty": 0.5}
    assert formatted["generationConfig"]["responseJsonSchema"] == _FORMAT["json_schema"]["schema"]
    assert objects["generationConfig"]["responseMimeType"] == "application/json"


@pytest.mark.parametrize(
    ("kind", "options", "name"),
    [
        ("anthropic", {"seed": 7}, "seed"),
        ("anthropic", {"frequency_penalty": 1}, "frequency_penalty"),
        ("anthropic", {"presence_penalty": 1}, "presence_penalty"),
        ("anthropic", {"response_format": {"type": "json_object"}}, "response_format"),
        (
            "anthropic",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": []}}}},
            "response_format",
        ),
        ("gemini", {"tools": [_TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
    ],
)
async def test_an_option_that_an_api_does_not_have_is_refused(
    server: Upstream, kind: str, options: dict[str, object], name: str
) -> None:
    """By its name, before any call; it is never left out in silence."""
    with pytest.raises(OrchestraError, match=rf"^{name}: ") as refused:
        await _pieces(kind, server.root, _items_call("whole", _ITEMS[:2], kind, **options))

    assert refused.value.code == ErrorCode.UNSUPPORTED_OPTION
    assert server.calls == []


_URLS = [
    {"type": "image_url", "image_url": {"url": "https://example.org/a.png?x=1"}},
    {"type": "file", "file": {"file_data": "https://example.org/a.pdf", "filename": "a.pdf"}},
]


def test_urls_are_refused_by_name_where_an_api_has_none() -> None:
    """An API that takes only data gets no URL."""
    for part in _URLS:
        with pytest.raises(OrchestraError) as refused:
            turns("cohere", _items_call("m", [{"role": "user", "content": [part]}], "cohere"))
        assert refused.value.code == ErrorCode.UNSUPPORTED_PART


async def test_urls_are_passed_on_unchanged(server: Upstream) -> None:
    """Anthropic and Gemini get the URLs of media in their own shapes; we fetch nothing."""
    message = [{"role": "user", "content": _URLS}]

    (claude,) = (await _sent(server, "anthropic", message))["messages"]
    (gemini,) = (await _sent(server, "gemini", message))["contents"]

    assert [
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png?x=1"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}, "title": "a.pdf"},
    ] == claude["content"]
    assert ["https://example.org/a.png?x=1", "https://example.org/a.pdf"] == [
        part["fileData"]["fileUri"] if "fileUri" in part["fileData"] else part["fileData"]["file_uri"]
        for part in gemini["parts"]
    ]


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("anthropic", {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}),
        ("anthropic", {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}}),
        ("anthropic", {"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}}),
        ("gemini", {"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}}),
    ],
)
async def test_a_part_that_an_api_does_not_take_is_refused(server: Upstream, kind: str, part: dict[str, Any]) -> None:
    """By name, before any call."""
    with pytest.raises(OrchestraError) as refused:
        await _pieces(kind, server.root, _items_call("whole", [{"role": "user", "content": [part]}], kind))

    assert refused.value.code == ErrorCode.UNSUPPORTED_PART
    assert server.calls == []


_STATES = {
    "anthropic": {"thinking": [{"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}]},
    "gemini": {"calls": {"fc_1": {"google": {"thought_signature": "c2lnbmVk"}}}},
}
_IDS = {"anthropic": ("toolu_1", "toolu_2"), "gemini": ("fc_1", "fc_2")}


@kinds
@pytest.mark.parametrize("model", ["items", "items_document"])
async def test_the_items_of_an_answer_come_out_in_order(server: Upstream, kind: str, model: str) -> None:
    """Reasoning, text and calls, streamed or whole, what the provider wants back, and why it ended."""
    call = _items_call(model, _ITEMS[:2], kind, tools=[_TOOL], reasoning="include")
    *pieces, state, ending = await _pieces(kind, server.root, call)

    assert items_in(pieces) == items(*_IDS[kind])
    assert state == State({"provider": kind, **_STATES[kind]})
    assert ending == EndOfText(Usage(input_tokens=11, output_tokens=7), "tool_calls")


@kinds
async def test_reasoning_that_nobody_asked_for_is_not_told(server: Upstream, kind: str) -> None:
    """It is kept for the provider all the same."""
    pieces = await _pieces(kind, server.root, _items_call("items", _ITEMS[:2], kind, tools=[_TOOL]))

    assert not [piece for piece in pieces if isinstance(piece, Item) and piece.kind == "reasoning"]
    assert State({"provider": kind, **_STATES[kind]}) in pieces

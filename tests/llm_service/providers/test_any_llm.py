"""What the library's providers make of real wire formats, and that the library does nothing behind our back."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from any_llm.exceptions import AuthenticationError, ContextLengthExceededError, ProviderError, RateLimitError

from llm_service.providers.any_llm import ProviderSetupError, ThroughAnyLLM
from llm_service.providers.base import Call, EndOfText, Piece
from llm_service.providers.connection import UpstreamLimits
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, Usage
from tests.support.llm_server import eventually
from tests.support.llm_upstream import TEXT, Upstream, upstream

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


def _call(model: str, *messages: tuple[str, str], **more: object) -> Call:
    spoken = messages or (("user", CANARY),)
    chat = [ChatMessage.model_validate({"role": role, "content": content}) for role, content in spoken]
    return Call(model=model, messages=chat, max_tokens=9, **more)  # type: ignore[arg-type]


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

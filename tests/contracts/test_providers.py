"""What every provider promises, whatever is behind it. Asked over HTTP, with real servers on both sides."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from llm_service.providers.simulated import conversation_hash
from llm_service.settings import LlmServiceSettings
from orchestra.transcript import Piece, items_of
from schemas.content import calls_in
from schemas.errors import ErrorCode
from schemas.generation import ChatMessage, DoneLine, GenerateReply
from tests.support.llm_server import Service, eventually, running, text_of
from tests.support.llm_upstream import TEXT, Upstream, upstream
from tests.support.llm_wires import items


@dataclass
class Subject:
    """One provider: the models that show each behaviour."""

    whole: str
    text: str
    slow: str
    hang: str
    silent: str
    rate_limited: str
    server_error: str
    half: str
    garbage: str
    huge: str
    items: str
    ids: tuple[str, str] | None
    provider: str = "simulated"
    url_setting: str = "openai_base_url"
    root: bool = False


def _scripted(url_setting: str, ids: tuple[str, str], *, root: bool = False, provider: str) -> Subject:
    """A provider whose server is scripted: there each behaviour is a model of that name."""
    names = "whole slow hang silent rate_limited server_error half garbage huge items".split()
    behaviours = {name: name for name in names}
    return Subject(text=TEXT, provider=provider, url_setting=url_setting, root=root, ids=ids, **behaviours)


SUBJECTS = {
    "simulated": Subject(
        whole="simulated:tokens=3",
        text="word1 word2 word3",
        slow="simulated:tokens=3,latency_ms=300,gap_ms=300",
        hang="simulated:tokens=3,hang_after=1",
        silent="simulated:hang_after=0",
        rate_limited="simulated:fail=rate_limited,retry_after=7",
        server_error="simulated:fail=bad_upstream",
        half="simulated:tokens=3,cut_after=2",
        garbage="simulated:tokens=3,garbage=1",
        huge="simulated:tokens=3,fail=bad_upstream,fail_after=2",
        items="simulated:reasoning=2",
        ids=None,
    ),
    "openai_compatible": _scripted("openai_base_url", ("call_1", "call_2"), provider="openai"),
    "anthropic": _scripted("anthropic_base_url", ("toolu_1", "toolu_2"), root=True, provider="anthropic"),
    "gemini": _scripted("gemini_base_url", ("fc_1", "fc_2"), root=True, provider="gemini"),
}


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return SUBJECTS[request.param]


@pytest.fixture
async def server() -> AsyncIterator[Upstream]:
    async with upstream() as running_upstream:
        yield running_upstream


def _settings(subject: Subject, server: Upstream, **more: object) -> LlmServiceSettings:
    url = server.root if subject.root else server.url
    values = {"llm_provider": subject.provider, subject.url_setting: url, "ollama_discovery": False, **more}
    return LlmServiceSettings.model_validate(values)


@pytest.fixture
async def service(subject: Subject, server: Upstream) -> AsyncIterator[Service]:
    async with running(_settings(subject, server)) as started:
        yield started


@pytest.fixture
async def impatient(subject: Subject, server: Upstream) -> AsyncIterator[Service]:
    async with running(_settings(subject, server, upstream_idle_seconds=1, generation_seconds=1.5)) as started:
        yield started


async def test_plain_and_streamed_answers_have_the_same_text(service: Service, subject: Subject) -> None:
    """What a stream's deltas add up to is what the plain answer says."""
    plain = GenerateReply.model_validate_json((await service.generate(subject.whole)).content)
    lines = await service.lines(subject.whole)

    assert plain.content == text_of(lines) == subject.text


async def test_a_whole_answer_tells_its_usage_and_why_it_ended(service: Service, subject: Subject) -> None:
    """Usage and finish reason come with the plain answer and, the same, in the stream's last line."""
    plain = GenerateReply.model_validate_json((await service.generate(subject.whole)).content)
    done = DoneLine.model_validate((await service.lines(subject.whole))[-1])

    assert plain.usage.input_tokens > 0
    assert plain.usage.output_tokens > 0
    assert (plain.usage, "stop") == (done.usage, done.finish_reason)


async def test_a_stream_is_passed_on_as_it_comes(service: Service, subject: Subject) -> None:
    """The first delta arrives although the rest of the answer never does."""
    async with service.stream(subject.hang) as response:
        first = await anext(response.aiter_bytes())

    assert subject.text.startswith(orjson.loads(first)["delta"])


async def test_a_slow_answer_is_whole(service: Service, subject: Subject) -> None:
    """Pauses between pieces lose nothing."""
    assert text_of(await service.lines(subject.slow)) == subject.text


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_leaves_ends_the_generation(service: Service, subject: Subject, *, stream: bool) -> None:
    """When the caller closes the connection, the generation stops at once."""
    call = asyncio.create_task(service.generate(subject.hang, stream=stream))
    await eventually(lambda: service.in_flight == 1)
    call.cancel()

    await eventually(lambda: service.in_flight == 0)
    assert service.ended("abandoned") == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_rate_limit_keeps_its_name_and_its_wait(service: Service, subject: Subject, *, stream: bool) -> None:
    """A provider's 429 comes out as 429 `rate_limited` with the same Retry-After, streamed or not."""
    response = await service.generate(subject.rate_limited, stream=stream)

    assert (response.status_code, response.json()["code"]) == (429, ErrorCode.RATE_LIMITED)
    assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_error_is_bad_upstream(service: Service, subject: Subject, *, stream: bool) -> None:
    """A provider's 5xx before the first byte comes out as 502 `bad_upstream`."""
    response = await service.generate(subject.server_error, stream=stream)

    assert (response.status_code, response.json()["code"]) == (502, ErrorCode.BAD_UPSTREAM)
    assert response.headers["content-type"] == "application/problem+json"


async def test_silence_ends_as_a_timeout(impatient: Service, subject: Subject) -> None:
    """A provider that sends nothing is given up as 504 `timeout`."""
    response = await impatient.generate(subject.silent)

    assert (response.status_code, response.json()["code"]) == (504, ErrorCode.TIMEOUT)


async def test_silence_inside_a_stream_ends_as_an_error_line(impatient: Service, subject: Subject) -> None:
    """A stream that stalls ends with an error line `timeout`, never as if it were whole."""
    lines = await impatient.lines(subject.hang)

    assert [[*line] for line in lines] == [["delta"], ["error"]]
    assert lines[-1]["error"]["code"] == ErrorCode.TIMEOUT  # type: ignore[index]


@pytest.mark.parametrize("behaviour", ["half", "garbage", "huge"])
async def test_a_broken_answer_never_looks_whole(service: Service, subject: Subject, behaviour: str) -> None:
    """Half an answer, nonsense or too much has no end mark when streamed and is 502 when plain."""
    model = getattr(subject, behaviour)
    plain = await service.generate(model)
    streamed = await service.generate(model, stream=True)

    assert (plain.status_code, plain.json()["code"]) == (502, ErrorCode.BAD_UPSTREAM)
    assert streamed.status_code in (200, 502)
    assert b'{"done"' not in streamed.content


async def test_empty_messages_of_the_history_are_not_sent(service: Service, subject: Subject, server: Upstream) -> None:
    """One empty answer ends no conversation: empty messages are left out, with every provider."""
    said = [("user", "one"), ("assistant", ""), ("user", "two"), ("assistant", " \n"), ("user", "three")]
    messages = [{"role": role, "content": content} for role, content in said]
    model = "simulated:reply=hash" if subject.provider == "simulated" else subject.whole
    response = await service.client.post("/generate", json={"model": model, "messages": messages})

    assert response.status_code == 200
    full = [ChatMessage.model_validate(message) for message in messages if message["content"].strip()]
    if subject.provider == "simulated":
        assert response.json()["content"] == conversation_hash(full)
    else:
        sent = orjson.dumps(server.calls[0].body).decode()
        places = [sent.index(text) for text in ("one", "two", "three")]
        assert places == sorted(places)
        assert '""' not in sent
        assert '" \\n"' not in sent


_LIMITS = ("max_tokens", "max_completion_tokens", "maxOutputTokens")


@pytest.mark.parametrize("asked", [None, 7])
async def test_a_limit_that_nobody_asked_for_is_not_sent(
    service: Service, subject: Subject, server: Upstream, asked: int | None
) -> None:
    """A model that is in no table may have a smaller limit than we assume; only Anthropic's API requires one."""
    await service.generate(subject.whole, **({"max_tokens": asked} if asked else {}))

    sent = [{**call.body, **_inside(call.body, "generationConfig")} for call in server.calls]
    told = [body[name] for body in sent for name in _LIMITS if name in body]
    untold = {"anthropic": [8192]}.get(subject.provider, [])
    assert told == ([] if subject.provider == "simulated" else [asked] if asked else untold)


def _inside(body: dict[str, object], name: str) -> dict[str, object]:
    found = body.get(name, {})
    assert isinstance(found, dict)
    return found


async def test_what_was_asked_last_is_sent_even_if_it_is_empty(
    service: Service, subject: Subject, server: Upstream
) -> None:
    """Whether nothing can be asked is for the provider to say: its answer, or its refusal, is passed on."""
    response = await service.generate(subject.whole, content="")

    assert response.status_code == 200
    assert len(server.calls) == (subject.provider != "simulated")


async def test_many_answers_at_once_do_not_mix(service: Service, subject: Subject) -> None:
    """A hundred streams at the same time are each whole."""
    answers = await asyncio.gather(*(service.lines(subject.whole) for _ in range(100)))

    assert {text_of(lines) for lines in answers} == {subject.text}


_TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("f", "g")]


async def test_plain_and_streamed_answers_have_the_same_items(service: Service, subject: Subject) -> None:
    """What a stream's lines add up to is the `output` of the plain answer: reasoning, text, parallel calls."""
    asked = {"content": "call f and call g", "tools": _TOOLS, "reasoning": "include"}
    plain = GenerateReply.model_validate_json((await service.generate(subject.items, **asked)).content)
    lines = await service.lines(subject.items, **asked)

    assert plain.output == items_of(_pieces(lines))
    assert (plain.content, plain.finish_reason, lines[-1]["finish_reason"]) == (
        text_of(lines),
        "tool_calls",
        "tool_calls",
    )
    if subject.ids:
        assert plain.output == items(*subject.ids)
    else:
        assert [item["type"] for item in plain.output or ()] == ["reasoning", "function_call", "function_call"]


def _pieces(lines: list[dict[str, Any]]) -> Iterator[Piece]:
    for line in lines:
        match line:
            case {"tool": head}:
                yield Piece("tool_call", "", head["index"], head["id"], head["name"])
            case {"tool_delta": piece}:
                yield Piece("tool_arguments", piece["text"], piece["index"])
            case {"delta": text}:
                yield Piece("text", text)
            case {"reasoning": text}:
                yield Piece("reasoning", text)


async def test_a_dialogue_with_calls_goes_on(service: Service, subject: Subject) -> None:
    """The answer's items and its state, sent back with the results, are an answer's prompt like any other."""
    asked = {"content": "call f and call g", "tools": _TOOLS}
    lines = await service.lines(subject.items, **asked)
    calls = calls_in(items_of(_pieces(lines)) or ())
    state = next((line["state"] for line in lines if "state" in line), None)
    messages = [
        {"role": "user", "content": asked["content"]},
        {"role": "assistant", "content": text_of(lines), "tool_calls": calls, "state": state},
        *({"role": "tool", "tool_call_id": call["id"], "content": "42"} for call in calls),
    ]
    body = {"model": subject.whole, "messages": messages, "tools": _TOOLS}
    response = await service.client.post("/generate", json=body)

    assert response.status_code == 200, response.text
    assert len(calls) == 2
    assert GenerateReply.model_validate_json(response.content).content

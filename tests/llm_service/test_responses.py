import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.types import Message

from llm_service import responses
from llm_service.generation import Generation
from llm_service.metrics import Metrics
from llm_service.registry import build_registry
from llm_service.responses import GenerationAnswer
from llm_service.settings import LlmServiceSettings
from schemas.generation import ChatMessage, GenerateReply, GenerateRequest
from tests.support.llm_server import Service, eventually, running, text_of
from tests.support.llm_upstream import Upstream, upstream
from tests.support.llm_wires import items


@pytest.fixture
async def server() -> AsyncIterator[Upstream]:
    async with upstream() as started:
        yield started


@pytest.fixture
async def service(server: Upstream) -> AsyncIterator[Service]:
    settings = LlmServiceSettings(llm_provider="openai", openai_base_url=server.url, simulated_options=True)
    async with running(settings) as started:
        yield started


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["silent", "hang"])
async def test_a_caller_who_leaves_closes_the_upstream_call(
    service: Service, server: Upstream, model: str, *, stream: bool
) -> None:
    """The provider sees its connection close as soon as our caller is gone, before and after the first byte."""
    call = asyncio.create_task(service.generate(model, stream=stream))
    await eventually(lambda: len(server.calls) == 1)
    call.cancel()

    async with asyncio.timeout(20):
        await server.calls[0].left.wait()


async def test_an_error_inside_a_stream_is_its_last_line(service: Service) -> None:
    """After the first byte a failure is a line with its code, and nothing follows it."""
    lines = await service.lines("simulated:tokens=3,fail=overloaded,retry_after=2.5,fail_after=2")

    assert [[*line] for line in lines] == [["delta"], ["delta"], ["error"]]
    error = lines[-1]["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["retry_after"]) == ("overloaded", 2.5)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("tells", [False, True])
async def test_so_is_why_it_breaks_off(server: Upstream, provider: str, *, tells: bool) -> None:
    """An error inside of a stream has the provider's code, and its words only where that is wanted."""
    urls = {"openai_base_url": server.url, "anthropic_base_url": server.root, "gemini_base_url": server.root}
    settings = {"llm_provider": provider, "provider_messages": tells, **urls}
    async with running(LlmServiceSettings.model_validate(settings)) as service:
        error = (await service.generate("error_inside")).json()

    assert error["code"] == "overloaded"
    assert error["detail"].startswith("The model's provider stopped with an error: ")
    assert ("secret prompt" in error["detail"]) == tells


_PICKY = "The model's provider answered with status 400: unsupported_parameter, max_tokens."


@pytest.mark.parametrize("stream", [True, False])
async def test_why_a_provider_refuses_is_told(service: Service, server: Upstream, *, stream: bool) -> None:
    """The provider's own code and parameter are passed on; its text may repeat the prompt, and is sent only if set."""
    refused = (await service.generate("picky", stream=stream)).json()
    settings = LlmServiceSettings(llm_provider="openai", openai_base_url=server.url, provider_messages=True)
    async with running(settings) as talkative:
        told = (await talkative.generate("picky", stream=stream)).json()

    assert (refused["code"], refused["title"]) == ("refused_by_provider", "The model's provider rejected the request")
    assert (refused["detail"], refused["status"]) == (_PICKY, 502)
    assert told["detail"].startswith(f"{_PICKY} Unsupported parameter:  [1msecret prompt secret prompt")
    assert len(told["detail"]) <= len(_PICKY) + 301


@pytest.mark.parametrize(
    ("trace", "goes"), [("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True), ("x", False)]
)
async def test_the_callers_trace_reaches_the_provider(
    service: Service, server: Upstream, trace: str, *, goes: bool
) -> None:
    """`traceparent` is passed on where it is one."""
    body = {"model": "whole", "messages": [{"role": "user", "content": "hi"}]}
    await service.client.post("/generate", json=body, headers={"traceparent": trace})

    assert server.calls[0].headers.get("traceparent") == (trace if goes else None)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_of_nothing_is_an_error(service: Service, *, stream: bool) -> None:
    """An end without any text is reported as such, before the first byte of a stream."""
    response = await service.generate("simulated:tokens=0", stream=stream)

    assert (response.status_code, response.json()["code"]) == (502, "empty_reply")


async def test_an_answer_cut_before_its_first_word_is_whole(service: Service) -> None:
    """A model that has thought for all its tokens has answered: the finish reason says why nothing is there."""
    lines = await service.lines("reasoning_cut")

    assert [[*line] for line in lines] == [["done", "usage", "finish_reason"]]
    assert (await service.generate("reasoning_cut")).json()["finish_reason"] == "length" == lines[0]["finish_reason"]


async def test_a_caller_who_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose caller neither reads nor closes does not hold the generation indefinitely."""
    monkeypatch.setattr(responses, "_LAST_WORDS_SECONDS", 0.05)
    chain = build_registry(LlmServiceSettings()).chain("simulated")
    ask = GenerateRequest(messages=[ChatMessage(role="user", content="hi")])

    async def never() -> Message:
        await asyncio.Event().wait()
        return {}

    async def stuck(_message: Message) -> None:
        await never()

    answer = GenerationAnswer(Generation(chain, ask, Metrics(), 0.05, 60), stream=True)
    async with asyncio.timeout(20):
        await answer({"type": "http"}, never, stuck)


async def test_a_fallback_in_mid_stream_is_a_line_and_in_a_document_nothing(tmp_path: Path) -> None:
    """A reader of lines learns which model starts again; a document is the last model's text; usage names the model."""
    path = tmp_path / "models.toml"
    model = '[[models]]\nname = "{}"\nprovider = "simulated"\nupstream = "simulated:{}"\n{}'
    limits = "context_tokens = 1000\nmax_output_tokens = 100\n"
    shaky = model.format("shaky", "tokens=3,cut_after=2", limits + 'fallbacks = ["steady"]\n')
    path.write_text(shaky + model.format("steady", "tokens=2", limits))
    async with running(LlmServiceSettings(models_file=path)) as service:
        lines = await service.lines("shaky")
        whole = (await service.generate("shaky")).json()

    assert [[*line] for line in lines[2:3]] == [["restart"]]
    assert lines[2] == {"restart": {"model": "steady"}}
    assert text_of(lines[3:]) == whole["content"] == "word1 word2"
    assert lines[-1]["usage"] == whole["usage"] == {"input_tokens": 2, "output_tokens": 2, "model": "steady"}


_TOOLS = [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]


async def test_the_items_of_an_answer_are_lines_of_their_own(service: Service, server: Upstream) -> None:
    """Reasoning, text, calls with their arguments, the state, and the end; whole, they are the answer's `output`."""
    lines = await service.lines("items", tools=_TOOLS, reasoning="include")
    whole = (await service.generate("items", tools=_TOOLS, reasoning="include")).json()

    usage = {"input_tokens": 11, "output_tokens": 7}
    assert lines == [
        {"reasoning": "hm"},
        {"delta": "ok"},
        {"tool": {"index": 0, "id": "call_1", "name": "f"}},
        {"tool_delta": {"index": 0, "text": '{"n": 1}'}},
        {"tool": {"index": 1, "id": "call_2", "name": "g"}},
        {"tool_delta": {"index": 1, "text": "{}"}},
        {"state": {"provider": "openai", "reasoning_content": "hm"}},
        {"done": True, "usage": usage, "finish_reason": "tool_calls"},
    ]
    output = items("call_1", "call_2")
    assert whole == {"content": "ok", "usage": usage, "finish_reason": "tool_calls", "output": output}
    assert GenerateReply.model_validate(whole).output == output


async def test_reasoning_is_a_line_only_for_those_who_ask(service: Service) -> None:
    """With tools alone there is none of it, and the state, which is for the provider, is the same."""
    lines = await service.lines("items", tools=_TOOLS)

    assert [next(iter(line)) for line in lines] == [
        "delta",
        "tool",
        "tool_delta",
        "tool",
        "tool_delta",
        "state",
        "done",
    ]
    assert lines[-2]["state"] == {"provider": "openai", "reasoning_content": "hm"}


async def test_a_refusal_is_a_line_where_more_than_text_was_asked_for(service: Service) -> None:
    """Else it is text, as it always was."""
    apart = await service.lines("in_refusal", response_format={"type": "json_object"})
    plain = await service.lines("in_refusal")

    assert "".join(str(line.get("refusal", "")) for line in apart) == "ok"
    assert text_of(plain) == "ok"
    assert not text_of(apart)


async def test_a_request_for_text_has_lines_of_text_only(service: Service) -> None:
    """A call of a tool that was not offered is no answer; reasoning and state are not told."""
    assert (await service.generate("tool_calls", stream=True)).json()["code"] == "empty_reply"
    lines = await service.lines("items")

    assert [[*line] for line in lines] == [["delta"], ["done", "usage", "finish_reason"]]
    assert lines[-1]["finish_reason"] == "stop"


async def test_a_fallback_voids_all_items(tmp_path: Path) -> None:
    """Calls of the first model are no part of the second one's answer."""
    path = tmp_path / "models.toml"
    model = '[[models]]\nname = "{}"\nprovider = "simulated"\nupstream = "simulated:{}"\n{}'
    limits = "context_tokens = 1000\nmax_output_tokens = 100\n"
    shaky = model.format("shaky", "cut_after=4", limits + 'fallbacks = ["steady"]\n')
    path.write_text(shaky + model.format("steady", "tokens=2", limits))
    async with running(LlmServiceSettings(models_file=path)) as service:
        lines = await service.lines("shaky", "call f, call g", tools=_TOOLS)
        whole = (await service.generate("shaky", "call f, call g", tools=_TOOLS)).json()

    kinds = [next(iter(line)) for line in lines]
    assert kinds == ["tool", "tool_delta", "tool_delta", "tool", "restart", *["tool", *["tool_delta"] * 2] * 2, "done"]
    assert [(item["name"], item["arguments"]) for item in whole["output"]] == [("f", "{}"), ("g", "{}")]

"""Promises about providers, checked with a real language model behind a real OpenAI-compatible server."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from jsonschema import Draft202012Validator

from llm_service.settings import LlmServiceSettings
from schemas.errors import ErrorCode
from schemas.generation import DoneLine, GenerateReply
from tests.support.llm_server import Service, eventually, running, text_of
from tests.support.stack import MODEL_KEY

pytestmark = pytest.mark.long


@pytest.fixture
async def service(model_url: str) -> AsyncIterator[Service]:
    """An LLM service in front of the embedded model, whose ``model_url`` may or may not end in ``/v1``."""
    base = f"{model_url.rstrip('/').removesuffix('/v1')}/v1"
    async with running(
        LlmServiceSettings.model_validate({"embedded_base_url": base, "embedded_api_key": MODEL_KEY})
    ) as started:
        yield started


async def test_the_model_answers_the_same_plain_and_streamed(service: Service) -> None:
    """With temperature 0, plain and streamed answers have the same text, usage and finish reason."""
    said = "Name three colours."
    whole = await service.generate("llama3", said, temperature=0, max_tokens=24)
    plain = GenerateReply.model_validate_json(whole.content)
    lines = await service.lines("smollm2", said, temperature=0, max_tokens=24)
    done = DoneLine.model_validate(lines[-1])

    assert plain.content
    assert plain.content == text_of(lines)
    assert 0 < done.usage.output_tokens <= 24
    assert (plain.usage, plain.finish_reason) == (done.usage, done.finish_reason)


async def test_a_limit_on_tokens_is_told(service: Service) -> None:
    """An answer that the limit cut off has the finish reason `length`."""
    done = DoneLine.model_validate((await service.lines("llama3", "Tell a long story.", max_tokens=3))[-1])

    assert (done.finish_reason, done.usage.output_tokens) == ("length", 3)


_BALL = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 100},
        "fits": {"type": "boolean"},
    },
    "required": ["colour", "count", "fits"],
    "additionalProperties": False,
}


async def test_every_answer_to_a_schema_fits_it(service: Service) -> None:
    """Of fifty answers to `response_format` each is JSON that matches, if its tokens suffice."""
    form = {"type": "json_schema", "json_schema": {"name": "ball", "schema": _BALL}}
    slots = asyncio.Semaphore(4)

    async def answer(number: int) -> GenerateReply:
        async with slots:
            said = f"Describe ball number {number}."
            response = await service.generate("smollm2", said, response_format=form, max_tokens=64)
        return GenerateReply.model_validate_json(response.content)

    answers = await asyncio.gather(*map(answer, range(50)))

    assert {reply.finish_reason for reply in answers} == {"stop"}
    for reply in answers:
        Draft202012Validator(_BALL).validate(json.loads(reply.content))


async def test_it_is_not_made_to_call_tools(service: Service) -> None:
    """Its template has no place for tools: with a free choice it answers with text, and a forced call is refused."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    free = await service.lines("smollm2", "Say hello.", tools=tools, max_tokens=8)
    forced = await service.generate("smollm2", "Say hello.", tools=tools, tool_choice="required")

    assert text_of(free)
    assert forced.json()["code"] == ErrorCode.UNSUPPORTED_OPTION


async def test_too_long_a_prompt_is_told_by_name(service: Service) -> None:
    """A prompt longer than the model's context is 422 `context_too_long`."""
    response = await service.generate("llama3", "word " * 20_000)

    assert (response.status_code, response.json()["code"]) == (422, ErrorCode.CONTEXT_TOO_LONG)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_leaves_frees_the_model(service: Service, model_url: str, *, stream: bool) -> None:
    """When the caller leaves, the model stops generating."""
    slots = f"{model_url.rstrip('/').removesuffix('/v1')}/slots"
    asked = service.generate("llama3", "Count to one thousand.", stream=stream, max_tokens=500)
    call = asyncio.create_task(asked)
    await eventually(lambda: _busy(slots))
    call.cancel()

    await eventually(lambda: not _busy(slots))


async def test_more_callers_than_slots_are_answered_or_told_to_come_again(service: Service) -> None:
    """Of twelve concurrent callers each gets a complete answer or 429 with Retry-After, and no slot stays unused."""
    answers = await asyncio.gather(*(service.generate("llama3", f"Say {n}.", max_tokens=8) for n in range(12)))
    told = [answer for answer in answers if answer.status_code == 429]

    assert sum(answer.status_code == 200 for answer in answers) >= 4
    assert all(answer.status_code in (200, 429) for answer in answers)
    assert {answer.headers["retry-after"] for answer in told} <= {"1"}


def _busy(slots: str) -> bool:
    answer = httpx.get(slots, headers={"Authorization": f"Bearer {MODEL_KEY}"}, trust_env=False)
    return any(slot["is_processing"] for slot in answer.json())

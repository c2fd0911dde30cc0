import asyncio

import pytest

from llm_service.generation import Generation
from llm_service.metrics import Metrics
from llm_service.registry import build_registry
from llm_service.settings import LlmServiceSettings
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerateRequest


def _generation(model: str, metrics: Metrics, seconds: float = 60, max_tokens: int | None = None) -> Generation:
    ask = GenerateRequest(model=model, messages=[ChatMessage(role="user", content="hi")], max_tokens=max_tokens)
    return Generation(build_registry(LlmServiceSettings()).resolve(model), ask, metrics, seconds)


async def _words(generation: Generation) -> int:
    async with generation.open() as pieces:
        return sum([isinstance(piece, str) async for piece in pieces])


@pytest.mark.parametrize(("asked", "given"), [(None, 16_384), (5, 5), (100_000, 16_384)])
async def test_the_models_limit_on_output_holds(asked: int | None, given: int) -> None:
    """A caller may ask for fewer tokens than the model's limit, never for more."""
    assert await _words(_generation("simulated:tokens=20000", Metrics(), max_tokens=asked)) == given


async def test_a_generation_has_a_time_limit() -> None:
    """Whatever the provider does, the generation ends as `timeout`."""
    metrics = Metrics()
    with pytest.raises(OrchestraError) as ended:
        await _words(_generation("simulated:hang_after=0", metrics, seconds=0.05))

    assert ended.value.code == ErrorCode.TIMEOUT
    labels = {"model": "simulated", "outcome": "timeout"}
    assert metrics.registry.get_sample_value("orchestra_llm_generations_total", labels) == 1


async def test_a_cancelled_generation_is_counted_as_abandoned() -> None:
    """Leaving early is told apart from failing, and nothing stays in flight."""
    metrics = Metrics()
    task = asyncio.create_task(_words(_generation("simulated:hang_after=0", metrics)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    labels = {"model": "simulated"}
    assert metrics.registry.get_sample_value("orchestra_llm_generations_in_flight", labels) == 0
    labels = {"model": "simulated", "outcome": "abandoned"}
    assert metrics.registry.get_sample_value("orchestra_llm_generations_total", labels) == 1

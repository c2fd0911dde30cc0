import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from llm_service.gate import Gate, Rate
from llm_service.generation import FallbackRestart, Generation
from llm_service.metrics import Metrics
from llm_service.providers.base import EndOfText
from llm_service.registry import Registry, build_registry
from llm_service.settings import LlmServiceSettings
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerateRequest
from tests.support.models import model


def counting() -> Metrics:
    metrics = Metrics()
    metrics.note_models([model(name, "simulated") for name in ("m0", "m1", "simulated")])
    return metrics


def _generation(model: str, metrics: Metrics, seconds: float = 60, max_tokens: int | None = None) -> Generation:
    ask = GenerateRequest(model=model, messages=[ChatMessage(role="user", content="hi")], max_tokens=max_tokens)
    return Generation(build_registry(LlmServiceSettings()).chain(model), ask, metrics, seconds, silence=60)


async def _words(generation: Generation) -> int:
    async with generation.open() as pieces:
        return sum([isinstance(piece, str) async for piece in pieces])


@pytest.mark.parametrize(("asked", "given"), [(None, 16_384), (5, 5), (100_000, 16_384)])
async def test_the_models_limit_on_output_holds(asked: int | None, given: int) -> None:
    """A caller may ask for fewer tokens than the model's limit, never for more."""
    assert await _words(_generation("simulated:tokens=20000", Metrics(), max_tokens=asked)) == given


async def test_a_generation_has_a_time_limit() -> None:
    """Whatever the provider does, the generation ends as `timeout`."""
    metrics = counting()
    with pytest.raises(OrchestraError) as ended:
        await _words(_generation("simulated:hang_after=0", metrics, seconds=0.05))

    assert ended.value.code == ErrorCode.TIMEOUT
    labels = {"model": "simulated", "outcome": "timeout"}
    assert metrics.registry.get_sample_value("orchestra_llm_generations_total", labels) == 1


async def test_a_cancelled_generation_is_counted_as_abandoned() -> None:
    """A client that leaves early is not counted as a failure, and nothing stays in flight."""
    metrics = counting()
    task = asyncio.create_task(_words(_generation("simulated:hang_after=0", metrics)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    labels = {"model": "simulated"}
    assert metrics.registry.get_sample_value("orchestra_llm_generations_in_flight", labels) == 0
    labels = {"model": "simulated", "outcome": "abandoned"}
    assert metrics.registry.get_sample_value("orchestra_llm_generations_total", labels) == 1


def _models(folder: Path, *chain: str, entry: str = "") -> Registry:
    """A table in which each simulated model, by its options, has the next one as its fallback: m0, m1, …"""
    lines: list[str] = []
    for place, options in enumerate(chain):
        lines += ["[[models]]", f'name = "m{place}"', 'provider = "simulated"', f'upstream = "simulated:{options}"']
        lines += ["context_tokens = 1000", "max_output_tokens = 1000", entry]
        lines += [f'fallbacks = ["m{place + 1}"]'] if place + 1 < len(chain) else []
    path = folder / "models.toml"
    path.write_text("\n".join(lines))
    return build_registry(LlmServiceSettings(models_file=path))


async def _told(registry: Registry, metrics: Metrics | None = None, silence: float = 60) -> list[object]:
    ask = GenerateRequest(model="m0", messages=[ChatMessage(role="user", content="hi")])
    generation = Generation(registry.chain("m0"), ask, metrics or Metrics(), 60, silence)
    async with generation.open() as pieces:
        return ["end" if isinstance(piece, EndOfText) else piece async for piece in pieces]


@pytest.mark.parametrize(
    "options",
    "fail=rate_limited fail=overloaded fail=timeout fail=auth fail=quota_exhausted fail=unknown_model fail=bad_upstream"
    " tokens=0 cut_after=0 hang_after=0".split(),
)
async def test_a_model_that_is_out_of_order_is_replaced_without_a_word(tmp_path: Path, options: str) -> None:
    """Before any text, no client learns that another model answers; the switch is counted with its reason."""
    metrics = counting()
    told = await _told(_models(tmp_path, options, "tokens=2"), metrics, silence=0.05)

    assert told == ["word1 ", "word2", "end"]
    reasons = {"hang_after=0": "timeout", "cut_after=0": "bad_upstream", "tokens=0": "empty_reply"}
    reason = reasons.get(options, options.removeprefix("fail="))
    labels = {"model": "m0", "to": "m1", "reason": reason}
    assert metrics.registry.get_sample_value("orchestra_llm_fallbacks_total", labels) == 1


@pytest.mark.parametrize("how", ["cut_after=1", "hang_after=1", "fail_after=1,fail=overloaded"])
async def test_after_text_the_next_model_begins_anew(tmp_path: Path, how: str) -> None:
    """A stream that breaks says so, and then comes the whole text of the next model."""
    told = await _told(_models(tmp_path, f"tokens=3,{how}", "tokens=2"), silence=0.05)

    assert told == ["word1 ", FallbackRestart("m1"), "word1 ", "word2", "end"]


async def test_a_restart_is_told_only_where_text_is_void(tmp_path: Path) -> None:
    """Down a chain, a model that said nothing leaves nothing to take back."""
    silent = await _told(_models(tmp_path, "tokens=3,cut_after=1", "fail=overloaded", "tokens=1"))
    spoken = await _told(_models(tmp_path, "tokens=3,cut_after=1", "tokens=3,cut_after=2", "tokens=1"))

    assert silent == ["word1 ", FallbackRestart("m1"), "word1", "end"]
    assert spoken == ["word1 ", FallbackRestart("m1"), "word1 ", "word2 ", FallbackRestart("m2"), "word1", "end"]


@pytest.mark.parametrize("code", ["invalid_request", "refused_by_provider", "content_filter", "context_too_long"])
async def test_what_is_wrong_with_the_request_is_asked_of_no_other_model(tmp_path: Path, code: str) -> None:
    """No chain is a way round a refusal."""
    with pytest.raises(OrchestraError) as ended:
        await _told(_models(tmp_path, f"fail={code}", "tokens=2"))

    assert ended.value.code == code


@pytest.mark.parametrize("last", ["fail=bad_upstream", "fail=content_filter", "tokens=2,cut_after=1", "cut_after=0"])
async def test_when_all_fail_the_first_error_is_told(tmp_path: Path, last: str) -> None:
    """The caller waits for the model they asked for: its code and its Retry-After go out."""
    with pytest.raises(OrchestraError) as ended:
        await _told(_models(tmp_path, "fail=rate_limited,retry_after=7", last))

    assert (ended.value.code, ended.value.retry_after) == (ErrorCode.RATE_LIMITED, 7)


async def test_a_whole_chain_shares_one_time_limit(tmp_path: Path) -> None:
    """The last model gets what is left, and no model more than the whole."""
    ask = GenerateRequest(model="m0", messages=[ChatMessage(role="user", content="hi")])
    metrics = counting()
    chain = _models(tmp_path, "fail=overloaded", "hang_after=1").chain("m0")
    with pytest.raises(OrchestraError) as ended:
        await _words(Generation(chain, ask, metrics, 0.1, 60))

    assert ended.value.code == ErrorCode.TIMEOUT
    labels = {"model": "m1", "outcome": "timeout"}
    assert metrics.registry.get_sample_value("orchestra_llm_generations_total", labels) == 1


async def _usages(chain: Sequence[str], folder: Path, entry: str) -> dict[str, object]:
    ask = GenerateRequest(model="m0", messages=[ChatMessage(role="user", content="x" * 30)])
    async with Generation(_models(folder, *chain, entry=entry).chain("m0"), ask, Metrics(), 60, 60).open() as pieces:
        (usage,) = [piece.usage.model_dump() async for piece in pieces if isinstance(piece, EndOfText)]
    return usage


async def test_usage_tells_what_it_cost_and_who_answered(tmp_path: Path) -> None:
    """Tokens times the price of the model that answered, in US dollars; its name only where it was not asked for."""
    price = "price = { input = 0.1, output = 0.2 }"

    assert await _usages(["tokens=2"], tmp_path, "") == {"input_tokens": 10, "output_tokens": 2}
    priced = {"input_tokens": 10, "output_tokens": 2, "cost": 1.4e-06}
    assert await _usages(["tokens=2"], tmp_path, price) == priced
    assert await _usages(["fail=auth", "tokens=2"], tmp_path, price) == {**priced, "model": "m1"}


@pytest.mark.parametrize(
    ("name", "told"), [("simulated", None), ("simulated:tokens=2", None), ("llama3", "simulated"), ("gpt", "simulated")]
)
async def test_a_simulated_answer_is_known_as_one(name: str, told: str | None) -> None:
    """An answer of `simulated` under another name has its real one in `usage`, and says nothing of it in the text."""
    registry = build_registry(LlmServiceSettings(llm_provider="simulated", llm_model="gpt"), {})
    ask = GenerateRequest(model=name, messages=[ChatMessage(role="user", content="hi")])
    async with Generation(registry.chain(name), ask, Metrics(), 60, 60).open() as pieces:
        (usage,) = [piece.usage async for piece in pieces if isinstance(piece, EndOfText)]

    assert told == usage.model


@pytest.mark.parametrize("limit", ["max_concurrency", "requests_per_minute"])
async def test_a_model_at_its_limit_is_replaced(tmp_path: Path, limit: str) -> None:
    """A full gate, or a minute's calls used up, is a reason for the next model; the limit that refused is counted."""
    registry = _models(tmp_path, "tokens=1", "tokens=2", entry=f"{limit} = 1")
    first = replace(registry.resolve("m0"), gate=Gate(1, 0.01), rate=None)
    if limit == "requests_per_minute":
        first = replace(first, gate=None, rate=Rate(1))
    metrics = counting()
    ask = GenerateRequest(model="m0", messages=[ChatMessage(role="user", content="hi")])
    chain = [first, registry.resolve("m1")]
    async with Generation(chain, ask, metrics, 60, 60).open() as held:
        await anext(held)
        assert await _words(Generation(chain, ask, metrics, 60, 60)) == 2

    labels = {"model": "m0", "limit": limit}
    assert metrics.registry.get_sample_value("orchestra_llm_limited_total", labels) == 1


async def test_who_leaves_in_the_midst_of_a_chain_leaves_nothing_open(tmp_path: Path) -> None:
    """No model counts as busy after the caller has gone."""
    metrics = counting()
    ask = GenerateRequest(model="m0", messages=[ChatMessage(role="user", content="hi")])
    generation = Generation(_models(tmp_path, "cut_after=1", "hang_after=1").chain("m0"), ask, metrics, 60, 60)
    async with generation.open() as pieces:
        assert [await anext(pieces) for _ in range(3)] == ["echo: ", FallbackRestart("m1"), "echo: "]

    for name in ("m0", "m1"):
        assert metrics.registry.get_sample_value("orchestra_llm_generations_in_flight", {"model": name}) == 0
    labels = {"model": "m1", "outcome": "abandoned"}
    assert metrics.registry.get_sample_value("orchestra_llm_generations_total", labels) == 1

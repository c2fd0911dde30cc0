"""An Ollama nearby, played by a small server with its real answers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from llm_service.discovery import Discovery
from llm_service.metrics import Metrics
from llm_service.registry import Registry, build_registry
from llm_service.settings import LlmServiceSettings
from schemas.errors import OrchestraError
from tests.support.llm_server import running

SHOWN = {
    "llama3.2:latest": {
        "parameters": 'num_ctx                        32768\nstop                           "<|eot_id|>"',
        "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
        "capabilities": ["completion", "tools"],
    },
    "qwen3:0.6b": {"parameters": "temperature 0.6", "model_info": {"qwen3.context_length": 40960}},
    "tiny:1": {"parameters": "", "model_info": {"gpt2.context_length": 1024}, "capabilities": ["completion"]},
    "nomic-embed-text:latest": {"capabilities": ["embedding"]},
    "llama3:latest": {"capabilities": ["completion"]},
}


class Ollama:
    """What it has, and how often it was asked."""

    def __init__(self) -> None:
        self.names = list(SHOWN)
        self.shows = 0
        self.tags: Callable[[], web.Response] = self._tags
        self.url = ""

    def _tags(self) -> web.Response:
        return web.json_response({"models": [{"name": name, "digest": f"{name} digest"} for name in self.names]})

    async def show(self, request: web.Request) -> web.Response:
        self.shows += 1
        return web.json_response(SHOWN[(await request.json())["model"]])


@asynccontextmanager
async def _ollama() -> AsyncIterator[Ollama]:
    ollama = Ollama()

    async def tags(_request: web.Request) -> web.Response:
        return ollama.tags()

    app = web.Application()
    app.router.add_get("/api/tags", tags)
    app.router.add_post("/api/show", ollama.show)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ollama.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield ollama
    finally:
        await runner.cleanup()


@pytest.fixture
async def ollama() -> AsyncIterator[Ollama]:
    async with _ollama() as started:
        yield started


@pytest.fixture
async def found(ollama: Ollama) -> AsyncIterator[tuple[Registry, Discovery]]:
    settings = LlmServiceSettings.model_validate({"ollama_base_url": ollama.url})
    registry = build_registry(settings, {})
    discovery = Discovery(settings, registry, Metrics())
    yield registry, discovery
    await discovery._client.aclose()
    await registry.aclose()


async def test_its_models_are_offered_beside_the_table(found: tuple[Registry, Discovery]) -> None:
    """Models that chat are listed with the context that Ollama gives them; a name of the table stays the table's."""
    registry, discovery = found
    await discovery.look()

    assert [(model.name, model.aliases, model.context_tokens) for model in registry.listing().data] == [
        ("smollm2", ["llama3"], 4096),
        ("simulated", [], 131_072),
        ("llama3.2:latest", ["llama3.2"], 32_768),
        ("qwen3:0.6b", [], 4096),
        ("tiny:1", [], 1024),
        ("llama3:latest", [], 4096),
    ]
    assert registry.resolve("llama3.2").upstream == "llama3.2:latest"
    assert registry.resolve("llama3").entry.provider == "embedded"


async def test_its_models_are_named_in_metrics(found: tuple[Registry, Discovery]) -> None:
    """A model counts under its own name from the moment that it is offered."""
    _, discovery = found
    metrics = discovery._metrics
    await discovery.look()
    metrics.cost.labels("qwen3:0.6b").inc(2)
    metrics.cost.labels("not offered").inc(3)

    assert [2, 3] == [
        metrics.registry.get_sample_value("orchestra_llm_cost_dollars_total", {"model": model})
        for model in ("qwen3:0.6b", "other")
    ]


async def test_what_is_known_is_not_asked_again(ollama: Ollama, found: tuple[Registry, Discovery]) -> None:
    """A second look asks only for the list; a model that is gone is no longer offered."""
    registry, discovery = found
    await discovery.look()
    ollama.names.remove("tiny:1")
    await discovery.look()

    assert ollama.shows == len(SHOWN)
    with pytest.raises(OrchestraError):
        registry.resolve("tiny:1")


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=500),
        lambda: web.Response(text="<html>"),
        lambda: web.json_response({"models": [{"size": 3}]}),
    ],
)
async def test_nonsense_changes_nothing(
    ollama: Ollama, found: tuple[Registry, Discovery], answer: Callable[[], web.Response]
) -> None:
    """What was found stays offered while Ollama does not answer as it should: its calls fail for now, not for good."""
    registry, discovery = found
    await discovery.look()
    ollama.tags = answer
    await discovery.look()

    assert registry.resolve("tiny:1")


@pytest.mark.parametrize(
    ("names", "model", "default"),
    [
        (["qwen3:0.6b", "llama3:latest"], "llama3", "llama3:latest"),
        (["qwen3:0.6b", "llama3.2:latest"], "llama3", "qwen3:0.6b"),
        (["qwen3:0.6b", "tiny:1"], "tiny:1", "tiny:1"),
        (["nomic-embed-text:latest"], "llama3", "simulated"),
        (["qwen3:0.6b"], "tiny:1", "simulated"),
        ([], "llama3", "simulated"),
    ],
)
async def test_the_first_call_goes_to_an_ollama_that_has_a_model(
    ollama: Ollama, names: list[str], model: str, default: str
) -> None:
    """With `auto`, a service starts with the default model of its Ollama; `simulated` replaces what is missing."""
    ollama.names = names
    settings = {"llm_provider": "auto", "llm_model": model, "ollama_base_url": ollama.url}
    async with running(LlmServiceSettings.model_validate(settings)) as service:
        listed = (await service.client.get("/models")).json()

    assert [default] == [each["name"] for each in listed["data"] if model in (each["name"], *each["aliases"])]


async def test_a_stand_in_gives_way_to_the_model_and_takes_its_place(ollama: Ollama) -> None:
    """With `auto`, `llama3` is simulated until the Ollama has a model, and again when that is deleted."""
    settings = LlmServiceSettings.model_validate({"llm_provider": "auto", "ollama_base_url": ollama.url})
    registry, answered = build_registry(settings, {}), []
    discovery = Discovery(settings, registry, Metrics())
    for names in ([], ["tiny:1"], []):
        ollama.names = list(names)
        await discovery.look()
        answered.append((registry.resolve("llama3").label, registry.listing().data[0].aliases))
    await discovery.aclose()
    await registry.aclose()

    assert [("simulated", ["llama3"]), ("tiny:1", []), ("simulated", ["llama3"])] == answered


async def test_a_service_finds_them_by_itself(ollama: Ollama) -> None:
    """A service started beside an Ollama offers its models at `GET /models`, unless discovery is turned off."""
    async with running(LlmServiceSettings.model_validate({"ollama_base_url": ollama.url})) as service:
        await service.until_offered("tiny:1")
    shows = ollama.shows
    quiet = {"ollama_base_url": ollama.url, "ollama_discovery": False}
    async with running(LlmServiceSettings.model_validate(quiet)) as service:
        assert "tiny:1" not in (await service.client.get("/models")).text
    assert ollama.shows == shows

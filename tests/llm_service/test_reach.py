import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from llm_service import reach
from llm_service.settings import LlmServiceSettings
from schemas.generation import ModelInfo
from tests.support.llm_server import running
from tests.support.llm_upstream import Upstream, upstream

ENTRY = '[[models]]\nname="{}"\nprovider="{}"\nbase_url="{}"\ncontext_tokens=9\nmax_output_tokens=9\n'


@pytest.fixture
async def server() -> AsyncIterator[Upstream]:
    async with upstream() as started:
        yield started


async def _models(folder: Path, text: str, path: str) -> dict[str, ModelInfo]:
    file = folder / "models.toml"
    file.write_text(text, encoding="utf-8")
    settings = {"models_file": file, "llm_provider": "simulated", "ollama_discovery": False}
    async with running(LlmServiceSettings.model_validate(settings)) as service:
        data = (await service.client.get(path)).json()["data"]
    return {model["name"]: ModelInfo.model_validate(model) for model in data}


async def test_each_model_tells_whether_its_provider_answers(tmp_path: Path, server: Upstream) -> None:
    """With `check=true` each model is reachable or says why not, and no token was spent."""
    text = (
        ENTRY.format("here", "openai_compatible", server.url)
        + ENTRY.format("claude", "anthropic", server.root)
        + ENTRY.format("listless", "openai_compatible", f"{server.root}/v2")
        + ENTRY.format("gone", "openai_compatible", "http://127.0.0.1:9/v1")
    )
    models = await _models(tmp_path, text, "/models?check=true")

    assert {name: model.reachable for name, model in models.items()} == {
        "here": True,
        "claude": True,
        "listless": True,
        "gone": False,
        "simulated": True,
    }
    assert models["gone"].detail == "The model's provider cannot be reached."
    assert server.calls == []


@pytest.mark.parametrize("status", [401, 402])
async def test_a_refused_account_is_out_of_reach(tmp_path: Path, server: Upstream, status: int) -> None:
    """A provider that refuses our key, or has no credit left for us, is reported as such."""

    async def refuse() -> web.Response:
        return web.json_response({}, status=status)

    server.listing = refuse
    models = await _models(tmp_path, ENTRY.format("here", "openai_compatible", server.url), "/models?check=true")

    assert (models["here"].reachable, models["here"].detail) == (
        False,
        f"The model's provider answered with status {status}.",
    )


async def test_a_silent_provider_is_not_waited_for(
    tmp_path: Path, server: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that says nothing within the limit is out of reach."""

    async def nothing() -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    server.listing = nothing
    monkeypatch.setattr(reach, "CHECK_SECONDS", 0.1)
    models = await _models(tmp_path, ENTRY.format("here", "openai_compatible", server.url), "/models?check=true")

    assert models["here"].detail == "The model's provider did not answer within 0.1 s."


async def test_nobody_is_asked_unasked(tmp_path: Path, server: Upstream) -> None:
    """Without `check=true` no provider is asked, and nothing is said of its reach."""

    async def fail() -> web.Response:
        raise AssertionError

    server.listing = fail
    models = await _models(tmp_path, ENTRY.format("here", "openai_compatible", server.url), "/models")

    assert models["here"].reachable is None

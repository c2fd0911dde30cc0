"""Promises of gateway/openai/models.py."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai.types import Model as TheirModel

from benchmarks.guard.ends import Away
from gateway.settings import GatewaySettings
from tests.support.door import Door, open_door
from tests.support.fakes import Calls
from tests.support.waiting import eventually

LIMITS = {"context_tokens": 8192, "max_output_tokens": 1024}
MORE = {
    "fallbacks": ["small"],
    "price": {"input": 0.5, "output": 2.0},
    "max_concurrency": 4,
    "requests_per_minute": 60,
}
MODELS = [
    {"name": "*", "aliases": [], "provider": "openai", **LIMITS, "more": None},
    {"name": "llama3", "aliases": ["default", "small"], "provider": "ollama", **LIMITS, "more": MORE},
    {"name": "org/model:8b", "aliases": [], "provider": "vllm", **LIMITS, "more": None},
]


class Models(Away):
    """A Postgres that knows the models and nothing else."""

    async def run(self, sql: str, **parameters: Any) -> Any:
        """The models."""
        if "FROM models" in sql:
            return MODELS
        return await super().run(sql, **parameters)


@pytest.fixture
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    """A gateway that has read the models."""

    async def age(_database: object) -> float:
        return 0.0

    async def full(_database: object, _most: int) -> dict[object, object]:
        return {}

    monkeypatch.setattr("gateway.limits.requests.oldest_runnable_age", age)
    monkeypatch.setattr("gateway.limits.requests.full_conversations", full)
    monkeypatch.setattr("orchestra.store.erasures.running", Calls(frozenset()))
    settings = GatewaySettings.model_validate({"orchestra_secret": "s" * 32})
    async with open_door(Models.connect(settings, "test")) as opened:
        yield opened


async def get(door: Door, path: str) -> httpx.Response:
    """The answer, once the gateway has looked for models."""

    async def looked() -> httpx.Response | None:
        answer = await door.client.get(path)
        return None if answer.status_code == 503 else answer

    answer = await eventually(looked)
    assert answer
    return answer


@pytest.mark.parametrize("path", ["/openai/v1/models", "/v1/models"])
async def test_the_list(door: Door, path: str) -> None:
    """All models and agents are listed in OpenAI's shape, with what is known beyond it; the placeholder is not."""
    body = (await get(door, path)).json()

    assert body["object"] == "list"
    assert body["data"][:2] == [
        {
            "id": "llama3",
            "object": "model",
            "created": 0,
            "owned_by": "ollama",
            "aliases": ["default", "small"],
            **LIMITS,
            **MORE,
        },
        {"id": "org/model:8b", "object": "model", "created": 0, "owned_by": "vllm", **LIMITS},
    ]
    agents = [each["id"] for each in body["data"][2:]]
    assert "agent:analyst" in agents
    assert all(each.startswith("agent:") for each in agents)
    assert all(TheirModel.model_validate(each, strict=True) for each in body["data"])


@pytest.mark.parametrize("prefix", ["/openai/v1/models", "/v1/models"])
@pytest.mark.parametrize(
    ("name", "id"),
    [("llama3", "llama3"), ("small", "llama3"), ("org/model:8b", "org/model:8b"), ("org%2Fmodel%3A8b", "org/model:8b"),
     ("agent:analyst", "agent:analyst")],
)  # fmt: skip
async def test_one(door: Door, prefix: str, name: str, id: str) -> None:
    """A model is found by its name, slashes and colons included, and by an alias; an agent by its name."""
    assert (await get(door, f"{prefix}/{name}")).json()["id"] == id


@pytest.mark.parametrize("name", ["gpt-4", "*", "agent:nobody", "org"])
async def test_none(door: Door, name: str) -> None:
    """A name that no model has is a 404, as OpenAI's clients know it."""
    error = (await get(door, f"/openai/v1/models/{name}")).json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("model_not_found", "model", "invalid_request_error")


async def test_before_the_models_were_read() -> None:
    """A gateway that has never read the models says so, instead of an empty list."""
    async with open_door() as door:
        answer = await door.client.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")

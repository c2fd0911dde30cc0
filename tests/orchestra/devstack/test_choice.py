"""Which model answers in a stack."""

from typing import Any

import pytest

from orchestra.devstack.choice import Choice, choose
from tests.support.ollama import CHATS, EMBEDS, ollama


@pytest.mark.parametrize(
    ("models", "env", "model"),
    [
        ({"qwen:7b": CHATS, "llama3:latest": CHATS}, {}, "llama3"),
        ({"qwen:7b": CHATS, "llama3:8b": CHATS}, {}, "llama3:8b"),
        ({"nomic:latest": EMBEDS, "qwen:7b": CHATS, "llama3.2:latest": CHATS}, {}, "qwen:7b"),
        ({"old:latest": {}, "llama3:latest": EMBEDS}, {}, "old"),
        ({"qwen:7b": CHATS, "llama3:latest": CHATS}, {"LLM_MODEL": "qwen:7b"}, "qwen:7b"),
    ],
)
async def test_an_ollama_that_answers_is_used(models: dict[str, Any], env: dict[str, str], model: str) -> None:
    """An Ollama with a model that chats answers: by the model that is asked for, its llama3, or its first one."""
    async with ollama(models) as there:
        assert await choose({**there, **env}) == Choice("ollama", model)


@pytest.mark.parametrize(
    ("env", "choice"),
    [
        ({"LLM_PROVIDER": "embedded"}, Choice("embedded", "smollm2")),
        ({"LLM_PROVIDER": "embedded", "LLM_MODEL": "llama3"}, Choice("embedded", "llama3")),
        ({"LLM_PROVIDER": "openai"}, Choice("openai", "llama3")),
        ({"LLM_PROVIDER": "ollama", "LLM_MODEL": "qwen"}, Choice("ollama", "qwen")),
        ({"OLLAMA_DISCOVERY": "false"}, Choice("embedded", "smollm2")),
        ({"MODELS_FILE": "models.toml"}, Choice("embedded", "llama3")),
        ({"LLM_MODEL": "simulated"}, Choice("embedded", "simulated")),
    ],
)
async def test_what_the_caller_chose_goes_first(env: dict[str, str], choice: Choice) -> None:
    """A provider, a file of models, a model that the Ollama lacks, or the wish not to look keep an Ollama out."""
    async with ollama({"llama3:latest": CHATS}) as there:
        assert await choose({**there, **env}) == choice


async def test_its_address_may_be_that_of_openais_api() -> None:
    """OLLAMA_BASE_URL may end in `/v1`, as the LLM service takes it."""
    async with ollama({"llama3:latest": CHATS}) as there:
        assert await choose({"OLLAMA_BASE_URL": f"{there['OLLAMA_BASE_URL']}/v1/"}) == Choice("ollama", "llama3")


@pytest.mark.parametrize("tags", [[], {}, {"models": None}, {"models": [7, {"name": 7}]}, {"models": [{"name": "x"}]}])
async def test_what_is_no_ollama_with_models_is_passed_over(tags: Any) -> None:
    """An Ollama that is empty, or something else on its port, leaves the small model in its place."""
    async with ollama({"x:latest": EMBEDS}, tags) as there:
        assert await choose(there) == Choice("embedded", "smollm2")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "http://["])
async def test_no_ollama_is_no_trouble(url: str) -> None:
    """Where none answers, the small model does."""
    assert await choose({"OLLAMA_BASE_URL": url}) == Choice("embedded", "smollm2")

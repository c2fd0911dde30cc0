"""`orchestra models`, against a real LLM service and against a server that is not one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llm_service.settings import LlmServiceSettings
from orchestra.cli.main import build
from schemas.generation import ModelList
from tests.support.llm_server import running


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[str]:
    settings = {"llm_provider": "simulated", "llm_service_token": "sesame", "ollama_discovery": False}
    async with running(LlmServiceSettings.model_validate(settings)) as started:
        yield str(started.client.base_url)


async def _run(monkeypatch: pytest.MonkeyPatch, url: str, *words: str, token: str = "sesame") -> Result:
    monkeypatch.setenv("LLM_SERVICE_URL", url)
    monkeypatch.setenv("LLM_SERVICE_TOKEN", token)
    monkeypatch.setenv("COLUMNS", "160")
    return await asyncio.to_thread(CliRunner().invoke, build(), ["models", *words])


async def test_a_table_of_what_is_there(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model stands there with its names, provider, limits and whether it can be reached."""
    shown = await _run(monkeypatch, f"{service}/generate")

    assert shown.exit_code == 0, shown.output
    row = next(line for line in shown.output.splitlines() if line.startswith("simulated "))
    assert all(word in row for word in ("131,072", "16,384", "yes"))
    assert "simulated: also called llama3" in shown.output
    assert "Default model: llama3" in shown.output


async def test_programs_get_the_answer_as_it_is(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--json` prints what the service said."""
    shown = await _run(monkeypatch, service, "--json")
    offer = ModelList.model_validate_json(shown.stdout)

    assert [(model.name, model.reachable) for model in offer.data] == [("simulated", True)]


async def test_a_wrong_token_is_told(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that the service does not know ends it with 1 and the setting's name."""
    shown = await _run(monkeypatch, service, token="other")

    assert (shown.exit_code, "LLM_SERVICE_TOKEN" in shown.stderr) == (1, True)


@pytest.mark.parametrize("token", ["ä", "a\nb"])
async def test_a_token_that_cannot_be_sent_is_told(service: str, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """A token that no header can hold ends it with 1, and is not repeated."""
    shown = await _run(monkeypatch, service, token=token)

    assert (shown.exit_code, "LLM_SERVICE_TOKEN must be printable ASCII" in shown.stderr) == (1, True)
    assert token not in shown.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "http://["])
async def test_no_service_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no LLM service answers, one line on stderr says so, and the exit code is 1."""
    shown = await _run(monkeypatch, url)

    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.startswith("no LLM service at ")
    assert shown.stderr.count("\n") == 1

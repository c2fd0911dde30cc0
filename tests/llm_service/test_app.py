import pytest

from llm_service.app import create_app
from llm_service.discovery import Discovery
from llm_service.metrics import Metrics
from llm_service.settings import LlmServiceSettings
from orchestra import loops
from schemas.errors import ErrorCode, OrchestraError
from tests.support.fakes import no_pause
from tests.support.llm_server import running
from tests.support.waiting import eventually


def test_a_default_model_that_nobody_knows_stops_the_start() -> None:
    """A wrong `LLM_MODEL` shows at start, not at the first request."""
    with pytest.raises(OrchestraError) as refused:
        create_app(LlmServiceSettings(llm_model="nobody"))

    assert refused.value.code == ErrorCode.UNKNOWN_MODEL


async def test_two_apps_in_one_process_count_apart() -> None:
    """Each app has its own metrics."""
    async with running(LlmServiceSettings()) as one, running(LlmServiceSettings()) as other:
        await one.generate("simulated")

        assert (one.ended("completed"), other.ended("completed")) == (1, 0)


async def test_a_bug_is_a_problem_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is 500 `internal` and tells nothing of itself."""

    def broken(_metrics: Metrics, *_labels: object) -> None:
        raise RuntimeError("secret")

    async with running(LlmServiceSettings()) as service:
        monkeypatch.setattr(service.metrics.in_flight, "labels", broken)
        response = await service.generate("simulated")

    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text


async def test_the_search_for_models_outlives_its_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an Ollama answers: the next look comes, and the service stops in good order."""
    looks = 0

    async def look(_: Discovery) -> None:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise RuntimeError

    monkeypatch.setattr(Discovery, "look", look)
    no_pause(monkeypatch, loops, "FIRST_PAUSE_SECONDS", "LAST_PAUSE_SECONDS")
    app = create_app(LlmServiceSettings(llm_provider="simulated"))
    async with app.router.lifespan_context(app):
        await eventually(lambda: looks == 3)

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
    """An unforeseen error is 500 `internal` and reveals nothing about itself."""

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


FOREIGN = [
    {"host": "evil.example"},
    {"host": "127.0.0.1.evil.example:8082"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:9999"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_no_foreign_page_is_answered(headers: dict[str, str]) -> None:
    """Without a token, no other site's page spends tokens or reads anything, under any host name."""
    async with running(LlmServiceSettings(llm_provider="simulated")) as service:
        for method, path in (("POST", "/generate"), ("GET", "/models"), ("GET", "/healthz"), ("GET", "/metrics")):
            answer = await service.client.request(method, path, headers={"content-type": "text/plain", **headers})
            assert (403, "forbidden") == (answer.status_code, answer.json()["code"])
        assert 0 == service.ended("completed")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]", "llm.example"])
async def test_local_and_listed_names_are_answered(host: str) -> None:
    """As at the gateway, ALLOWED_HOSTS adds names."""
    async with running(LlmServiceSettings(llm_provider="simulated", allowed_hosts="llm.example")) as service:
        assert 200 == (await service.client.get("/models", headers={"host": host})).status_code


async def test_a_network_calls_by_its_own_names() -> None:
    """A service that was opened to a network by name answers containers by theirs, and still no foreign page."""
    async with running(LlmServiceSettings(llm_provider="simulated", host="0.0.0.0", open_mode=True)) as service:
        assert 200 == (await service.client.get("/models", headers={"host": "llm_service:8082"})).status_code
        for headers in FOREIGN:
            assert 403 == (await service.client.get("/models", headers=headers)).status_code


async def test_with_a_token_any_name_will_do() -> None:
    """A caller with the token is not a page, so no other header of the call is checked."""
    async with running(LlmServiceSettings.model_validate({"llm_service_token": "s3cret"})) as service:
        for headers in FOREIGN:
            bearer = {"authorization": "Bearer s3cret", **headers}
            assert 200 == (await service.client.get("/models", headers=bearer)).status_code
            assert 401 == (await service.client.get("/models", headers=headers)).status_code


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/generate"), ("GET", "/generate"), ("GET", "/models"), ("GET", "/healthz"), ("GET", "/nowhere")],
)
async def test_no_cache_keeps_an_answer(method: str, path: str) -> None:
    """JSON and problems of every route are for their caller alone, and for no browser to guess at."""
    body = {"model": "simulated", "messages": [{"role": "user", "content": "hi"}]}
    async with running(LlmServiceSettings(llm_provider="simulated")) as service:
        answer = await service.client.request(method, path, json=body)
        foreign = await service.client.request(method, path, json=body, headers={"host": "evil.example"})
    for each in (answer, foreign):
        assert ("no-store", "nosniff") == tuple(
            each.headers[name] for name in ("cache-control", "x-content-type-options")
        )


async def test_heads_are_bounded_here_too() -> None:
    """A head of more than 64 KiB is refused in the shape of every other error, before it is read."""
    async with running(LlmServiceSettings(llm_provider="simulated")) as service:
        answer = await service.client.get("/models", headers={"x": "y" * 70_000})

    assert (431, "head_too_large") == (answer.status_code, answer.json()["code"])

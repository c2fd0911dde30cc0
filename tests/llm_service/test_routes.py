import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from llm_service.settings import LlmServiceSettings
from orchestra.store.messages import MAX_BYTES_OF_PARTS
from schemas.generation import MAX_BODY_BYTES, ModelList
from tests.support.llm_server import Service, running

CANARY = "canary-7d1f"
SEED = '{"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "colour": "blue"}'
NAMES_A_FILE = SEED.replace('"hi"', '[{"type": "file", "file": {"file_id": "file-1"}}]').encode()
URL = "https://example.org/a.png"
HAS_A_URL = (
    SEED.replace("llama3", "simulated")
    .replace('"hi"', f'[{{"type": "image_url", "image_url": {{"url": "{URL}"}}}}]')
    .encode()
)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with running(LlmServiceSettings(llm_provider="simulated")) as started:
        yield started


@pytest.fixture
async def guarded() -> AsyncIterator[Service]:
    async with running(LlmServiceSettings.model_validate({"llm_service_token": "s3cret"})) as started:
        yield started


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", None])
async def test_an_old_call_is_answered_as_before(service: Service, content_type: str | None) -> None:
    """The old service's call works with any content type and with unknown fields."""
    headers = {"content-type": content_type} if content_type else {}
    response = await service.client.post("/generate", content=SEED, headers=headers)

    assert response.status_code == 200
    assert response.json()["content"] == "echo: hi"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "not_json"),
        (CANARY.encode(), 400, "not_json"),
        (b"\xff\xfe", 400, "not_json"),
        (b"[" * 100_000, 400, "not_json"),
        (b"[]", 422, "invalid_request"),
        (f'{{"model": "{CANARY}"}}'.encode(), 422, "invalid_request"),
        (f'{{"messages": [{{"role": "{CANARY}", "content": ""}}]}}'.encode(), 422, "invalid_request"),
        (b'{"messages": []}', 422, "invalid_request"),
        (SEED.replace("llama3", CANARY).encode(), 422, "unknown_model"),
        (SEED.replace("llama3", f"simulated:{CANARY}=1").encode(), 422, "invalid_request"),
        (SEED.replace("}]", '}], "temperature": 9').encode(), 422, "invalid_request"),
        (NAMES_A_FILE, 422, "unsupported_part"),
        (HAS_A_URL, 422, "unsupported_part"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "too_large"),
    ],
)
async def test_bad_input_is_named_and_never_echoed(service: Service, body: bytes, status: int, code: str) -> None:
    """Each kind of bad body has its status and code in a problem document without a word of the input."""
    response = await service.client.post("/generate", content=body)

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert CANARY not in response.text


async def test_a_prompt_with_all_media_of_its_history_is_accepted(service: Service) -> None:
    """A body has room for the media that a worker recalls, and as much again as a body had before them."""
    response = await service.client.post("/generate", content=b" " * (MAX_BYTES_OF_PARTS + 8 * 1024**2) + SEED.encode())

    assert (response.status_code, response.json()["content"]) == (200, "echo: hi")


async def test_a_byte_order_mark_is_passed_over(service: Service) -> None:
    """Some editors and clients put one before their JSON."""
    response = await service.client.post("/generate", content=b"\xef\xbb\xbf" + SEED.encode())

    assert (response.status_code, response.json()["content"]) == (200, "echo: hi")


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br", 415), ("x, identity", 415), ("Identity", 200)])
async def test_a_packed_body_is_refused_by_name(service: Service, encoding: str, status: int) -> None:
    """A body with a content encoding is 415, and not reported as bad JSON."""
    response = await service.client.post("/generate", content=SEED, headers={"content-encoding": encoding})

    assert response.status_code == status
    assert response.json().get("code") == (None if status == 200 else "unsupported_media_type")


@pytest.mark.parametrize("model", ["simulated", "simulated:fail=auth", "nobody"])
@pytest.mark.parametrize("stream", [True, False])
async def test_the_callers_name_for_a_request_comes_back(service: Service, model: str, *, stream: bool) -> None:
    """With an answer, an error and a refusal; what is no UUID and no short token does not."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    names = {
        "0b7b3e1c-5a0f-4d55-9c2d-6f0c5a1d2e3f": True,
        "order-7": True,
        "no token": False,
        "x" * 65: False,
        "": False,
    }
    for name, good in names.items():
        response = await service.client.post("/generate", json=body, headers={"x-request-id": name})
        assert response.headers.get("x-request-id") == (name if good else None)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/generate", 405, "method_not_allowed"), ("POST", "/models", 405, "method_not_allowed"),
     ("GET", "/nothing", 404, "not_found"), ("GET", "/docs", 404, "not_found")],
)  # fmt: skip
async def test_wrong_doors_are_problem_documents(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    """Another method is 405 and another path 404."""
    response = await service.client.request(method, path)

    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_what_says_that_it_is_too_large_is_not_read(service: Service) -> None:
    """A body that says its length is refused before anything of it has come."""
    url = service.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % (MAX_BODY_BYTES + 1))

    async with asyncio.timeout(20):
        assert b"413" == (await reader.readline()).split()[1]
    writer.close()


async def test_health_is_what_it_was(service: Service) -> None:
    """`GET /healthz` says ok as the old service did."""
    response = await service.client.get("/healthz")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_models_are_listed(service: Service) -> None:
    """`GET /models` has the shape that workers read."""
    listing = ModelList.model_validate_json((await service.client.get("/models")).content)

    assert [(model.name, model.aliases) for model in listing.data] == [("simulated", ["llama3"])]


async def test_the_stream_says_what_it_is(service: Service) -> None:
    """A stream is NDJSON, asks proxies not to hold it back, and is kept nowhere."""
    async with service.stream("simulated") as response:
        await response.aread()

    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["x-accel-buffering"] == "no"
    assert "no-store" == response.headers["cache-control"]
    assert "nosniff" == response.headers["x-content-type-options"]


async def test_metrics_hold_no_text_of_callers(service: Service) -> None:
    """Generations are counted by the table's names only."""
    await service.generate("simulated:tokens=2", CANARY)
    page = (await service.client.get("/metrics")).text

    assert 'orchestra_llm_generations_total{model="simulated",outcome="completed"} 1.0' in page
    assert CANARY not in page


async def test_metrics_show_the_limits_of_models() -> None:
    """The metrics show the limits of each model."""
    async with running(LlmServiceSettings(embedded_max_concurrency=3)) as service:
        page = (await service.client.get("/metrics")).text

    assert 'orchestra_llm_limit{limit="max_concurrency",model="smollm2"} 3.0' in page


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer s3cre", "Basic s3cret", "s3cret", "Bearer \xe9"])
@pytest.mark.parametrize("path", ["/generate", "/models"])
async def test_strangers_are_refused(guarded: Service, path: str, header: str | None) -> None:
    """With a token set, generations and models need exactly it; health does not."""
    headers = {b"authorization": header.encode("latin-1")} if header else {}
    request = guarded.client.build_request("POST" if path == "/generate" else "GET", path, headers=headers)
    response = await guarded.client.send(request)

    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert (await guarded.client.get("/healthz")).status_code == 200


async def test_the_token_opens(guarded: Service) -> None:
    """A caller with the token is answered."""
    headers = httpx.Headers({"authorization": "Bearer s3cret"})
    body = {"model": "simulated", "messages": [{"role": "user", "content": "hi"}]}

    assert (await guarded.client.get("/models", headers=headers)).status_code == 200
    assert (await guarded.client.post("/generate", json=body, headers=headers)).status_code == 200


async def test_urls_of_media_where_they_are_allowed() -> None:
    """They reach the provider, and the list says which models take the URL of a large file."""
    settings = LlmServiceSettings(llm_provider="openai", openai_api_key="o", allow_media_urls=True)
    async with running(settings) as service:
        answer = await service.client.post("/generate", content=HAS_A_URL)
        listed = ModelList.model_validate((await service.client.get("/models")).json())

    assert answer.status_code == 200
    assert {"openai": ["image_url"], "simulated": []} == {each.provider: each.media_urls for each in listed.data}

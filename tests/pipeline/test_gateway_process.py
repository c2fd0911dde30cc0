"""The gateway as a process: ports, settings, bodies over the wire, the guard, SIGTERM, kill -9."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.gateway import HandWorker, Sse, own_env, streaming
from tests.support.ports import free_port
from tests.support.services import Service, Services
from tests.support.stack import Stack

HELLO = {"messages": [{"role": "user", "content": "hi"}]}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
async def env(stack: Stack) -> dict[str, str]:
    return await own_env(stack)


@pytest.fixture(scope="module")
async def own_services(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    started = Services(env, tmp_path_factory.mktemp("services"))
    yield started
    await started.close()


@pytest.fixture(scope="module")
async def gateway(own_services: Services) -> Service:
    return await own_services.gateway()


@pytest.fixture
async def client(gateway: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as opened:
        yield opened


async def run(env: dict[str, str], **more: str) -> tuple[int, str]:
    """Run a gateway that must refuse to start; its exit code and stderr."""
    settings = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        env={**settings, **env, **more},
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HOST": "0.0.0.0"}, "orchestra keys create"),
        ({"HOST": "0.0.0.0", "OPEN_MODE": "false"}, "HOST is not loopback"),
        ({"ORCHESTRA_SECRET": "short"}, "ORCHESTRA_SECRET"),
        ({"PORT": "http"}, "PORT"),
        ({"CORS_ORIGINS": "https://app.example/"}, "CORS_ORIGINS"),
    ],
)
async def test_bad_settings(env: dict[str, str], settings: dict[str, str], said: str) -> None:
    """A bad setting, or one that would leave the gateway open to the network, ends the start with one line."""
    code, lines = await run(env, **settings)
    assert code == 78
    assert said in lines
    assert len(lines.splitlines()) == 1
    assert env["ORCHESTRA_SECRET"] not in lines


async def test_taken_port(env: dict[str, str], gateway: Service) -> None:
    """A port in use ends the start with one line that names it."""
    port = gateway.url.rpartition(":")[2]
    code, lines = await run(env, PORT=str(free_port()), TASKS_PORT=port)
    assert code == 1
    assert f"port {port}" in lines
    assert len(lines.splitlines()) == 1


async def test_asking_for_credentials(own_services: Services) -> None:
    """On loopback, too, a gateway can require credentials; without any it logs a warning at the start."""
    asking = await own_services.gateway(OPEN_MODE="false")
    async with httpx.AsyncClient(base_url=asking.url) as client:
        refused = await client.get("/v1/conversations")
        assert (401, "Bearer") == (refused.status_code, refused.headers["www-authenticate"])
        assert (await client.get("/readyz")).json()["open_mode"] is False
    await asking.stop()
    assert '"event": "no_way_in"' in asking.log
    assert '"event": "open_mode"' not in asking.log


async def test_an_open_gateway_says_so(gateway: Service) -> None:
    """An open gateway logs one warning at the start."""
    assert gateway.log.count('"event": "open_mode"') == 1


async def test_two_ports(own_services: Services) -> None:
    """Both ports serve all routes."""
    tasks = free_port()
    started = await own_services.gateway(TASKS_PORT=str(tasks))
    async with httpx.AsyncClient() as client:
        for url in (started.url, f"http://127.0.0.1:{tasks}"):
            assert (await client.get(f"{url}/healthz")).text == "ok"
            assert (await client.get(f"{url}/readyz")).json()["ready"] is True
            assert (await client.get(f"{url}/v1/conversations")).status_code == 200
    await started.stop()


async def test_ready(client: httpx.AsyncClient) -> None:
    """A ready gateway reports each part, and that it is in open mode."""
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    parts = {name: {"ready": True, "reason": None} for name in "kafka database events process intake files".split()}
    assert ready.json() == {"ready": True, "open_mode": True, "parts": parts}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "not_json"),
        (b"{", 400, "not_json"),
        (b'{"messages": NaN}', 400, "not_json"),
        (b"\xff\xfe", 400, "not_json"),
        (b"[" * 100_000, 400, "not_json"),
        (b"[]", 422, "invalid_request"),
        (b"{}", 422, "invalid_request"),
        (b'{"messages": []}', 422, "invalid_request"),
        (b'{"messages": [{"role": "canary", "content": "x"}]}', 422, "invalid_request"),
        (b'{"messages": [{"role": "user", "content": "\\u0000"}]}', 422, "invalid_request"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 422, "invalid_request"),
        (b'{"conversation_id": "canary", "messages": [{"role": "user", "content": "x"}]}', 422, "invalid_request"),
        (b'{"deadline": "2999-01-01", "messages": [{"role": "user", "content": "x"}]}', 422, "invalid_request"),
        (b'{"priority": 10, "messages": [{"role": "user", "content": "x"}]}', 422, "invalid_request"),
    ],
)
async def test_bad_bodies(client: httpx.AsyncClient, body: bytes, status: int, code: str) -> None:
    """An invalid body is refused with the place and the reason, and nothing of it is repeated."""
    response = await client.post("/v1/messages", content=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json().keys() == {"type", "title", "status", "detail", "code"}
    assert "canary" not in response.text


@pytest.mark.parametrize("size", [MIB + 1, 3 * MIB, 1024 * MIB])
@pytest.mark.parametrize("chunked", [False, True])
async def test_too_large(gateway: Service, client: httpx.AsyncClient, size: int, chunked: bool) -> None:
    """A body over the limit is 413, with and without a declared length, however much is still to come."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % framing)

    answer = asyncio.create_task(reader.readline())

    async def send_until_answered() -> None:
        for sent in range(0, size, 65_536):
            piece = b"x" * min(65_536, size - sent)
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
            # Read while sending, as any client does: one that only sends is cut off in the end, and its response is
            # lost.
            if (await asyncio.wait([answer], timeout=0))[0]:
                return

    async with asyncio.timeout(20):
        await send_until_answered()
        assert (await answer).split()[1] == b"413"
        writer.close()
    assert (await client.get("/healthz")).text == "ok"


@pytest.mark.parametrize("asks", [b"", b"Expect: 100-continue\r\n"], ids=["sends", "asks"])
async def test_too_large_by_its_head(gateway: Service, asks: bytes) -> None:
    """A caller that declares too large a body gets 413 before sending any of it."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n"
    writer.write(head % (asks, 10 * MIB))
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == b"413"
    writer.close()


async def test_largest_body(client: httpx.AsyncClient, worker: HandWorker) -> None:
    """A body of exactly 1 MiB is accepted."""
    empty = json.dumps({"messages": [{"role": "user", "content": ""}]}).encode()
    body = empty.replace(b'""', b'"%b"' % (b"x" * (MIB - len(empty))))
    assert len(body) == MIB
    response = await client.post("/v1/messages", content=body, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    assert str((await worker.take_in()).id) == response.json()["id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/messages", 405, "method_not_allowed"),
        ("PUT", "/v1/messages", 405, "method_not_allowed"),
        ("DELETE", "/v1/requests/x", 405, "method_not_allowed"),
        ("GET", "/canary", 404, "not_found"),
        ("POST", "/v1/messages/", 404, "not_found"),
        ("GET", "/v1/../canary", 404, "not_found"),
    ],
)
async def test_other_calls(client: httpx.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    """Another method or an unknown route is a problem too."""
    response = await client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert "canary" not in response.text
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:1"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:3000", "Origin": "http://localhost:3000"}, 200),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
    ],
)
async def test_guard(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    """A page of another origin reaches no route, under a foreign host name or from a foreign origin."""
    for path in ("/healthz", "/docs", "/v1/conversations"):
        assert (await client.get(path, headers=headers)).status_code == status
    if status == 403:
        refused = await client.post("/v1/messages", json=HELLO, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "evil" not in refused.text


async def test_sigterm(own_services: Services, env: dict[str, str], worker: HandWorker) -> None:
    """On SIGTERM streams get a reconnect hint, waiting calls get their response, and the process ends within 10 s."""
    leaving = await own_services.gateway()
    async with httpx.AsyncClient(base_url=leaving.url, timeout=30) as client:
        waiting = asyncio.create_task(client.post("/v1/messages", json=HELLO))
        await worker.begin()
        async with streaming(client, "POST", "/v1/messages", json={**HELLO, "stream": True}) as reader:
            await reader.until("pending")
            leaving.terminate()
            assert await reader.rest() == [Sse("retry", {"milliseconds": 500})]
        assert ((await waiting).status_code, (await waiting).json()["code"]) == (504, "still_running")
    async with asyncio.timeout(10):
        assert await leaving.ended() == 0
    assert "Traceback" not in leaving.log
    assert env["ORCHESTRA_SECRET"] not in leaving.log


async def test_killed_in_mid_stream(own_services: Services, client: httpx.AsyncClient, worker: HandWorker) -> None:
    """A stream that breaks with its gateway continues at another one without a gap."""
    doomed = await own_services.gateway()
    body = {**HELLO, "stream": True}
    async with (
        httpx.AsyncClient(base_url=doomed.url, timeout=30) as first,
        streaming(first, "POST", "/v1/messages", json=body) as reader,
    ):
        turn = await worker.begin()
        await worker.delta(turn, 0, "Once upon")
        told = await reader.until("delta")
        await doomed.kill()
        with pytest.raises(httpx.TransportError):
            await reader.rest()
    headers = {"Last-Event-ID": str(told[-1].id)}
    async with streaming(client, "GET", f"/v1/requests/{turn.id}/events", headers=headers) as reader:
        await worker.delta(turn, 9, " a time")
        await worker.complete(turn, "Once upon a time")
        rest = await reader.rest()
    assert "".join(event.data["text"] for event in rest if event.name == "delta") == " a time"


async def test_documents(client: httpx.AsyncClient) -> None:
    """`/docs` and the metrics answer; the OpenAPI document has every body, header and problem."""
    assert (await client.get("/docs")).status_code == 200
    metrics = (await client.get("/metrics")).text
    assert "orchestra_gateway_accepted_total" in metrics
    document = (await client.get("/openapi.json")).json()
    post = document["paths"]["/v1/messages"]["post"]
    assert {"200", "202", "400", "403", "413", "422", "429", "502", "503", "504"} <= post["responses"].keys()
    assert post["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/PostMessage")
    assert {each["name"] for each in post["parameters"]} >= {"Prefer", "Idempotency-Key"}
    references = set(find_references(document))
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references <= known


def find_references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in find_references(value)]
    return [found for value in node for found in find_references(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("start", [b"GET /healthz HTTP/1.1\r\nx: ", b"GET /", b"GET /healthz HTTP/1.1\r\n"])
async def test_a_head_without_end(gateway: Service, client: httpx.AsyncClient, start: bytes) -> None:
    """An endless URL, header or list of headers is 431, while the gateway goes on answering and does not grow."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = asyncio.create_task(reader.read())
    more = b"x" * 65_536 if start.endswith((b"/", b" ")) else b"a: b\r\n" * 10_000
    writer.write(start)
    before = psutil.Process(gateway.pid).memory_info().rss
    async with asyncio.timeout(60):
        while not (await asyncio.wait([answer], timeout=0))[0]:
            try:
                writer.write(more)
                await writer.drain()
            except ConnectionError:
                break
            assert (await client.get("/healthz")).text == "ok"
        head, _, body = (await answer).partition(b"\r\n\r\n")
    writer.close()
    assert b"431" == head.split()[1]
    assert "head_too_large" == json.loads(body)["code"]
    assert psutil.Process(gateway.pid).memory_info().rss < before + 16 * MIB


async def test_a_proxy_that_is_none(env: dict[str, str]) -> None:
    """A trusted proxy must be an address or a network."""
    code, lines = await run(env, TRUSTED_PROXIES="10.0.0.0/8, proxy.example")
    assert (78, 1) == (code, len(lines.splitlines()))
    assert "TRUSTED_PROXIES" in lines

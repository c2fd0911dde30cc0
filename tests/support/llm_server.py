"""Our LLM service on a real socket, inside the test's own process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import orjson
import uvicorn

from llm_service.app import create_app
from llm_service.metrics import Metrics
from llm_service.settings import LlmServiceSettings
from orchestra.http.server import server_config


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the test run.
        yield


class Service:
    """A running service, a client to it, and what it has measured."""

    def __init__(self, client: httpx.AsyncClient, metrics: Metrics) -> None:
        self.client = client
        self.metrics = metrics

    async def generate(self, model: str, content: str = "Hello", **more: object) -> httpx.Response:
        """A plain call."""
        return await self.client.post("/generate", json=_body(model, content, more))

    async def lines(self, model: str, content: str = "Hello", **more: object) -> list[dict[str, object]]:
        """The lines of a streamed call; the status must be 200."""
        response = await self.client.post("/generate", json=_body(model, content, {"stream": True, **more}))
        assert response.status_code == 200, response.text
        return [orjson.loads(line) for line in response.content.splitlines()]

    @asynccontextmanager
    async def stream(self, model: str, content: str = "Hello") -> AsyncIterator[httpx.Response]:
        """A streamed call whose lines are read by the caller."""
        body = _body(model, content, {"stream": True})
        async with self.client.stream("POST", "/generate", json=body) as response:
            yield response

    async def until_offered(self, name: str, seconds: float = 20) -> None:
        """Wait until `GET /models` lists a model by this name; TimeoutError when it never does."""
        async with asyncio.timeout(seconds):
            while f'"{name}"' not in (await self.client.get("/models")).text:
                await asyncio.sleep(0.01)

    @property
    def in_flight(self) -> float:
        """Generations that run now."""
        return self._sum("orchestra_llm_generations_in_flight")

    def ended(self, outcome: str) -> float:
        """Generations that ended so."""
        return self._sum("orchestra_llm_generations_total", outcome)

    def _sum(self, name: str, outcome: str | None = None) -> float:
        samples = [sample for metric in self.metrics.registry.collect() for sample in metric.samples]
        return sum(
            sample.value for sample in samples if sample.name == name and sample.labels.get("outcome") == outcome
        )


def text_of(lines: list[dict[str, object]]) -> str:
    """The text of a stream."""
    return "".join(str(line["delta"]) for line in lines if "delta" in line)


@asynccontextmanager
async def running(settings: LlmServiceSettings) -> AsyncIterator[Service]:
    """The service, served by uvicorn on a free port of 127.0.0.1."""
    metrics = Metrics()
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(settings, metrics=metrics)
    server = _Server(server_config(app, settings.proxies, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await eventually(lambda: server.started)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
            yield Service(client, metrics)
    finally:
        server.should_exit = True
        await serving


async def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition holds; TimeoutError when it never does."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


def _body(model: str, content: str, more: dict[str, object]) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}

"""An Ollama with the models that a test wants."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.support.llm_wires import OPENAI
from tests.support.ports import free_port

CHATS, EMBEDS = {"capabilities": ["completion"]}, {"capabilities": ["embedding"]}


@asynccontextmanager
async def ollama(models: Mapping[str, Any], tags: Any = None) -> AsyncIterator[dict[str, str]]:
    """One with these models, by what it shows of each, or one that lists this; the environment that names it.

    Each says its own name to whatever it is asked.
    """

    async def list_(_: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": name} for name in models]} if tags is None else tags)

    async def show(request: web.Request) -> web.Response:
        name = (await request.json())["model"]
        return web.json_response(models.get(name) or models[f"{name}:latest"])

    async def chat(request: web.Request) -> web.Response:
        said = OPENAI.begin + OPENAI.piece(f"I am {(await request.json())['model']}.") + OPENAI.end("stop")
        return web.Response(body=said, content_type="text/event-stream")

    app = web.Application()
    app.router.add_get("/api/tags", list_)
    app.router.add_post("/api/show", show)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield {"OLLAMA_BASE_URL": f"http://127.0.0.1:{port}"}
    finally:
        await runner.cleanup()

"""Wires the parts of the LLM service together, and is the only place that does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from fastapi import FastAPI

from llm_service import problems
from llm_service.discovery import Discovery
from llm_service.metrics import Metrics
from llm_service.registry import Registry, build_registry
from llm_service.routes import build_router
from llm_service.settings import LlmServiceSettings
from orchestra.http.guard import OpenModeGuard
from orchestra.http.hot_routes import HotApp
from orchestra.loops import beside, keep_running

_log = structlog.get_logger()


def create_app(
    settings: LlmServiceSettings, *, registry: Registry | None = None, metrics: Metrics | None = None
) -> FastAPI:
    """The service as an ASGI app. Raises `llm_service.models.ModelsFileError` or, for `LLM_MODEL`, `OrchestraError`."""
    models = registry or build_registry(settings)
    models.resolve(settings.llm_model)
    measured = metrics or Metrics()
    measured.note_models(models.listing().data)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(models.aclose)
            if settings.ollama_discovery:
                looking = Discovery(settings, models, measured)
                stack.push_async_callback(looking.aclose)
                if settings.llm_provider == "auto":
                    await looking.look()  # The first request already goes to the model of an Ollama.
                    default = models.resolve(settings.llm_model)
                    _log.info("default_model", model=default.label, provider=default.entry.provider)
                await stack.enter_async_context(beside(keep_running(looking.run, "discovery_failed")))
            yield

    app = HotApp(title="LLM service", lifespan=lifespan, openapi_url=None)
    problems.install(app)
    if settings.token is None:
        # Clients on a network use the network's own host names.
        app.add_middleware(
            OpenModeGuard, hosts=settings.hosts, answer=problems.answer, plain_names=not settings.loopback
        )
    app.include_router(build_router(settings, models, measured))
    return app

"""The LLM service's parts, put together. This is the only place where they are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from llm_service import problems
from llm_service.metrics import Metrics
from llm_service.registry import Registry, build_registry
from llm_service.routes import build_router
from llm_service.settings import LlmServiceSettings


def create_app(
    settings: LlmServiceSettings, *, registry: Registry | None = None, metrics: Metrics | None = None
) -> FastAPI:
    """The service as an ASGI app. Raises `llm_service.models.ModelsFileError` or, for `LLM_MODEL`, `OrchestraError`."""
    models = registry or build_registry(settings)
    models.resolve(settings.llm_model)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await models.aclose()

    app = FastAPI(title="LLM service", lifespan=lifespan, openapi_url=None)
    problems.install(app)
    app.include_router(build_router(settings, models, metrics or Metrics()))
    return app

"""Real services of a test module's own, with a table of models where it wants one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.support.gateway import own_env
from tests.support.services import Services
from tests.support.stack import Stack


@asynccontextmanager
async def serving(stack: Stack, folder: Path, models: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway, with a worker and an LLM service behind it; ``models``: what that has, as TOML."""
    file = folder / "models.toml"
    file.write_text(models)
    services = Services(await own_env(stack), folder)
    try:
        await services.llm(**({"MODELS_FILE": str(file)} if models else {}))
        await services.worker()
        gateway = await services.gateway()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=90, trust_env=False) as opened:
            yield opened
    finally:
        await services.close()

"""The models that the LLM service offers, refreshed every 30 s and stored in Postgres for the gateways."""

import asyncio

import structlog

from orchestra.store.database import Database, DatabaseUnavailableError, DataRefusedError
from orchestra.store.models import note_models
from schemas.errors import OrchestraError
from schemas.generation import ModelInfo
from workers.generate import LlmService
from workers.timings import TIMINGS, Timings

log = structlog.get_logger()


class Models:
    """The offered models by name and alias."""

    def __init__(self, llm: LlmService, database: Database, timings: Timings = TIMINGS) -> None:
        self._llm = llm
        self._database = database
        self._timings = timings
        self._by_name: dict[str, ModelInfo] = {}
        self._other: ModelInfo | None = None

    def find(self, name: str) -> ModelInfo | None:
        """Find a model by name, alias, or name with options after a colon; None if it is unknown."""
        return self._by_name.get(name) or self._by_name.get(name.partition(":")[0]) or self._other

    async def run(self) -> None:
        """Keep the table fresh until cancelled."""
        while True:
            fresh = await self.refresh()
            await asyncio.sleep(self._timings.refresh_models if fresh else self._timings.retry_models)

    async def refresh(self) -> bool:
        """Refresh the table once. False if the LLM service or Postgres failed."""
        try:
            offer = await self._llm.models()
            self._by_name = {name: model for model in offer.data for name in (*model.aliases, model.name)}
            self._other = offer.other
            await note_models(self._database, offer)
        except (OrchestraError, DatabaseUnavailableError, DataRefusedError) as error:
            log.warning("models_not_refreshed", reason=getattr(error, "code", str(error)))
            return False
        return True

"""How much may come in: looked up in the background, so that accepting a request reads no database."""

import asyncio
from datetime import datetime
from uuid import UUID

import structlog

from gateway.metrics import Metrics
from gateway.people.principal import Principal
from gateway.quotas import Quotas
from gateway.timings import TIMINGS, Timings
from orchestra.store import models, requests
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.turns import ConversationRef
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ModelInfo

_RETRY_OVERLOADED_SECONDS = 30
_RETRY_FULL_SECONDS = 5
_ANY_NAME = "*"
_UNKNOWN_MODEL = "No model has this name; `orchestra models` and GET /models of the LLM service list those there are"

log = structlog.get_logger()


class Limits:
    """What was last seen in Postgres; while that is away it stays as it was.

    ``quotas`` None: everybody is one caller, and an old queue is everybody's. With them it is its owner's alone.
    """

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        quotas: Quotas | None,
        *,
        most_age: float,
        most_turns: int,
        timings: Timings = TIMINGS,
    ) -> None:
        self._timings = timings
        self.database_problem: str | None = "Postgres was not asked yet"
        self._database = database
        self._metrics = metrics
        self._quotas = quotas
        self._most_age = most_age
        self._most_turns = most_turns
        self._age = 0.0
        self._full: dict[ConversationRef, str | None] = {}
        self._models: dict[str, ModelInfo] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
                self.database_problem = None
            except DatabaseUnavailableError:
                self.database_problem = "Postgres cannot be reached"
            except Exception as error:
                self.database_problem = "Postgres refuses our questions; are all migrations applied?"
                log.error("limits_failed", exc_info=error)
            await asyncio.sleep(self._timings.look_at_limits)

    async def look(self) -> None:
        """Look once. Raises ``DatabaseUnavailableError``."""
        self._age = await requests.oldest_runnable_age(self._database)
        self._metrics.queue_age_seconds.set(self._age)
        self._full = await requests.full_conversations(self._database, self._most_turns)
        if self._quotas:
            await self._quotas.look(self._database)
        known = await models.known_models(self._database)
        self._models = {name: model for model in known for name in (model.name, *model.aliases)}

    def check(
        self, caller: Principal, conversation_id: UUID, model: str | None, not_before: datetime | None = None
    ) -> None:
        """Raises ``UNKNOWN_MODEL``, ``CONVERSATION_FULL``, ``OVERLOADED`` and what ``Quotas.check`` raises."""
        conversation = caller.conversation(conversation_id)
        if model is not None and not self._knows(model):
            raise OrchestraError(ErrorCode.UNKNOWN_MODEL, _UNKNOWN_MODEL)
        # How full another's conversation is, is none of this caller's business.
        if conversation in self._full and caller.sees(self._full[conversation]):
            raise OrchestraError(ErrorCode.CONVERSATION_FULL, retry_after=_RETRY_FULL_SECONDS)
        if self._quotas:
            self._quotas.check(caller, not_before)
        elif self._age > self._most_age:
            detail = "the oldest request in the queue has waited too long"
            raise OrchestraError(ErrorCode.OVERLOADED, detail, retry_after=_RETRY_OVERLOADED_SECONDS)

    def check_storage(self, caller: Principal) -> None:
        """Raises ``STORAGE_FULL``."""
        if self._quotas:
            self._quotas.check_storage(caller)

    def _knows(self, name: str) -> bool:
        if not self._models or name in self._models or _ANY_NAME in self._models:
            return True
        # Its settings come after a colon. Elsewhere a colon belongs to the name, as in `llama3:8b`.
        plain = self._models.get(name.partition(":")[0])
        return plain is not None and plain.provider == "simulated"

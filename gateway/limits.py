"""Admission limits, refreshed from Postgres in the background so that accepting a request costs no query."""

import asyncio
import time
from collections.abc import Collection
from datetime import UTC, datetime
from math import nan
from uuid import UUID

import structlog

from gateway.erasing import Erasing
from gateway.metrics import Metrics
from gateway.people.principal import Principal
from gateway.quotas import Parking, Quotas
from gateway.timings import TIMINGS, Timings
from orchestra.loops import LAST_PAUSE_SECONDS
from orchestra.store import models, requests
from orchestra.store.database import Database, DatabaseUnavailableError, DatabaseUnsuitableError
from orchestra.store.turns import ConversationRef
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ModelInfo

_RETRY_OVERLOADED_SECONDS = 30
_RETRY_FULL_SECONDS = 5
# Looking takes a tenth of the time, however many turns wait and however many owners there are. A pause has a limit, so
# that after a stall of Postgres a gateway soon notices what has changed.
_REST = 10.0
# It does not repeat the name: problem documents have nothing that a caller wrote, which may be a secret.
_UNKNOWN_MODEL = "No model has this name; list them with GET /v1/models or `orchestra models`"

log = structlog.get_logger()


class Limits:
    """The limits as last read from Postgres; while it is unreachable, the last values stay in force.

    ``quotas`` None (open mode): all callers count as one, and an old queue refuses all of them. With quotas, an old
    queue refuses only its owner.
    """

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        quotas: Quotas | None,
        erasing: Erasing,
        *,
        max_age: float,
        max_turns: int,
        timings: Timings = TIMINGS,
    ) -> None:
        self._timings = timings
        self.database_problem: str | None = "Postgres has not been checked yet"
        self._database = database
        self._metrics = metrics
        self._quotas = quotas
        self._erasing = erasing
        self._max_age = max_age
        self._max_turns = max_turns
        self._age = 0.0
        self._full: dict[ConversationRef, str | None] = {}
        self._models: dict[str, ModelInfo] = {}

    async def run(self) -> None:
        """Refresh repeatedly until cancelled."""
        while True:
            pause, began = self._timings.look_at_limits, time.monotonic()
            try:
                await self.look()
                self.database_problem = None
                pause = max(pause, min(_REST * (time.monotonic() - began), LAST_PAUSE_SECONDS))
            except DatabaseUnsuitableError as error:
                self._lose_sight(error.told)
                log.error("database_unsuitable", reason=str(error))
            except DatabaseUnavailableError as error:
                self._lose_sight(error.told)
            except Exception as error:
                self._lose_sight("Postgres rejects the gateway's queries; are all migrations applied?")
                log.error("limits_failed", exc_info=error)
            await asyncio.sleep(pause)

    def _lose_sight(self, problem: str) -> None:
        self.database_problem = problem
        # What was seen last may no longer be true, and an autoscaler would go on by it.
        self._metrics.queue_age_seconds.set(nan)

    async def look(self) -> None:
        """Refresh once. Raises ``DatabaseUnavailableError``."""
        await self._erasing.look(self._database)
        self._age = await requests.oldest_runnable_age(self._database)
        self._metrics.queue_age_seconds.set(self._age)
        self._full = await requests.full_conversations(self._database, self._max_turns)
        if self._quotas:
            await self._quotas.look(self._database)
        self._models = models.by_name(await models.known_models(self._database))

    @property
    def models(self) -> list[ModelInfo]:
        """The models that a request may ask for by their names. Raises ``UNAVAILABLE`` if they were never read."""
        if not self._models and self.database_problem:
            raise OrchestraError(ErrorCode.UNAVAILABLE, self.database_problem)
        return [model for name, model in self._models.items() if name == model.name != models.ANY_NAME]

    def check(
        self, caller: Principal, conversation_id: UUID, model: str | None, not_before: datetime | None = None
    ) -> None:
        """Check one new request.

        Raises ``UNKNOWN_MODEL``, ``CONVERSATION_FULL``, ``OVERLOADED`` and what ``Erasing.check`` and ``Quotas.check``
        raise.
        """
        self._erasing.check(caller)
        conversation = caller.conversation(conversation_id)
        if model is not None:
            self.check_model(model)
        # The error must not reveal how full another owner's conversation is.
        if conversation in self._full and caller.sees(self._full[conversation]):
            raise OrchestraError(ErrorCode.CONVERSATION_FULL, retry_after=_RETRY_FULL_SECONDS)
        if self._quotas:
            self._quotas.check(caller, not_before)
        elif self._age > self._max_age:
            detail = "the oldest request in the queue has waited too long"
            raise OrchestraError(ErrorCode.OVERLOADED, detail, retry_after=_RETRY_OVERLOADED_SECONDS)

    def check_model(self, name: str) -> None:
        """Check the name of a model. Raises ``UNKNOWN_MODEL``."""
        if not self._knows(name):
            raise OrchestraError(ErrorCode.UNKNOWN_MODEL, _UNKNOWN_MODEL)

    def check_parked(self, caller: Principal, not_before: datetime | None) -> None:
        """Check a request that is to wait until then. Raises ``TOO_MANY_PARKED``."""
        if self._quotas:
            self._quotas.check_parked(caller, not_before)

    async def parking(self, tenant: str, owners: Collection[str], not_before: datetime | None) -> Parking | None:
        """The room for more requests that wait until then. None: they do not wait, or there is no limit.

        Raises ``DatabaseUnavailableError``.
        """
        if not self._quotas or not_before is None or not_before <= datetime.now(UTC):
            return None
        return await self._quotas.parking(self._database, tenant, owners)

    def check_storage(self, caller: Principal) -> None:
        """Check something new to store. Raises ``STORAGE_FULL`` and what ``Erasing.check`` raises."""
        self._erasing.check(caller)
        if self._quotas:
            self._quotas.check_storage(caller)

    def _knows(self, name: str) -> bool:
        return not self._models or models.ANY_NAME in self._models or models.named(self._models, name) is not None

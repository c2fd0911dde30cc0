"""What operators see and steer: the queue, the workers, models, topics, statistics, the audit. Keys need `operate`."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal, Unpack
from urllib.parse import quote
from uuid import UUID

from orchestra.client.caller import Call, Caller
from orchestra.client.live import AsyncLive
from orchestra.client.options import AuditFilters, body_of, check_names
from orchestra.client.pages import AsyncItems, items_by_cursor
from orchestra.client.requests import one, texts_of
from schemas.api.audit import AuditEntry, AuditPage
from schemas.api.pauses import PauseResource
from schemas.api.queue import QueueState
from schemas.api.stats import StatsAnswer
from schemas.api.topics import TopicList
from schemas.api.workers import WorkerList, WorkerResource


class _Group:
    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def _pause(self, path: str, reason: str, until: datetime | str | None) -> PauseResource:
        body = body_of(reason=reason, until=until)
        return (await self._caller.call(Call("POST", f"{path}/pause", content=body))).read(PauseResource)

    async def _resume(self, path: str) -> None:
        await self._caller.call(Call("POST", f"{path}/resume"))


class AsyncQueue(_Group):
    """The queue of the tenant. Calls raise ``ClientError``."""

    async def get(self) -> QueueState:
        """What waits, by model and priority, for how long, which models refuse, what is paused, and what is next."""
        return (await self._caller.call(Call("GET", "/v1/queue"))).read(QueueState)

    def live(self, ids: Collection[UUID | str] = ()) -> AsyncLive:
        """Follow what happens now, one frame a second: the tenant's to operators, their own counts to all others.

        ``ids``: up to 100 requests, whose changes come as events of their own. Iterating raises ``ClientError``.
        """
        return AsyncLive(self._caller, ids)

    async def pause(self, *, reason: str = "", until: datetime | str | None = None) -> PauseResource:
        """Pause all work of the tenant: requests are accepted and wait, what runs goes on.

        ``until``: None: until it is resumed.
        """
        return await self._pause("/v1/tenant", reason, until)

    async def resume(self) -> None:
        """Resume the work of the tenant. Models that are paused stay so."""
        await self._resume("/v1/tenant")


class AsyncModels(_Group):
    """Pauses of models, for the tenant. Calls raise ``ClientError``, with code ``unknown_model`` for no model."""

    async def pause(self, model: str, *, reason: str = "", until: datetime | str | None = None) -> PauseResource:
        """Pause a model, by its name or an alias: its requests wait, what runs goes on.

        ``until``: None: until it is resumed.
        """
        return await self._pause(f"/v1/models/{quote(model)}", reason, until)

    async def resume(self, model: str) -> None:
        """Resume a model. A pause of the whole tenant stays."""
        await self._resume(f"/v1/models/{quote(model)}")


class AsyncWorkers(_Group):
    """The workers. Calls raise ``ClientError``, with code ``not_found`` for an id that is unknown."""

    async def get(self) -> WorkerList:
        """All workers, with what each said of itself when it last renewed its lease."""
        return (await self._caller.call(Call("GET", "/v1/workers"))).read(WorkerList)

    async def drain(self, worker_id: UUID | str) -> WorkerResource:
        """Have a worker take nothing new; what it runs goes on. Only for operators of the tenant ``default``."""
        return await self._control(worker_id, "drain")

    async def resume(self, worker_id: UUID | str) -> WorkerResource:
        """Let a worker that drains work again. Only for operators of the tenant ``default``."""
        return await self._control(worker_id, "resume")

    async def _control(self, worker_id: UUID | str, verb: str) -> WorkerResource:
        call = Call("POST", f"{one('/v1/workers', worker_id)}/{verb}")
        return (await self._caller.call(call)).read(WorkerResource)


class AsyncTopics(_Group):
    """The topics in Kafka. Calls raise ``ClientError``."""

    async def get(self) -> TopicList:
        """All topics, with how far each partition is written and read."""
        return (await self._caller.call(Call("GET", "/v1/topics"))).read(TopicList)


class AsyncStats(_Group):
    """What has ended. Calls raise ``ClientError``."""

    async def get(
        self,
        *,
        from_: datetime | str | None = None,
        to: datetime | str | None = None,
        step: int | None = None,
        by: Literal["model", "outcome"] | None = None,
    ) -> StatsAnswer:
        """How many requests ended, what they used and how long they took, in steps of ``step`` seconds.

        ``from_``: None: an hour before ``to``. ``to``: None: now. ``step``: a multiple of 60; None: 60.
        """
        given: dict[str, Any] = {"from": from_, "to": to, "step": step, "by": by}
        return (await self._caller.call(Call("GET", "/v1/stats", params=texts_of(given)))).read(StatsAnswer)


class AsyncAudit(_Group):
    """What people and keys have changed. Needs the scope ``admin``. Calls raise ``ClientError``."""

    def list(self, *, page_size: int = 100, **filters: Unpack[AuditFilters]) -> AsyncItems[AuditEntry]:
        """Iterate over the changes that match every given filter, newest first. ``page_size``: 1 to 1,000."""
        check_names(filters, AuditFilters)
        params = {**texts_of(filters), "limit": page_size}
        return items_by_cursor(self._caller, "/v1/audit", AuditPage, params)

"""What operators control: pauses of models and of their tenant, and workers that are to take nothing new."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from fastapi import Response

from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.limits import Limits
from gateway.routes.queue import shown_pause, shown_worker
from orchestra.store import leases, pauses
from orchestra.store.audit import changing
from orchestra.store.database import Database
from schemas.api.audit import Action
from schemas.api.keys import Scope
from schemas.api.pauses import PauseResource, PauseWork
from schemas.api.workers import WorkerResource
from schemas.changes import Fields
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import MAX_MODEL_NAME

_NOT_YOURS = f"workers serve every tenant; only operators of the tenant `{DEFAULT_TENANT}` can drain one"


class Controls:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        # A model's name may have slashes.
        model, tenant, worker = "/v1/models/{model_id:path}", "/v1/tenant", "/v1/workers/{worker_id}"
        paused = {"model": PauseResource, "description": "Paused"}
        resumed = {"description": "Not paused, or no longer"}
        shown = {"model": WorkerResource, "description": "The worker; it follows within seconds"}
        body = Body(PauseWork, required=False)
        return [
            Route(
                "POST", f"{model}/pause", self.pause_model, Scope.OPERATE, {200: paused}, body=body,
                also=[ErrorCode.UNKNOWN_MODEL], action=Action.MODEL_PAUSE,
            ),
            Route(
                "POST", f"{model}/resume", self.resume_model, Scope.OPERATE, {204: resumed},
                also=[ErrorCode.UNKNOWN_MODEL], action=Action.MODEL_RESUME,
            ),
            Route(
                "POST", f"{tenant}/pause", self.pause_tenant, Scope.OPERATE, {200: paused}, body=body,
                action=Action.TENANT_PAUSE,
            ),
            Route(
                "POST", f"{tenant}/resume", self.resume_tenant, Scope.OPERATE, {204: resumed},
                action=Action.TENANT_RESUME,
            ),
            Route(
                "POST", f"{worker}/drain", self.drain_worker, Scope.OPERATE, {200: shown}, action=Action.WORKER_DRAIN
            ),
            Route(
                "POST", f"{worker}/resume", self.resume_worker, Scope.OPERATE, {200: shown},
                action=Action.WORKER_RESUME,
            ),
        ]  # fmt: skip

    async def pause_model(self, call: Call[PauseWork], model_id: str) -> Response:
        """Pause a model for the tenant.

        The tenant's requests for the model wait, under its name and its aliases; those of other tenants are not
        affected. Requests that are running continue. Waiting requests still expire at their deadlines. A pause that is
        already in force is replaced.
        """
        self._limits.check_model(_name(model_id))
        return await self._pause(call, model_id)

    async def resume_model(self, call: Call[None], model_id: str) -> Response:
        """Resume a model that the tenant has paused.

        A pause of the whole tenant remains in force.
        """
        return await self._resume(call, _name(model_id))

    async def pause_tenant(self, call: Call[PauseWork]) -> Response:
        """Pause all work of the tenant.

        Its requests are accepted and wait. Requests that are running continue. A pause that is already in force is
        replaced.
        """
        return await self._pause(call, None)

    async def resume_tenant(self, call: Call[None]) -> Response:
        """Resume the work of the tenant.

        Models that were paused one by one remain paused.
        """
        return await self._resume(call, None)

    async def drain_worker(self, call: Call[None], worker_id: UUID) -> Response:
        """Drain a worker.

        It takes no new turns. It finishes those that it runs, and its partitions move to other workers. Its process
        does not exit: stop it once `in_flight` is 0, or resume it. Only for operators of the tenant `default`.
        """
        return await self._drain(call, worker_id, drains=True)

    async def resume_worker(self, call: Call[None], worker_id: UUID) -> Response:
        """Resume a draining worker.

        It takes turns and reads records again. Only for operators of the tenant `default`.
        """
        return await self._drain(call, worker_id, drains=False)

    async def _pause(self, call: Call[PauseWork], model: str | None) -> Response:
        caller, wanted = call.caller, call.body
        if wanted.until is not None and wanted.until <= datetime.now(UTC):
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "until: must be in the future")
        async with changing(self._database) as tx:
            made, before = await pauses.pause(
                tx, caller.tenant, model, reason=wanted.reason, until=wanted.until, by=caller.actor
            )
            tx.note(call.by, _target(made.model), _until(before), _until(made))
        return json_answer(shown_pause(made))

    async def _resume(self, call: Call[None], model: str | None) -> Response:
        async with changing(self._database) as tx:
            ended = await pauses.resume(tx, call.caller.tenant, model)
            for each in ended:
                tx.note(call.by, _target(each.model), _until(each), _until(None))
            if not ended and model is not None:
                self._limits.check_model(model)
        return Response(status_code=204)

    async def _drain(self, call: Call[None], worker_id: UUID, *, drains: bool) -> Response:
        if call.caller.tenant != DEFAULT_TENANT:
            raise OrchestraError(ErrorCode.FORBIDDEN, _NOT_YOURS)
        async with changing(self._database) as tx:
            before = await leases.drain(tx, worker_id, drains=drains)
            if before is not None and before is not drains:
                tx.note(call.by, f"workers/{worker_id}", {"drains": before}, {"drains": drains})
        worker = await leases.one(self._database, worker_id)
        if before is None or worker is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return json_answer(shown_worker(worker))


def _name(text: str) -> str:
    """The name of a model in a path. Raises ``UNKNOWN_MODEL`` for a text that no request can have as its model."""
    if not 0 < len(text) <= MAX_MODEL_NAME or "\0" in text:
        raise OrchestraError(ErrorCode.UNKNOWN_MODEL)
    return text


def _target(model: str | None) -> str:
    return "tenant" if model is None else f"models/{model}"


def _until(pause: pauses.Pause | None) -> Fields:
    if pause is None:
        return {"paused": False}
    return {"paused": True, "until": pause.until and pause.until.isoformat()}

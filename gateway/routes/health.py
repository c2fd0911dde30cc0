"""Liveness, readiness, metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.health import Health, Readiness
from gateway.http.responses import json_answer
from gateway.metrics import Metrics


def build_router(health: Health, metrics: Metrics) -> APIRouter:
    """The routes for the app."""
    router = APIRouter(tags=["health"])
    alive: dict[int | str, dict[str, object]] = {200: {"content": {"text/plain": {}}, "description": "`ok`"}}
    ready: dict[int | str, dict[str, object]] = {
        200: {"model": Readiness, "description": "All parts are ready"},
        503: {"model": Readiness, "description": "Some part is not ready, for the given reason"},
    }

    @router.get(
        "/healthz", operation_id="getHealth", summary="Check that the process is alive", response_model=None,
        response_class=Response, responses=alive,
    )  # fmt: skip
    async def get_health() -> Response:
        return Response("ok", media_type="text/plain")

    @router.get(
        "/readyz", operation_id="getReadiness", summary="Check that this gateway can serve requests",
        response_model=None, responses=ready,
    )  # fmt: skip
    async def get_readiness() -> Response:
        readiness = health.readiness()
        return json_answer(readiness, 200 if readiness.ready else 503)

    measured: dict[int | str, dict[str, object]] = {
        200: {"content": {CONTENT_TYPE_LATEST: {}}, "description": "Metrics in Prometheus' text format"}
    }

    @router.get(
        "/metrics", operation_id="getMetrics", summary="Get the metrics of this gateway", response_model=None,
        response_class=Response, responses=measured,
    )  # fmt: skip
    async def get_metrics() -> Response:
        metrics.note_parts({name: part.reason is None for name, part in health.readiness().parts.items()})
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router

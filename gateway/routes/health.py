"""Alive, ready, metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.health import Health, Readiness
from gateway.http.answers import json_answer
from gateway.metrics import Metrics


def build_router(health: Health, metrics: Metrics) -> APIRouter:
    """The routes for the app."""
    router = APIRouter(tags=["health"])
    alive: dict[int | str, dict[str, object]] = {200: {"content": {"text/plain": {}}, "description": "`ok`"}}
    ready: dict[int | str, dict[str, object]] = {
        200: {"model": Readiness, "description": "Every part is ready"},
        503: {"model": Readiness, "description": "Some part is not, for the reason given"},
    }

    @router.get("/healthz", response_model=None, response_class=Response, responses=alive)
    async def healthz() -> Response:
        """Say whether the process is alive."""
        return Response("ok", media_type="text/plain")

    @router.get("/readyz", response_model=None, responses=ready)
    async def readyz() -> Response:
        """Say whether this gateway can do its work; with reasons."""
        readiness = health.readiness()
        return json_answer(readiness, 200 if readiness.ready else 503)

    measured: dict[int | str, dict[str, object]] = {
        200: {"content": {CONTENT_TYPE_LATEST: {}}, "description": "In Prometheus' text format"}
    }

    @router.get("/metrics", response_model=None, response_class=Response, responses=measured)
    async def show_metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router

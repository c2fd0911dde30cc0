"""⑥ POST /generate, GET /models, GET /healthz, GET /metrics: check, call, respond."""

import hmac
from collections.abc import Mapping

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError

from llm_service.generation import Generation
from llm_service.metrics import Metrics
from llm_service.reach import checked
from llm_service.registry import Registry
from llm_service.responses import GenerationAnswer
from llm_service.settings import LlmServiceSettings
from llm_service.tracing import request_id, traceparent
from orchestra.http.client_address import showed_token
from orchestra.http.hot_routes import HotRoute
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import MAX_BODY_BYTES, GenerateRequest, ModelList
from schemas.invalid import problems_of

_BOM = b"\xef\xbb\xbf"

_log = structlog.get_logger()


def build_router(settings: LlmServiceSettings, registry: Registry, metrics: Metrics) -> APIRouter:
    """All routes of the service."""
    router = APIRouter()
    token = settings.token

    def check_known(request: Request) -> None:
        if token is None:
            return
        if not hmac.compare_digest(_bearer(request), token):
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        showed_token(request.scope)

    async def generate(request: Request) -> Response:
        check_known(request)
        headers = dict(request.scope["headers"])  # Faster than searching the list for each.
        named = request_id(headers)
        try:
            ask = _parse(await _body(request, headers))
            chain = registry.chain(ask.model)
        except OrchestraError as error:
            _log.info("generation_refused", outcome=error.code, **({"request_id": named} if named else {}))
            raise
        generation = Generation(
            chain,
            ask,
            metrics,
            settings.generation_seconds,
            settings.fallback_seconds,
            traceparent=traceparent(headers),
            tell_words=settings.provider_messages,
            media_urls=settings.allow_media_urls,
        )
        return GenerationAnswer(generation, stream=ask.stream, request_id=named)

    router.add_api_route("/generate", generate, methods=["POST"], response_model=None, route_class_override=HotRoute)

    @router.get("/models")
    async def models(request: Request) -> ModelList:
        check_known(request)
        return await checked(registry) if request.query_params.get("check") == "true" else registry.listing()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/metrics", response_model=None)
    async def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _bearer(request: Request) -> bytes:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


async def _body(request: Request, headers: Mapping[bytes, bytes]) -> bytes:
    """The raw body of any content type. Raises ``too_large``, or ``unsupported_media_type`` if it is compressed."""
    encoding = headers.get(b"content-encoding")
    if encoding and encoding.strip().lower() not in (b"", b"identity"):
        raise OrchestraError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as it is, without a Content-Encoding.")
    if int(headers.get(b"content-length", 0)) > MAX_BODY_BYTES:
        raise OrchestraError(ErrorCode.TOO_LARGE)  # Before the client has sent it.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise OrchestraError(ErrorCode.TOO_LARGE)
    return bytes(body)


def _parse(body: bytes) -> GenerateRequest:
    """The request in a body. Raises ``not_json`` or ``invalid_request``."""
    try:
        return GenerateRequest.model_validate_json(body.removeprefix(_BOM))
    except ValidationError as error:
        first = problems_of(error)[0]
    if first["type"] == "json_invalid":
        raise OrchestraError(ErrorCode.NOT_JSON)
    # Locations consist of fixed names and numbers, and messages of limits: neither repeats any of the input.
    place = ".".join(map(str, first["loc"])) or "body"
    raise OrchestraError(ErrorCode.INVALID_REQUEST, f"{place}: {first['msg']}")

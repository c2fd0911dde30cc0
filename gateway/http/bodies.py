"""Input of a call: bounded raw bodies, JSON, ids, the Idempotency-Key, the names in a query."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, TypeVar
from uuid import UUID

from fastapi import Request
from fastapi._compat import field_annotation_is_sequence
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from gateway.http.body_room import Hold
from gateway.http.problems import UNREAD
from schemas.envelope import parse_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import refused

# For all of a body that is large: 32 MiB arrive at 280 KiB/s.
_LARGE_SECONDS = 120.0
_KEY = re.compile(r"[!-~]{1,255}")
_QUOTED_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')

_Body = TypeVar("_Body", bound=BaseModel)


async def read_body(request: Request, most: int, hold: Hold | None = None) -> bytes:
    """The raw body of any content type. Raises ``UNSUPPORTED_MEDIA_TYPE`` or ``TOO_LARGE``.

    ``hold``: takes memory for a body that has more than ``most`` bytes. This can also raise ``OVERLOADED`` and
    ``TOO_SLOW``.
    """
    headers = dict(request.scope["headers"])
    if b"content-encoding" in headers:
        must_be_plain(request)
    if (claimed := int(headers.get(b"content-length", 0))) > most and (hold is None or claimed > hold.max_bytes):
        raise OrchestraError(ErrorCode.TOO_LARGE)  # Before the client has sent it.
    body, chunks = bytearray(), request.stream()
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            if hold is None:
                raise OrchestraError(ErrorCode.TOO_LARGE)
            await _read_large(request, body, chunks, hold)
    return bytes(body)


async def _read_large(request: Request, body: bytearray, chunks: AsyncIterator[bytes], hold: Hold) -> None:
    """Read the rest of a large body. A client that sends it slowly must not hold its memory for long."""
    request.scope[UNREAD] = True
    allowed = hold.grow(len(body))
    try:
        async with asyncio.timeout(_LARGE_SECONDS):
            async for chunk in chunks:
                body += chunk
                if len(body) > allowed:
                    allowed = hold.grow(len(body))
    except TimeoutError:
        raise OrchestraError(ErrorCode.TOO_SLOW) from None
    request.scope[UNREAD] = False


def must_be_plain(request: Request) -> None:
    """Raises ``UNSUPPORTED_MEDIA_TYPE`` for an encoded body (RFC 9110, 8.4)."""
    encodings = request.headers.getlist("content-encoding")
    if any(name.strip().lower() not in ("", "identity") for each in encodings for name in each.split(",")):
        detail = "Content-Encoding: compressed bodies are not supported"
        raise OrchestraError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail)


def parse(model: type[_Body], raw: bytes) -> _Body:
    """The body as its model. Raises ``NOT_JSON`` or ``INVALID_REQUEST``."""
    return validate(model, parse_json(raw))


def validate(model: type[_Body], value: Any) -> _Body:
    """Parsed JSON as its model. Raises ``INVALID_REQUEST``."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refused(error, model) from None


def must_be_json(request: Request) -> None:
    """Raises ``INVALID_REQUEST`` for a body whose content type is not JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind == "application/json" or kind.endswith("+json")):
        raise OrchestraError(ErrorCode.INVALID_REQUEST, "Content-Type: must be application/json")


async def check_query(request: Request) -> None:
    """The dependency of every route: a query parameter that is unknown, or repeated and no list, is never ignored.

    Raises ``INVALID_REQUEST``.
    """
    if not request.query_params:
        return
    route: APIRoute = request.scope["route"]
    known = {each.alias: each for each in get_flat_params(route.dependant) if each.alias not in route.param_convertors}
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            detail = f"query: unknown parameter; known are {', '.join(known) or 'none'}"
            raise OrchestraError(ErrorCode.INVALID_REQUEST, detail)
        if count > 1 and not field_annotation_is_sequence(known[name].field_info.annotation):
            raise OrchestraError(ErrorCode.INVALID_REQUEST, f"{name}: must be given only once")


def read_id(text: str) -> UUID:
    """The id in a path. Raises ``NOT_FOUND`` if it is not a UUID."""
    try:
        return UUID(text)
    except ValueError:
        raise OrchestraError(ErrorCode.NOT_FOUND) from None


def read_idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key, bare or as a quoted string of RFC 8941. Raises ``INVALID_REQUEST``."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    text = values[0].strip()
    if text.startswith('"'):
        quoted = _QUOTED_KEY.fullmatch(text)
        text = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if len(values) > 1 or not _KEY.fullmatch(text):
        detail = "Idempotency-Key: must be a single value of 1 to 255 visible ASCII characters"
        raise OrchestraError(ErrorCode.INVALID_REQUEST, detail)
    return text

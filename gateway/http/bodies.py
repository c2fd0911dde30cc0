"""Input of a call: bounded raw bodies, JSON, ids, the Idempotency-Key, the names in a query."""

import re
from typing import Any, TypeVar
from uuid import UUID

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from schemas.envelope import parse_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import refused

_KEY = re.compile(r"[!-~]{1,255}")
_QUOTED_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')

_Body = TypeVar("_Body", bound=BaseModel)


async def read_body(request: Request, most: int) -> bytes:
    """The raw body of any content type. Raises ``UNSUPPORTED_MEDIA_TYPE`` or ``TOO_LARGE``."""
    headers = dict(request.scope["headers"])
    if b"content-encoding" in headers:
        must_be_plain(request)
    if int(headers.get(b"content-length", 0)) > most:
        raise OrchestraError(ErrorCode.TOO_LARGE)  # Before the client has sent it.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise OrchestraError(ErrorCode.TOO_LARGE)
    return bytes(body)


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
        raise refused(error) from None


def must_be_json(request: Request) -> None:
    """Raises ``INVALID_REQUEST`` for a body whose content type is not JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind == "application/json" or kind.endswith("+json")):
        raise OrchestraError(ErrorCode.INVALID_REQUEST, "Content-Type: must be application/json")


async def refuse_unknown_query(request: Request) -> None:
    """The dependency of every route: an unknown query parameter is an error, never ignored.

    Raises ``INVALID_REQUEST``.
    """
    if not request.query_params:
        return
    route: APIRoute = request.scope["route"]
    known = [each.alias for each in get_flat_params(route.dependant) if each.alias not in route.param_convertors]
    if not request.query_params.keys() <= set(known):
        detail = f"query: unknown parameter; known are {', '.join(known) or 'none'}"
        raise OrchestraError(ErrorCode.INVALID_REQUEST, detail)


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

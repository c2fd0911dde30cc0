"""Models → HTTP responses."""

from collections.abc import Mapping, Sequence

from fastapi import Response
from pydantic import BaseModel

from gateway.http.prefer import Prefer
from schemas.api.requests import AcceptedRequest, RequestResource


def json_answer(body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A model as JSON. Absent values are null, so that every field is always present."""
    return Response(body.model_dump_json(), status, dict(headers or {}), media_type="application/json")


def accepted(resource: RequestResource, prefer: Prefer, warnings: Sequence[str]) -> Response:
    """The 202 of a POST."""
    body = AcceptedRequest(**dict(resource), request_id=resource.id, warnings=list(warnings))
    headers = {"Location": location(resource)}
    if prefer:
        headers["Preference-Applied"] = prefer.applied
    return json_answer(body, 202, headers)


def location(resource: RequestResource) -> str:
    """The ``Location`` of a request."""
    return f"/v1/requests/{resource.id}"

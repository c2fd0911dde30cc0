"""What ``/docs`` says beyond what FastAPI sees: bodies that routes read themselves, problem documents, streams."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.api.conversations import CreateConversation
from schemas.api.messages import PostMessage
from schemas.api.problems import MEDIA_TYPE, Problem
from schemas.errors import ERRORS, ErrorCode

_REF = "#/components/schemas/{model}"
_DOCUMENTED: tuple[type[BaseModel], ...] = (PostMessage, CreateConversation, Problem)

Responses = dict[int | str, dict[str, Any]]


def body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The ``openapi_extra`` of a route that reads this body."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def header(name: str, description: str) -> dict[str, Any]:
    """A request header of a route."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}


def problems(*codes: ErrorCode) -> Responses:
    """The ``responses`` of a route that may answer with these problems."""
    found: Responses = {}
    for code in codes:
        entry = found.setdefault(
            ERRORS[code].status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}},
        )
        entry["description"] += f"{'; ' if entry['description'] else ''}`{code}`: {ERRORS[code].title}"
    return found


def stream(description: str) -> dict[str, Any]:
    """A response that streams events."""
    return {"description": description, "content": {"text/event-stream": {"schema": {"type": "string"}}}}


def install(app: FastAPI) -> None:
    """Add the models that routes read by themselves to the app's OpenAPI document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        _, more = models_json_schema([(model, "validation") for model in _DOCUMENTED], ref_template=_REF)
        document.setdefault("components", {}).setdefault("schemas", {}).update(more["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it

"""What ``/docs`` says beyond what FastAPI sees: bodies that routes read themselves, problem documents, streams."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.api.conversations import CreateConversation
from schemas.api.dead_letters import EditDeadLetter, ReplayDeadLetters
from schemas.api.keys import CreateKey
from schemas.api.messages import PostMessage
from schemas.api.problems import MEDIA_TYPE, Problem
from schemas.api.tasks import CreateTask, PostTask, TaskFilter
from schemas.api.users import ChangePassword, ChangeUser, CreateUser
from schemas.errors import ERRORS, ErrorCode

# Bare, or as a quoted string of RFC 8941.
_KEY = r'^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$'
_REF = "#/components/schemas/{model}"
_DOCUMENTED: tuple[type[BaseModel], ...] = (
    PostMessage, CreateConversation, PostTask, CreateTask, TaskFilter, CreateUser, ChangeUser, ChangePassword,
    CreateKey, EditDeadLetter, ReplayDeadLetters, Problem,
)  # fmt: skip

# ``data`` is JSON. The first event has no id to resume after; that of an ending ends with ``.end``.
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": "pending started delta restart completed failed cancelled expired".split()},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string", "pattern": "^[0-9]+[.][0-9]+([.]end)?$"},
    },
}

Responses = dict[int | str, dict[str, Any]]
# The form of an answer that is a problem document.
PROBLEM: dict[str, Any] = {"content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}}
# What every route that reads a body may answer.
BODY = (ErrorCode.TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE)
# What every route that takes something new may answer to who has too much.
QUOTAS = (ErrorCode.TOO_MANY_OPEN, ErrorCode.TOO_MANY_PARKED, ErrorCode.STORAGE_FULL)


def body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The ``openapi_extra`` of a route that reads this body."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """A request header of a route; ``schema``: what its text must be like."""
    text = {"type": "string", **schema}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": text}


def idempotency_key(what: str) -> dict[str, Any]:
    """The request header under which a POST may be sent twice."""
    description = f"The same key with the same body is the same {what}. 1 to 255 characters."
    return header("Idempotency-Key", description, pattern=_KEY)


def problems(*codes: ErrorCode) -> Responses:
    """The ``responses`` of a route that may answer with these problems."""
    found: Responses = {}
    for code in codes:
        entry = found.setdefault(ERRORS[code].status, {"description": "", **PROBLEM})
        entry["description"] += f"{'; ' if entry['description'] else ''}`{code}`: {ERRORS[code].title}"
    return found


def stream(description: str) -> dict[str, Any]:
    """A response that streams events."""
    return {"description": description, "content": {"text/event-stream": {"itemSchema": _EVENT}}}


_CREDENTIALS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token from `POST /token`."},
    "password": {"type": "oauth2", "flows": {"password": {"tokenUrl": "/token", "scopes": {}}}},
}
# Say nothing of anybody's data, or are how to get credentials.
PUBLIC = frozenset({"/healthz", "/readyz", "/metrics", "/token"})


def install(app: FastAPI, *, asks_credentials: bool) -> None:
    """Add what FastAPI does not see to the app's OpenAPI document: models that routes read themselves, credentials."""
    plain = app.openapi
    security: list[dict[str, list[str]]] = [{name: []} for name in _CREDENTIALS]

    def openapi() -> dict[str, Any]:
        document = plain()
        _, more = models_json_schema([(model, "validation") for model in _DOCUMENTED], ref_template=_REF)
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(more["$defs"])
        components["securitySchemes"] = _CREDENTIALS
        document["security"] = security if asks_credentials else [{}, *security]
        for path in PUBLIC & document["paths"].keys():
            for operation in document["paths"][path].values():
                operation["security"] = []
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it

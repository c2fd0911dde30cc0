"""The parts of the OpenAPI document that FastAPI cannot derive: tags, bodies, problem documents, streams."""

from typing import Annotated, Any

from fastapi import FastAPI, Path
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.people.cookies import OVER_HTTP, OVER_HTTPS
from schemas import fields
from schemas.api.bulk import BulkMessages
from schemas.api.conversations import BranchConversation, CopyConversation, CreateConversation
from schemas.api.dead_letters import EditDeadLetter, ReplayDeadLetters
from schemas.api.erasures import EraseOwner
from schemas.api.files import A_FILE, Purpose
from schemas.api.keys import CreateKey
from schemas.api.live import LiveFrame
from schemas.api.messages import PostMessage
from schemas.api.pauses import PauseWork
from schemas.api.problems import MEDIA_TYPE, Problem
from schemas.api.session import CreateSession
from schemas.api.steering import CancelRequests, ChangeRequest, ChangeRequests, RetryRequests
from schemas.api.tasks import CreateTask, PostTask, TaskFilter
from schemas.api.users import ChangePassword, ChangeUser, CreateUser
from schemas.api.workers import A_WORKER
from schemas.errors import ERRORS, ErrorCode
from schemas.openai.chat import ChatCompletionChunk, CreateChatCompletion
from schemas.openai.conversations import AddItems, CreateOpenAIConversation, UpdateOpenAIConversation
from schemas.openai.responses import CreateResponse, ResponseEvent

# Bare, or as a quoted string of RFC 8941.
_KEY = r'^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$'
_REF = "#/components/schemas/{model}"
_DOCUMENTED: tuple[type[BaseModel], ...] = (
    PostMessage, CreateConversation, BranchConversation, CopyConversation, PostTask, CreateTask, TaskFilter, CreateUser,
    ChangeUser, ChangePassword, CreateKey, EraseOwner, EditDeadLetter, ReplayDeadLetters, Problem, BulkMessages,
    ChangeRequest, RetryRequests, ChangeRequests, CancelRequests,
    CreateChatCompletion, ChatCompletionChunk, LiveFrame, CreateResponse, ResponseEvent, CreateOpenAIConversation,
    UpdateOpenAIConversation, AddItems, CreateSession, PauseWork,
)  # fmt: skip

# `itemSchema` is of OpenAPI 3.2; tools that do not know it ignore it. docs/reference/streams.md has the whole of it.
EVENTS = (
    "pending started delta tool_call tool_call.delta reasoning.delta refusal.delta restart completed failed cancelled "
    "expired"
).split()
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {
            "enum": EVENTS,
            "description": "What happened. The last four end the request, and the stream.",
        },
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "JSON. `delta` has the next piece of the text, `restart` replaces the answer so far, and "
            "`completed` has the whole answer. `tool_call` begins a call of a tool (`index`, `call_id`, `name`) and "
            "`tool_call.delta` has the next piece of its arguments (`index`, `arguments`). `reasoning.delta` and "
            "`refusal.delta` have `text`.",
            "examples": ['{"text": "world"}', '{"index": 0, "call_id": "call_1", "name": "weather"}'],
        },
        "id": {
            "type": "string",
            "pattern": "^[0-9]+[.][0-9]+(-[0-9]+)?([.]end)?$",
            "description": "The position to resume from: `<attempt>.<characters of text sent so far>`. If the answer "
            "has pieces other than text, the length of all pieces so far follows, as in `1.11-40`. The id of the "
            "ending ends with `.end`, and the first event has no id.",
            "examples": ["1.11", "1.11-40"],
        },
    },
}
_TURN_EVENT = {
    **_EVENT,
    "properties": {
        "event": {
            "enum": [*EVENTS, "deleted"],
            "description": "What happened, as in the stream of a request. `deleted` is the last event of the "
            "conversation.",
        },
        "data": {
            **_EVENT["properties"]["data"],
            "description": "JSON, as in the stream of a request, and `request_id`: the request that it belongs to.",
            "examples": [f'{{"request_id": "{fields.A_REQUEST}", "text": "world"}}'],
        },
        "id": {
            "type": "string",
            "pattern": "^[0-9a-f-]{36}:[0-9]+[.][0-9]+(-[0-9]+)?([.]end)?$",
            "description": "The position to resume from: the id of the request, and the event's id in its stream.",
            "examples": [f"{fields.A_REQUEST}:1.11"],
        },
    },
}
TAGS = {
    "messages": "Send a message to a model: wait for the reply, stream it, or fetch it later.",
    "requests": "Every message and task is a request: get, stream, retry, change or cancel it by its id, or many at "
    "once by their ids or a filter.",
    "conversations": "Requests that are answered one after another, and the messages exchanged in them.",
    "tasks": "Requests that a named agent answers.",
    "tasks (v0)": "The task calls of the system that this one replaced (the v0 API), for existing clients.",
    "dead letters": "Records from Kafka that could not become requests. For operators.",
    "files": "Files of the caller: upload, list, download, delete. They expire.",
    "OpenAI's API": "The same queue for clients of OpenAI's API; their base URL is `/openai/v1`. Chat completions, "
    "responses, models and files have the same paths below `/v1`, too.",
    "operations": "The queue, workers, topics, statistics, pauses and the audit. For operators.",
    "agents": "Named presets for answering requests.",
    "users": "People who sign in with a password, their sessions, and the erasure of everything that an owner has.",
    "keys": "API keys: credentials of programs.",
    "health": "Probes and metrics. No credentials required.",
}
_PATHS = {
    "request_id": ("The request's id.", fields.A_REQUEST),
    "conversation_id": ("The conversation's id.", fields.A_CONVERSATION),
    "task_id": ("The task's id.", fields.A_REQUEST),
    "user_id": ("The user's id.", fields.A_USER),
    "erasure_id": ("The erasure's id.", fields.AN_ERASURE),
    "key_id": ("The key's id, the part of the key that is not secret.", "k3x7q2m5ab4c"),
    "worker_id": ("The worker's id.", A_WORKER),
    "model_id": ("The model's name or an alias. To get an agent: `agent:` and its name.", "llama3"),
    "file_id": ("The file's id.", A_FILE),
    "topic": ("Name of the topic.", "llm.requests"),
    "partition": ("Number of the partition.", "7"),
    "response_id": ("The response's id.", "resp_019b0a52c1d87d3e9f0a4b6c8d2e1f30"),
    "conv_id": ("The conversation's id.", "conv_019b0a52c1d87d3e9f0a4b6c8d2e1f30"),
    "item_id": ("The item's id.", "msg_019b0a52c1d87d3e9f0a4b6c8d2e1f300000"),
    "letter_id": ("The dead letter's id.", "42"),
}
# Parameters in paths are read as text: one that cannot be an id is a 404, not a 422.
IN_PATH = {name: Annotated[str, Path(description=what, examples=[one])] for name, (what, one) in _PATHS.items()}

Responses = dict[int | str, dict[str, Any]]
# The content of a response that is a problem document.
PROBLEM: dict[str, Any] = {"content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}}
# Problems of every route that reads a body.
BODY = (ErrorCode.TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE)
# Problems of every route that stores something new, and of every one that accepts new work.
STORING = (ErrorCode.OWNER_ERASED, ErrorCode.STORAGE_FULL)
QUOTAS = (*STORING, ErrorCode.TOO_MANY_OPEN, ErrorCode.TOO_MANY_PARKED)


def body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The ``openapi_extra`` of a route that reads this body."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": ref(model)}}}}


def ref(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of one of the document's models."""
    return {"$ref": _REF.format(model=model.__name__)}


UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "minLength": 1,
                            "description": "The file, with its name.",
                            "examples": ["(its bytes)"],
                        },
                        "purpose": {
                            "enum": [*Purpose],
                            "description": "What it is for: only a label, by which lists can be filtered.",
                        },
                    },
                }
            }
        },
    }
}
"""The ``openapi_extra`` of the route that takes a file."""


def header(name: str, description: str, example: str, **schema: Any) -> dict[str, Any]:
    """A request header of a route. ``schema``: limits of its text."""
    # Some generators read a parameter's description from its schema.
    text = {"type": "string", "description": description, "examples": [example], **schema}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": text}


TRACEPARENT = header(
    "traceparent",
    "W3C Trace Context. It is passed on to the model call, the events and the reply.",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def idempotency_key(what: str) -> dict[str, Any]:
    """The request header that makes it safe to repeat a POST."""
    description = (
        f"Makes it safe to repeat the call: the same key with the same body is the same {what}. 1 to 255 characters."
    )
    return header("Idempotency-Key", description, "order-7", pattern=_KEY)


RETRY_KEY = header(
    "Idempotency-Key",
    "Without it, a request is retried only once, even if the call is repeated. Each new key retries it once more.",
    "second-try",
    pattern=_KEY,
)
"""The same of a retry, which is safe to repeat without a key."""


def problems(*codes: ErrorCode) -> Responses:
    """The ``responses`` of a route with these problems."""
    found: Responses = {}
    for code in codes:
        entry = found.setdefault(ERRORS[code].status, {"description": "", **PROBLEM})
        entry["description"] += f"{'; ' if entry['description'] else ''}`{code}`: {ERRORS[code].title}"
    return found


def stream(description: str, *, of_turns: bool = False) -> dict[str, Any]:
    """A response that is a stream of events, of one request or ``of_turns`` of a conversation."""
    event = _TURN_EVENT if of_turns else _EVENT
    return {"description": description, "content": {"text/event-stream": {"itemSchema": event}}}


def data_stream(description: str, model: type[BaseModel]) -> dict[str, Any]:
    """A response that is a stream of events without names, whose data are JSON of this model."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": ref(model)}
    event = {"type": "object", "required": ["data"], "properties": {"data": data}}
    return {"description": description, "content": {"text/event-stream": {"itemSchema": event}}}


_CREDENTIALS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token from `POST /token`."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": OVER_HTTPS,
        "description": f"The cookie of `POST /v1/session`, for pages of this gateway; over plain http `{OVER_HTTP}`.",
    },
    "password": {"type": "oauth2", "flows": {"password": {"tokenUrl": "/token", "scopes": {}}}},
}
# Routes that reveal no data, and those that issue credentials.
PUBLIC = frozenset({"/healthz", "/readyz", "/metrics", "/token", "/v1/session"})


# What FastAPI documents for a bad parameter, unless a route documents the same status.
_FRAMEWORKS_OWN = ("HTTPValidationError", "ValidationError")


def _without_frameworks_own(document: dict[str, Any]) -> None:
    """Drop the responses that FastAPI adds and this gateway never sends."""
    sent = {"$ref": _REF.format(model=_FRAMEWORKS_OWN[0])}
    for operation in (each for methods in document["paths"].values() for each in methods.values()):
        for status, response in [*operation["responses"].items()]:
            if any(content.get("schema") == sent for content in response.get("content", {}).values()):
                del operation["responses"][status]
    for name in _FRAMEWORKS_OWN:
        document["components"]["schemas"].pop(name, None)


def install(app: FastAPI, *, asks_credentials: bool) -> None:
    """Extend the app's OpenAPI document: tags, the models of bodies that routes read themselves, credentials."""
    plain = app.openapi
    security: list[dict[str, list[str]]] = [{name: []} for name in _CREDENTIALS]

    def openapi() -> dict[str, Any]:
        document = plain()
        _, more = models_json_schema([(model, "validation") for model in _DOCUMENTED], ref_template=_REF)
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(more["$defs"])
        components["securitySchemes"] = _CREDENTIALS
        _without_frameworks_own(document)
        document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
        document["security"] = security if asks_credentials else [{}, *security]
        for path in PUBLIC & document["paths"].keys():
            for operation in document["paths"][path].values():
                operation["security"] = []
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it

"""The headers of every kind of record as JSON Schema; the names are those of ``schemas.envelope``."""

from typing import Any

from schemas import dead_letters, envelope

Schema = dict[str, Any]

_UUID: Schema = {"type": "string", "format": "uuid"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_COUNT: Schema = {"type": "string", "pattern": "^[0-9]+$"}
_TEXT: Schema = {"type": "string", "maxLength": envelope.MAX_HEADER_BYTES}
_GATEWAYS_ONLY = "Written by gateways. From anybody else it means nothing, unless the signature verifies."

_OF_A_REQUEST: dict[str, Schema] = {
    envelope.SPEC_VERSION: {"const": "1.0", "description": "CloudEvents."},
    envelope.ID: {
        **_UUID,
        "description": "The request's id. With the same id and the same value a record counts once; with another value "
        "it is a dead letter. Without: derived from where the record lies. "
        "Of a cancel or a deletion: the record's own.",
    },
    envelope.TYPE: {"type": "string", "description": "`llm.message.requested` when absent."},
    envelope.SOURCE: {**_TEXT, "description": "Who sent it, for people who read the topic."},
    envelope.CONTENT_TYPE: {"const": "application/json"},
    envelope.CORRELATION_ID: {**_TEXT, "description": "Any text. It comes back with the reply."},
    envelope.DEADLINE: {
        **_TIME,
        "description": "After it nobody wants the answer any more: 1 hour when absent, 7 days at most. "
        "A `deadline` in the value goes before it.",
    },
    envelope.TRACEPARENT: {"type": "string", "description": "W3C Trace Context. It comes back with the reply."},
    envelope.SIGNATURE: {**_TEXT, "description": f"HMAC over id, type, tenant, user, key and value. {_GATEWAYS_ONLY}"},
    envelope.HINTS: {
        "type": "string",
        "description": f"Signs the headers above that say how to answer, beside the signature. {_GATEWAYS_ONLY}",
    },
    envelope.TENANT: {**_TEXT, "description": f"Whose it is. {_GATEWAYS_ONLY}"},
    envelope.USER: {**_TEXT, "description": f"Which user's it is. {_GATEWAYS_ONLY}"},
    envelope.CALLER_WAITS: {
        "const": "1",
        "description": "Somebody holds a connection open for the answer: fewer tries, and sooner.",
    },
}
_OF_OURS: dict[str, Schema] = {
    envelope.SPEC_VERSION: {"const": "1.0", "description": "CloudEvents."},
    envelope.ID: {
        **_UUID,
        "description": "This record's; the same whenever it is sent again.",
    },
    envelope.TYPE: {"type": "string"},
    envelope.SOURCE: {"type": "string"},
    envelope.CONTENT_TYPE: {"const": "application/json"},
    envelope.SUBJECT: {**_UUID, "description": "The request's id."},
    envelope.TENANT: {"type": "string", "description": "Whose request it is."},
    envelope.BODY_HASH: {"type": "string", "description": "SHA-256, in hex, of the request's canonical body."},
    envelope.TRACEPARENT: {"type": "string", "description": "As the request had it."},
}
_ALWAYS_OURS = (
    envelope.SPEC_VERSION, envelope.ID, envelope.TYPE, envelope.SOURCE, envelope.CONTENT_TYPE, envelope.SUBJECT,
    envelope.TENANT,
)  # fmt: skip
_OF_A_DEAD_LETTER: dict[str, Schema] = {
    dead_letters.REASON: {"type": "string", "description": "Why: a code of the list of errors."},
    dead_letters.DETAIL: {"type": "string", "description": "Why, in words."},
    dead_letters.TOPIC: {"type": "string", "description": "Where the record lay."},
    dead_letters.PARTITION: _COUNT,
    dead_letters.OFFSET: _COUNT,
}


def of_request(type_name: str, default: str) -> Schema:
    """Headers of a record on ``llm.requests``: none is required but the type, where it is not the default one."""
    known = {**_OF_A_REQUEST, envelope.TYPE: {**_OF_A_REQUEST[envelope.TYPE], "const": type_name}}
    return _headers(known, () if type_name == default else (envelope.TYPE,))


def of_event(type_name: str) -> Schema:
    """Headers of a record on ``llm.events``."""
    signature = {
        envelope.SIGNATURE: {"type": "string", "description": "A worker's, for gateways. Absent in older ones."}
    }
    return _headers({**_OF_OURS, envelope.TYPE: {"const": type_name}, **signature}, _ALWAYS_OURS)


def of_reply(type_name: str) -> Schema:
    """Headers of a record on ``llm.replies``."""
    correlation = {envelope.CORRELATION_ID: {"type": "string", "description": "As the request had it."}}
    return _headers({**_OF_OURS, envelope.TYPE: {"const": type_name}, **correlation}, _ALWAYS_OURS)


def of_dead_letter() -> Schema:
    """Headers of a dead letter: those that the record came with, then these."""
    return _headers(_OF_A_DEAD_LETTER, tuple(_OF_A_DEAD_LETTER))


def _headers(properties: dict[str, Schema], required: tuple[str, ...]) -> Schema:
    found: Schema = {"type": "object", "properties": properties}
    return {**found, "required": list(required)} if required else found

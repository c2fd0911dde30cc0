"""The headers of every kind of record as JSON Schema; the names are those of ``schemas.envelope``."""

from typing import Any

from schemas import dead_letters, envelope

Schema = dict[str, Any]

_UUID: Schema = {"type": "string", "format": "uuid"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_COUNT: Schema = {"type": "string", "pattern": "^[0-9]+$"}
_TEXT: Schema = {"type": "string", "maxLength": envelope.MAX_HEADER_BYTES}
_GATEWAYS_ONLY = "Written by gateways. Ignored in other records unless the signature verifies."

_OF_A_REQUEST: dict[str, Schema] = {
    envelope.SPEC_VERSION: {"const": "1.0", "description": "CloudEvents."},
    envelope.ID: {
        **_UUID,
        "description": "The request's id; by default derived from the record's position. A record with a known id and "
        "the same value is ignored; with a different value it becomes a dead letter. In a cancel or a deletion: the id "
        "of the record.",
    },
    envelope.TYPE: {"type": "string", "description": "By default `llm.message.requested`."},
    envelope.SOURCE: {**_TEXT, "description": "Name of the sender, for information only."},
    envelope.CONTENT_TYPE: {"const": "application/json"},
    envelope.CORRELATION_ID: {**_TEXT, "description": "Any text, returned in the reply."},
    envelope.DEADLINE: {
        **_TIME,
        "description": "The request expires if it has not been answered by this time: at most 7 days ahead, by default "
        "1 hour. A `deadline` in the value takes precedence.",
    },
    envelope.TRACEPARENT: {"type": "string", "description": "W3C Trace Context. It is returned in the reply."},
    envelope.SIGNATURE: {**_TEXT, "description": f"HMAC over id, type, tenant, user, key and value. {_GATEWAYS_ONLY}"},
    envelope.HINTS: {
        "type": "string",
        "description": f"Signs the headers that say how to answer. {_GATEWAYS_ONLY}",
    },
    envelope.TENANT: {**_TEXT, "description": f"The tenant of the request. {_GATEWAYS_ONLY}"},
    envelope.USER: {**_TEXT, "description": f"The user who owns the request. {_GATEWAYS_ONLY}"},
    envelope.CHANGE: {
        **_TEXT,
        "description": "The change that the record carries out, for the audit: a signature of this header, a "
        f"space, and JSON. {_GATEWAYS_ONLY}",
    },
    envelope.CALLER_WAITS: {
        "const": "1",
        "description": "A client waits for the answer on an open connection: fewer attempts, shorter back-off.",
    },
}
_OF_OURS: dict[str, Schema] = {
    envelope.SPEC_VERSION: {"const": "1.0", "description": "CloudEvents."},
    envelope.ID: {
        **_UUID,
        "description": "The record's id. If the record is sent again, it has the same id.",
    },
    envelope.TYPE: {"type": "string"},
    envelope.SOURCE: {"type": "string"},
    envelope.CONTENT_TYPE: {"const": "application/json"},
    envelope.SUBJECT: {**_UUID, "description": "The request's id."},
    envelope.TENANT: {"type": "string", "description": "The tenant of the request."},
    envelope.BODY_HASH: {"type": "string", "description": "SHA-256, in hex, of the request's canonical body."},
    envelope.TRACEPARENT: {"type": "string", "description": "As in the request."},
}
_ALWAYS_OURS = (
    envelope.SPEC_VERSION, envelope.ID, envelope.TYPE, envelope.SOURCE, envelope.CONTENT_TYPE, envelope.SUBJECT,
    envelope.TENANT,
)  # fmt: skip
_OF_A_DEAD_LETTER: dict[str, Schema] = {
    dead_letters.REASON: {"type": "string", "description": "The reason: an error code."},
    dead_letters.DETAIL: {"type": "string", "description": "The reason in words."},
    dead_letters.TOPIC: {"type": "string", "description": "The record's topic."},
    dead_letters.PARTITION: {**_COUNT, "description": "The record's partition."},
    dead_letters.OFFSET: {**_COUNT, "description": "The record's offset."},
}


def of_request(type_name: str, default: str) -> Schema:
    """Headers of a record on ``llm.requests``: only the type is required, if it is not the default."""
    known = {**_OF_A_REQUEST, envelope.TYPE: {**_OF_A_REQUEST[envelope.TYPE], "const": type_name}}
    return _headers(known, () if type_name == default else (envelope.TYPE,))


def of_event(type_name: str) -> Schema:
    """Headers of a record on ``llm.events``."""
    signature = {
        envelope.SIGNATURE: {
            "type": "string",
            "description": "HMAC of the worker, for gateways. Absent in records of versions before 0.1.0.",
        }
    }
    return _headers({**_OF_OURS, envelope.TYPE: {"const": type_name}, **signature}, _ALWAYS_OURS)


def of_reply(type_name: str) -> Schema:
    """Headers of a record on ``llm.replies``."""
    correlation = {envelope.CORRELATION_ID: {"type": "string", "description": "As in the request."}}
    return _headers({**_OF_OURS, envelope.TYPE: {"const": type_name}, **correlation}, _ALWAYS_OURS)


def of_erasure(type_name: str) -> Schema:
    """Headers of a record on ``llm.erasures``."""
    known = {name: schema for name, schema in _OF_OURS.items() if name in _ALWAYS_OURS and name != envelope.SUBJECT}
    tenant = {envelope.TENANT: {"type": "string", "description": "The tenant of the owner."}}
    return _headers({**known, envelope.TYPE: {"const": type_name}, **tenant}, tuple(known))


def of_dead_letter() -> Schema:
    """Headers of a dead letter: the record's original ones, then these."""
    return _headers(_OF_A_DEAD_LETTER, tuple(_OF_A_DEAD_LETTER))


def _headers(properties: dict[str, Schema], required: tuple[str, ...]) -> Schema:
    found: Schema = {"type": "object", "properties": properties}
    return {**found, "required": list(required)} if required else found

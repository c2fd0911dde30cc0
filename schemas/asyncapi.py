"""The AsyncAPI 3 document of the topics, for producers and consumers in any language. Generated, never edited.

``python -m schemas.publish`` writes it to ``schemas/published/asyncapi.json``; a gateway shows it at ``/asyncapi``.
"""

import inspect
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas import record_headers
from schemas.asyncapi_examples import EXAMPLES
from schemas.erasures import ERASED, Erased
from schemas.events import EVENT_TYPES
from schemas.json_schema import PlainJsonSchema
from schemas.replies import REPLY, Reply
from schemas.requests import CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED, MESSAGE_REQUESTED, RECORD_TYPES
from schemas.topics import DEAD_LETTERS, ERASURES, EVENTS, REPLIES, REQUESTS, TOPICS, Topic

# Version of the contract, not of the program: raised with breaks that tests/contracts/test_compatibility.py reports.
VERSION = "1.1.0"
DEAD_LETTER = "dead-letter"
_BINDING = "0.5.0"
_SCHEMAS = "#/components/schemas/{model}"
_ABOUT = """A durable queue in front of language models. Requests arrive on `llm.requests` or over HTTP. Replies are
sent to `llm.replies`: one for every request that has ended, however it arrived, and one for every rejected record
that has an id or a correlation id. Values are JSON; headers follow the CloudEvents Kafka binding in binary mode.
Every header of a request is optional: a record with only `{"messages": [{"role": "user", "content": "hi"}]}` is
answered. Unknown fields of a request are ignored.

Produce with `acks=all`, an idempotent producer and murmur2 partitioning (librdkafka: `partitioner=murmur2_random`).
A record does not identify its sender: use separate topics and Kafka's ACLs."""
_KEYS = {
    REQUESTS: "The conversation: a UUID is used unchanged; any other text is always mapped to the same UUID. A "
    "`conversation_id` in the value takes precedence. Without either, each record is a new conversation.",
    EVENTS: "The request's id.",
    REPLIES: "The conversation's id.",
    DEAD_LETTERS: "The record's own key.",
    ERASURES: "The erasure's id.",
}
_ABOUT_TOPICS = {
    REQUESTS: "Messages to answer, cancels, and deletions of conversations.",
    EVENTS: "Progress of requests as it happens. Best effort: `llm.replies` and the HTTP API are authoritative.",
    REPLIES: "How each request ended, and which records were rejected. At least once: discard a `ce_id` that you "
    "have seen before.",
    DEAD_LETTERS: "Records that cannot become requests, with their original bytes and headers.",
    ERASURES: "The owners whose data were deleted, as hashes, for databases that are restored from a backup.",
}
_MODELS: dict[str, type[BaseModel]] = {**RECORD_TYPES, **EVENT_TYPES, REPLY: Reply, ERASED: Erased}

Json = dict[str, Any]


def document() -> Json:
    """The document, generated from the models and the table of topics."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:llm-orchestra:kafka",
        "info": {
            "title": "LLM Orchestra on Kafka",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {_channel_name(topic): _channel(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {
            "messages": {name: _message(topic, name) for topic in TOPICS for name in _message_names(topic)},
            "schemas": _payloads(),
            "correlationIds": {
                "request": {
                    "description": "The request's id, in the reply and in every event of the request.",
                    "location": "$message.header#/ce_subject",
                },
                "yours": {
                    "description": "Any text chosen by the producer, in the request and in its reply.",
                    "location": "$message.header#/correlation_id",
                },
            },
            "securitySchemes": {
                "plain": {"type": "plain", "description": "SASL/PLAIN"},
                "scramSha256": {"type": "scramSha256", "description": "SASL/SCRAM-SHA-256"},
                "scramSha512": {"type": "scramSha512", "description": "SASL/SCRAM-SHA-512"},
                "certificate": {"type": "X509", "description": "Mutual TLS"},
            },
        },
    }


def _servers() -> Json:
    schemes = [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("scramSha512", "scramSha256", "plain")]
    return {
        "embedded": {
            "host": "127.0.0.1:19092",
            "protocol": "kafka",
            "description": "The embedded broker of `make up`, on one machine, without credentials.",
        },
        "deployed": {
            "host": "{bootstrap}",
            "protocol": "kafka-secure",
            "description": "Your own cluster. Its ACLs control access to the topics.",
            "variables": {"bootstrap": {"description": "One of the brokers, host:port."}},
            "security": [*schemes, {"$ref": "#/components/securitySchemes/certificate"}],
        },
    }


def _channel(topic: Topic) -> Json:
    config: Json = {**topic.config, "retention.ms": topic.retention_ms}
    config["cleanup.policy"] = [config["cleanup.policy"]]
    config["max.message.bytes"] = int(config["max.message.bytes"])
    written, read = " and ".join(topic.written_by), " and ".join(topic.read_by)
    return {
        "address": topic.name,
        "description": f"{_ABOUT_TOPICS[topic]} Written by {written}, read by {read}. "
        "Partitions and retention are minimums.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(topic)},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": config,
                "bindingVersion": _BINDING,
            }
        },
    }


def _operations() -> Json:
    return {
        "answer": {
            **_operation("receive", REQUESTS, MESSAGE_REQUESTED, summary="Answer a message."),
            "reply": {"channel": _channel_ref(REPLIES), "messages": [_message_ref(REPLIES, REPLY)]},
        },
        "cancel": _operation(
            "receive", REQUESTS, CANCEL_REQUESTED, summary="Cancel a request. One that has ended does not change."
        ),
        "deleteConversation": _operation(
            "receive", REQUESTS, CONVERSATION_DELETE_REQUESTED, summary="Delete a conversation with all its messages."
        ),
        "reportProgress": _operation("send", EVENTS, *EVENT_TYPES, summary="Report the progress of a request."),
        "reply": _operation("send", REPLIES, REPLY, summary="Report how a request ended."),
        "erase": _operation("send", ERASURES, ERASED, summary="Note that an owner's data were deleted."),
        "setAside": _operation("send", DEAD_LETTERS, DEAD_LETTER, summary="Set aside an unreadable record."),
    }


def _operation(action: str, topic: Topic, *messages: str, summary: str) -> Json:
    found = [_message_ref(topic, name) for name in messages]
    return {"action": action, "channel": _channel_ref(topic), "summary": summary, "messages": found}


def _message(topic: Topic, name: str) -> Json:
    model = _MODELS.get(name)
    message: Json = {
        "name": name,
        "title": model.__name__ if model else "DeadLetter",
        "summary": inspect.getdoc(model) if model else "A record that cannot become a request, unchanged.",
        "contentType": "application/json" if model else "application/octet-stream",
        "headers": _headers(topic, name),
        "payload": {"$ref": _SCHEMAS.format(model=model.__name__)}
        if model
        else {"description": "The original bytes, whatever they are."},
        "bindings": {"kafka": {"key": {"type": "string", "description": _KEYS[topic]}, "bindingVersion": _BINDING}},
        "examples": EXAMPLES[name],
    }
    if topic in (EVENTS, REPLIES):
        message["correlationId"] = {"$ref": "#/components/correlationIds/request"}
    if name == MESSAGE_REQUESTED:
        message["correlationId"] = {"$ref": "#/components/correlationIds/yours"}
    return message


def _headers(topic: Topic, name: str) -> Json:
    if topic == REQUESTS:
        return record_headers.of_request(name, MESSAGE_REQUESTED)
    if topic == EVENTS:
        return record_headers.of_event(name)
    if topic == ERASURES:
        return record_headers.of_erasure(name)
    return record_headers.of_reply(name) if topic == REPLIES else record_headers.of_dead_letter()


def _payloads() -> Json:
    wanted = [(model, "validation") for model in _MODELS.values()]
    _, made = models_json_schema(wanted, ref_template=_SCHEMAS, schema_generator=PlainJsonSchema)  # type: ignore[arg-type]
    schemas: Json = made["$defs"]
    return schemas


def _message_names(topic: Topic) -> tuple[str, ...]:
    return (DEAD_LETTER,) if topic == DEAD_LETTERS else topic.carries


def _channel_name(topic: Topic) -> str:
    return topic.name.removeprefix("llm.")


def _channel_ref(topic: Topic) -> Json:
    return {"$ref": f"#/channels/{_channel_name(topic)}"}


def _message_ref(topic: Topic, name: str) -> Json:
    return {"$ref": f"#/channels/{_channel_name(topic)}/messages/{name}"}

"""One record of each kind, for the AsyncAPI document. A test validates them."""

from typing import Any

from schemas import envelope, events, replies, requests

_REQUEST = "7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01"
_CONVERSATION = "3f9d2c74-51aa-4e0b-b0f7-8c6d1e2a4b90"
_RECORD = "c2b7a1de-9a0d-5f43-8e7c-5d0b1f3a6e88"
_CORRELATION = "order 7"
_USAGE = {"input_tokens": 21, "output_tokens": 5}
_TEXT = "Hello world"

Example = dict[str, Any]


def _request(type_name: str, payload: Any) -> Example:
    return {"headers": {envelope.TYPE: type_name}, "payload": payload}


def _ours(type_name: str, payload: Any, **more: str) -> Example:
    headers = envelope.write_headers(id=_RECORD, type=type_name, source="/workers", subject=_REQUEST)
    return {"headers": {**dict(headers), envelope.TENANT: envelope.DEFAULT_TENANT, **more}, "payload": payload}


EXAMPLES: dict[str, list[Example]] = {
    requests.MESSAGE_REQUESTED: [
        {
            "name": "least",
            "summary": "The minimum. The record's key, if it has one, selects the conversation.",
            "payload": {"messages": [{"role": "user", "content": "hi"}]},
        },
        {
            "name": "withAnId",
            "summary": "Counted once even if it is sent again, and its reply can be matched.",
            "headers": {envelope.ID: _REQUEST, envelope.CORRELATION_ID: _CORRELATION},
            "payload": {
                "conversation_id": _CONVERSATION,
                "messages": [{"role": "user", "content": "What is a log?"}],
                "model": "llama3",
                "priority": 7,
                "max_tokens": 256,
            },
        },
    ],
    requests.CANCEL_REQUESTED: [_request(requests.CANCEL_REQUESTED, {"request_id": _REQUEST})],
    requests.CONVERSATION_DELETE_REQUESTED: [
        _request(requests.CONVERSATION_DELETE_REQUESTED, {"conversation_id": _CONVERSATION})
    ],
    events.STARTED: [_ours(events.STARTED, {"attempt": 1, "conversation_id": _CONVERSATION})],
    events.DELTA: [_ours(events.DELTA, {"attempt": 1, "at": 6, "text": "world"})],
    events.RESTART: [
        _ours(events.RESTART, {"attempt": 2, "text": "Hello"}),
        _ours(
            events.RESTART,
            {
                "attempt": 3,
                "text": "",
                "last_error": {"code": "rate_limited", "detail": "The model's provider answered with status 429."},
            },
        ),
    ],
    events.COMPLETED: [
        _ours(events.COMPLETED, {"attempt": 2, "reply": _TEXT, "usage": _USAGE, "finish_reason": "stop"})
    ],
    events.FAILED: [
        _ours(events.FAILED, {"attempt": 5, "code": "timeout", "detail": "The model did not answer in time"})
    ],
    events.CANCELLED: [_ours(events.CANCELLED, {"attempt": 1})],
    events.EXPIRED: [_ours(events.EXPIRED, {"attempt": 0})],
    replies.REPLY: [
        _ours(
            replies.REPLY,
            {
                "request_id": _REQUEST,
                "conversation_id": _CONVERSATION,
                "status": "completed",
                "reply": _TEXT,
                "reply_url": None,
                "error": None,
                "usage": _USAGE,
                "attempts": 2,
                "model": "llama3",
                "source": {"topic": "llm.requests", "partition": 3, "offset": 42},
                "finished_at": "2026-11-30T10:00:00.123456Z",
                "finish_reason": "stop",
                "metadata": {"order": "7"},
            },
            correlation_id=_CORRELATION,
        )
    ],
    "dead-letter": [
        {
            "headers": {
                envelope.CORRELATION_ID: _CORRELATION,
                "dlq-reason": "not_json",
                "dlq-detail": "The body is not JSON",
                "dlq-topic": "llm.requests",
                "dlq-partition": "3",
                "dlq-offset": "43",
            },
            "payload": '{"messages": [',
        }
    ],
}

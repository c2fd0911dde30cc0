"""One record of each kind, for the AsyncAPI document. A test validates them."""

from typing import Any

from schemas import envelope, erasures, events, replies, requests

_REQUEST = "7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01"
_CONVERSATION = "3f9d2c74-51aa-4e0b-b0f7-8c6d1e2a4b90"
_RECORD = "c2b7a1de-9a0d-5f43-8e7c-5d0b1f3a6e88"
_CORRELATION = "order 7"
_USAGE = {"input_tokens": 21, "output_tokens": 5}
_TEXT = "Hello world"
_CALL_ID, _FUNCTION, _ARGUMENTS = "call_1", "weather", '{"city": "Oslo"}'
_OUTPUT = [{"type": "function_call", "call_id": _CALL_ID, "name": _FUNCTION, "arguments": _ARGUMENTS}]
_REPLY = {
    "request_id": _REQUEST,
    "conversation_id": _CONVERSATION,
    "status": "completed",
    "reply_url": None,
    "error": None,
    "usage": _USAGE,
    "attempts": 2,
    "model": "llama3",
    "source": {"topic": "llm.requests", "partition": 3, "offset": 42},
    "finished_at": "2026-11-30T10:00:00.123456Z",
}

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
        {
            "name": "withTools",
            "summary": "The model may answer with a call of the function. The reply then has it in `output`.",
            "payload": {
                "conversation_id": _CONVERSATION,
                "messages": [{"role": "user", "content": "How is the weather in Oslo?"}],
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": _FUNCTION,
                            "description": "The weather in a city.",
                            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                        },
                    }
                ],
            },
        },
        {
            "name": "toolResult",
            "summary": "The next turn of the conversation: the result of the call. The call is in the history.",
            "payload": {
                "conversation_id": _CONVERSATION,
                "messages": [{"role": "tool", "tool_call_id": _CALL_ID, "content": "Rain, 4 °C"}],
            },
        },
        {
            "name": "withAnImage",
            "summary": "Content in parts. The data of media is in the record itself, as a `data:` URL.",
            "payload": {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is this?"},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                        ],
                    }
                ],
            },
        },
    ],
    requests.CANCEL_REQUESTED: [_request(requests.CANCEL_REQUESTED, {"request_id": _REQUEST})],
    requests.CONVERSATION_DELETE_REQUESTED: [
        _request(requests.CONVERSATION_DELETE_REQUESTED, {"conversation_id": _CONVERSATION})
    ],
    erasures.ERASED: [
        {
            "headers": {
                **dict(envelope.write_headers(id=_RECORD, type=erasures.ERASED, source="/workers")),
                envelope.TENANT: envelope.DEFAULT_TENANT,
            },
            "payload": {
                "id": _RECORD,
                "tenant": envelope.DEFAULT_TENANT,
                "owner_hash": "9f" * 32,
                "requested_at": "2026-11-30T10:00:00.123456Z",
                "refuses_until": None,
            },
        }
    ],
    events.STARTED: [_ours(events.STARTED, {"attempt": 1, "conversation_id": _CONVERSATION})],
    events.DELTA: [_ours(events.DELTA, {"attempt": 1, "at": 6, "text": "world"})],
    events.PIECE: [
        _ours(
            events.PIECE,
            {"attempt": 1, "n": 0, "kind": "tool_call", "index": 0, "call_id": _CALL_ID, "name": _FUNCTION},
        ),
        _ours(events.PIECE, {"attempt": 1, "n": 1, "kind": "tool_arguments", "index": 0, "text": _ARGUMENTS}),
        _ours(events.PIECE, {"attempt": 1, "n": 0, "kind": "reasoning", "text": "The user wants"}),
    ],
    events.RESTART: [
        _ours(events.RESTART, {"attempt": 2, "text": "Hello"}),
        _ours(events.RESTART, {"attempt": 2, "text": "", "output": _OUTPUT}),
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
        _ours(events.COMPLETED, {"attempt": 2, "reply": _TEXT, "usage": _USAGE, "finish_reason": "stop"}),
        _ours(
            events.COMPLETED,
            {"attempt": 1, "reply": "", "usage": _USAGE, "finish_reason": "tool_calls", "output": _OUTPUT},
        ),
    ],
    events.FAILED: [
        _ours(events.FAILED, {"attempt": 5, "code": "timeout", "detail": "The model did not answer in time"})
    ],
    events.CANCELLED: [_ours(events.CANCELLED, {"attempt": 1})],
    events.EXPIRED: [_ours(events.EXPIRED, {"attempt": 0})],
    replies.REPLY: [
        _ours(
            replies.REPLY,
            {**_REPLY, "reply": _TEXT, "finish_reason": "stop", "metadata": {"order": "7"}},
            correlation_id=_CORRELATION,
        ),
        _ours(replies.REPLY, {**_REPLY, "reply": "", "finish_reason": "tool_calls", "output": _OUTPUT}),
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

"""How model servers write what they say: the real formats of OpenAI's, Anthropic's and Gemini's streams and errors."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from orchestra.transcript import Piece, items_of

Reason = str


@dataclass(frozen=True)
class Wire:
    """One format. ``end`` takes ``stop``, ``length`` or ``filtered``, and reports 11 input and 7 output tokens.

    ``items``: the stream of a thought "hm", the text "ok" and the calls f({"n": 1}) and g({}), with what the server
    wants back; ``items_document``: the same as one JSON document. ``document``: a whole answer with this text as one
    JSON document. ``error``: the body of an error with this status and message.
    """

    begin: bytes
    piece: Callable[[str], bytes]
    end: Callable[[Reason], bytes]
    error_inside: bytes
    error: Callable[[int, str], dict[str, object]]
    too_long: str
    no_model: str
    tool: bytes
    document: Callable[[str], dict[str, object]]
    items: bytes
    items_document: dict[str, object]
    # Where a 429 gives the time to wait: Gemini puts it in the body.
    retry_header: bool = True


def items(*ids: str) -> list[dict[str, object]]:
    """The items of `Wire.items`, whose calls have these ids."""
    f, g = ids
    return [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
        {"type": "function_call", "call_id": f, "name": "f", "arguments": '{"n": 1}'},
        {"type": "function_call", "call_id": g, "name": "g", "arguments": "{}"},
    ]


def items_in(pieces: Iterable[object]) -> list[dict[str, Any]] | None:
    """The items of which these are the pieces."""
    texts = (Piece("text", piece) if isinstance(piece, str) else piece for piece in pieces)
    return items_of(piece for piece in texts if isinstance(piece, Piece))


def _data(document: object, name: str | None = None, end: str = "\n") -> bytes:
    event = f"event: {name}{end}" if name else ""
    return f"{event}data: {json.dumps(document)}{end}{end}".encode()


# OpenAI's chat completions


def openai_event(content: str | None = None, finish: str | None = None, **more: object) -> bytes:
    """One server-sent event of a chat completion."""
    delta = {} if content is None else {"content": content}
    return _data({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


OPENAI_USAGE = _data({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}})
OPENAI_DONE = b"data: [DONE]\n\n"


_OPENAI_CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _openai_end(reason: Reason) -> bytes:
    return openai_event(finish={"filtered": "content_filter"}.get(reason, reason)) + OPENAI_USAGE + OPENAI_DONE


def _openai_error(status: int, message: str) -> dict[str, object]:
    code = "context_length_exceeded" if "context" in message else None
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def _openai_document(text: str) -> dict[str, object]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}


def _openai_delta(**delta: object) -> bytes:
    return _data({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def _openai_call(index: int, **function: str) -> bytes:
    head = {"id": f"call_{index + 1}", "type": "function"} if "name" in function else {}
    return _openai_delta(tool_calls=[{"index": index, **head, "function": function}])


_OPENAI_ITEMS = b"".join(
    [
        _openai_delta(reasoning_content="hm"),
        openai_event("ok"),
        _openai_call(0, name="f", arguments=""),
        _openai_call(0, arguments='{"n": 1}'),
        _openai_call(1, name="g", arguments="{}"),
        openai_event(finish="tool_calls"),
        OPENAI_USAGE,
        OPENAI_DONE,
    ]
)
_OPENAI_ITEMS_DOCUMENT: dict[str, object] = {
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "reasoning_content": "hm",
                "content": "ok",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"n": 1}'}},
                    {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7},
}


# Anthropic's messages


def _named(events: Iterable[dict[str, object]]) -> bytes:
    return b"".join(_data(event, str(event["type"])) for event in events)


def _anthropic_piece(text: str) -> bytes:
    return _named(
        [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}, {"type": "ping"}]
    )


def _anthropic_end(reason: Reason) -> bytes:
    stop = {"stop": "end_turn", "length": "max_tokens", "filtered": "refusal"}[reason]
    return _named(
        [
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": stop, "stop_sequence": None},
                "usage": {"output_tokens": 7},
            },
            {"type": "message_stop"},
        ]
    )


_ANTHROPIC_BEGIN = _named(
    [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 11, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
)


def _anthropic_document(text: str) -> dict[str, object]:
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [thought, {"type": "text", "text": text[:1]}, {"type": "text", "text": text[1:]}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 7},
    }


_ANTHROPIC_ITEMS_DOCUMENT: dict[str, object] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"},
        {"type": "text", "text": "ok"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"n": 1}},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 11, "output_tokens": 7},
}


def _anthropic_block(index: int, block: dict[str, object], *deltas: dict[str, object]) -> list[dict[str, object]]:
    begun: dict[str, object] = {"type": "content_block_start", "index": index, "content_block": block}
    pieces = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [begun, *pieces, {"type": "content_block_stop", "index": index}]


_ANTHROPIC_ITEMS = (
    _named(
        [
            {
                "type": "message_start",
                "message": {**_ANTHROPIC_ITEMS_DOCUMENT, "content": [], "stop_reason": None,
                            "usage": {"input_tokens": 11, "output_tokens": 1}},
            },
            *_anthropic_block(
                0,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "hm"},
                {"type": "signature_delta", "signature": "c2lnbmVk"},
            ),
            *_anthropic_block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "ok"}),
            *_anthropic_block(
                2,
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
                {"type": "input_json_delta", "partial_json": ""},
                {"type": "input_json_delta", "partial_json": '{"n": '},
                {"type": "input_json_delta", "partial_json": "1}"},
            ),
            *_anthropic_block(
                3,
                {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
                {"type": "input_json_delta", "partial_json": ""},
            ),
            {
                "type": "message_delta",
                "delta": {"stop_reason": "tool_use", "stop_sequence": None},
                "usage": {"output_tokens": 7},
            },
            {"type": "message_stop"},
        ]
    )
)  # fmt: skip

_ANTHROPIC_KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def _anthropic_error(status: int, message: str) -> dict[str, object]:
    kind = _ANTHROPIC_KINDS.get(status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


# Gemini's generateContent


def _gemini(candidate: dict[str, object], output_tokens: int | None = None) -> bytes:
    usage = {"promptTokenCount": 11, "totalTokenCount": 11 + (output_tokens or 0)}
    if output_tokens:
        usage["candidatesTokenCount"] = output_tokens
    document = {"candidates": [{"index": 0, **candidate}], "usageMetadata": usage, "modelVersion": "gemini"}
    return _data(document, end="\r\n")


def _gemini_piece(text: str) -> bytes:
    return _gemini({"content": {"role": "model", "parts": [{"text": text}]}})


def _gemini_end(reason: Reason) -> bytes:
    finish = {"stop": "STOP", "length": "MAX_TOKENS", "filtered": "SAFETY"}[reason]
    return _gemini({"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": finish}, 7)


def _gemini_document(text: str) -> dict[str, object]:
    usage = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}
    candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini"}


_GEMINI_CALLS = [
    {"functionCall": {"name": "f", "args": {"n": 1}, "id": "fc_1"}, "thoughtSignature": "c2lnbmVk"},
    {"functionCall": {"name": "g", "args": {}, "id": "fc_2"}},
]
_GEMINI_ITEMS = (
    _gemini({"content": {"role": "model", "parts": [{"text": "hm", "thought": True}]}})
    + _gemini_piece("ok")
    + _gemini({"content": {"role": "model", "parts": _GEMINI_CALLS}})
    + _gemini_end("stop")
)
_GEMINI_ITEMS_DOCUMENT: dict[str, object] = {
    "candidates": [
        {
            "index": 0,
            "content": {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "ok"}, *_GEMINI_CALLS]},
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18},
    "modelVersion": "gemini",
}

_GEMINI_KINDS = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}


def _gemini_error(status: int, message: str) -> dict[str, object]:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}] if status == 429 else []
    kind = _GEMINI_KINDS.get(status, "INVALID_ARGUMENT")
    return {"error": {"code": status, "message": message, "status": kind, "details": details}}


OPENAI = Wire(
    begin=b"",
    piece=openai_event,
    end=_openai_end,
    error_inside=_data({"error": {"message": "secret prompt", "type": "overloaded_error"}}) + OPENAI_DONE,
    error=_openai_error,
    too_long="This model's maximum context length is 9 tokens",
    no_model="The model is not found",
    document=_openai_document,
    items=_OPENAI_ITEMS,
    items_document=_OPENAI_ITEMS_DOCUMENT,
    tool=_data({"choices": [{"index": 0, "delta": {"tool_calls": [_OPENAI_CALL]}, "finish_reason": None}]}),
)
ANTHROPIC = Wire(
    begin=_ANTHROPIC_BEGIN,
    piece=_anthropic_piece,
    end=_anthropic_end,
    error_inside=_data(_anthropic_error(529, "secret prompt"), "error"),
    error=_anthropic_error,
    too_long="prompt is too long: 210000 tokens > 200000 maximum",
    no_model="model: claude-none",
    document=_anthropic_document,
    items=_ANTHROPIC_ITEMS,
    items_document=_ANTHROPIC_ITEMS_DOCUMENT,
    tool=_named(
        [
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
            },
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        ]
    ),
)
GEMINI = Wire(
    begin=b"",
    piece=_gemini_piece,
    end=_gemini_end,
    error_inside=_data({"error": {"code": 503, "message": "secret prompt", "status": "UNAVAILABLE"}}, end="\r\n"),
    error=_gemini_error,
    too_long="The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    no_model="models/none is not found for API version v1beta",
    document=_gemini_document,
    items=_GEMINI_ITEMS,
    items_document=_GEMINI_ITEMS_DOCUMENT,
    tool=_gemini({"content": {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}}),
    retry_header=False,
)

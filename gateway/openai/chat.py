"""``POST chat/completions``: OpenAI's shapes → an ordinary request, and its answer → OpenAI's shapes."""

import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from fastapi import Response

from gateway.following.events import Hub
from gateway.following.live import Ending
from gateway.following.stream import Streams, Subscription
from gateway.http import openapi
from gateway.http.bodies import read_idempotency_key
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.openai import ids
from gateway.openai.bodies import refuse, validate
from gateway.openai.calls import Calls, model_and_agent, shown_model
from gateway.openai.paths import PREFIX, under_v1_too
from gateway.openai.stream_chat import ChatEvents, usage_of
from orchestra.store.requests import StoredRequest
from schemas.api.keys import Scope
from schemas.content import calls_in, refusal_in
from schemas.envelope import parse_json
from schemas.errors import ErrorCode
from schemas.openai.chat import (
    TIERS,
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatMessageOut,
    CreateChatCompletion,
    ServiceTier,
)
from schemas.openai.not_offered import OF_CHAT, OF_CHAT_MESSAGES, Refusal, refusals
from schemas.requests import MessageRequested

ROUTE = f"{PREFIX}/chat/completions"
_HEADERS = (openapi.idempotency_key("request"), openapi.TRACEPARENT)
_ANSWERS: openapi.Responses = {
    200: {
        "model": ChatCompletion,
        **openapi.data_stream("The answer; with `stream`, chunks of it, then `[DONE]`", ChatCompletionChunk),
    },
}
_PROBLEMS = (
    ErrorCode.CONTEXT_TOO_LONG,
    ErrorCode.UNKNOWN_MODEL,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    ErrorCode.UNKNOWN_AGENT,
    ErrorCode.STILL_RUNNING,
    ErrorCode.EXPIRED,
    ErrorCode.CANCELLED,
    ErrorCode.TOO_MANY_STREAMS,
    *openapi.QUOTAS,
)
_KNOWN = frozenset(CreateChatCompletion.model_fields)
# Those that a record has under the same name.
_OF_THE_RECORD = tuple(_KNOWN & MessageRequested.model_fields.keys() - {"model", "priority", "max_tokens"})


class ChatCompletions:
    """The route, with its collaborators."""

    def __init__(self, calls: Calls, hub: Hub, streams: Streams, default_model: str) -> None:
        self._calls = calls
        self._hub = hub
        self._streams = streams
        self._default_model = default_model

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        body = Body(CreateChatCompletion, read_chat, any_type=True, large=True)
        return under_v1_too([
            Route(
                "POST", ROUTE, self.create_chat_completion, Scope.WRITE, _ANSWERS, body=body, also=_PROBLEMS,
                headers=_HEADERS, writes=True, hot=True,
            )
        ])  # fmt: skip

    async def create_chat_completion(self, call: Call[CreateChatCompletion]) -> Response:
        """Create a chat completion, as in OpenAI's API.

        Without `stream` the call waits for the whole answer, for up to 590 seconds (`DOOR_WAIT_SECONDS`). A stream ends
        with an error if nothing arrives for as long. If the client closes the connection before the answer is complete,
        the request is cancelled, unless the call has an `Idempotency-Key` or `on_disconnect` says otherwise.
        """
        asked, key = call.body, read_idempotency_key(call.request)
        if asked.stream:
            self._streams.check(call.caller)
        id = self._calls.id(call, ROUTE, key)
        submission = self._calls.submission(call, id, record_of(asked, id), waits=True)
        ref = call.caller.request(id)
        with self._hub.watch(ref) as live:
            stored = await self._calls.accept(submission, live, key)
            head = _head(asked, id, stored, shown_model(*model_and_agent(asked.model), self._default_model))
            headers = {"x-request-id": ids.spell("req_", id)}
            left = self._calls.left(submission, live, key, asked.on_disconnect)
            if not asked.stream:
                ending = await self._calls.ending(call, submission, live, left)
                return json_answer(completion(head, ending, asked.metadata), headers=headers)
            options = asked.stream_options
            events = ChatEvents(id, head, with_usage=bool(options and options.include_usage))
            subscription = Subscription(ref, events, stored, submission.body_hash)
            return self._streams.open(subscription, call.standing(), headers, left, self._calls.patience)


def read_chat(raw: bytes) -> CreateChatCompletion:
    """The body of a call. Raises ``NOT_JSON``, or ``DoorError`` with the field that is refused."""
    value = parse_json(raw)
    if isinstance(value, dict):
        if not _KNOWN.issuperset(value):
            refuse(refusals(value, _KNOWN, OF_CHAT))
            value = {name: given for name, given in value.items() if name in _KNOWN}
        if isinstance(messages := value.get("messages"), list):
            refuse(_refused_in(messages))
            value = {**value, "messages": [_tidy(message) for message in messages]}
    return validate(CreateChatCompletion, value)


def record_of(asked: CreateChatCompletion, id: UUID) -> MessageRequested:
    """The record of a call. Its conversation is its own: the dialogue is what the call has."""
    model, agent = model_and_agent(asked.model)
    limit = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
    priority = TIERS.get(asked.service_tier or "") if asked.priority is None else asked.priority
    # Its parts were validated with the body.
    return MessageRequested.model_construct(
        **{name: getattr(asked, name) for name in _OF_THE_RECORD}, conversation_id=id, context="given", model=model,
        agent=agent, max_tokens=limit, priority=priority, door="chat",
    )  # fmt: skip


def completion(head: dict[str, Any], ending: Ending, metadata: dict[str, str] | None) -> ChatCompletion:
    """The answer of a request that was completed. ``head``: what all its chunks would have."""
    output = ending.output or ()
    calls = calls_in(output)
    reasoning = [part["text"] for item in output if item["type"] == "reasoning" for part in item["content"]]
    refusal = refusal_in(output)
    message = ChatMessageOut(
        content=ending.reply or (None if calls or refusal else ""),
        refusal=refusal,
        tool_calls=calls or None,
        reasoning_content="".join(reasoning) or None,
    )
    choice = ChatChoice(message=message, finish_reason=ending.finish_reason or "stop")
    return ChatCompletion(**head, choices=[choice], usage=usage_of(ending.usage), metadata=metadata)


def _head(asked: CreateChatCompletion, id: UUID, stored: StoredRequest | None, model: str) -> dict[str, Any]:
    accepted = stored.resource.created_at if stored else None
    tier: ServiceTier = asked.service_tier if asked.service_tier in TIERS else "default"
    return {
        "id": ids.spell("chatcmpl-", id),
        "created": int(accepted.timestamp() if accepted else time.time()),
        "model": model,
        "service_tier": tier,
    }


def _refused_in(messages: list[Any]) -> Iterator[Refusal]:
    for place, message in enumerate(messages):
        if isinstance(message, dict):
            if message.get("role") == "function":
                yield Refusal(f"messages[{place}].role", "unsupported_value", "function is not offered here")
            found = {name: message[name] for name in OF_CHAT_MESSAGES if name in message}
            yield from refusals(found, (), OF_CHAT_MESSAGES, f"messages[{place}].")


def _tidy(message: Any) -> Any:
    """The message, with the refusal among its parts, if there is one, as a field of its own."""
    if not isinstance(message, dict) or not isinstance(parts := message.get("content"), list):
        return message
    said = [part for part in parts if _is_refusal(part)]
    if not said:
        return message
    rest = [part for part in parts if not _is_refusal(part)]
    return {**message, "content": rest or None, "refusal": "".join(part["refusal"] for part in said)}


def _is_refusal(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "refusal" and isinstance(part.get("refusal"), str)

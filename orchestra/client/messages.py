"""Messages: send one and wait for its answer, submit it, or stream it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack
from uuid import uuid4

from orchestra.client.caller import READ_SECONDS, Call, Caller
from orchestra.client.errors import RequestFailedError
from orchestra.client.options import MessageOptions, Messages, body_of, check_names, dialogue
from orchestra.client.requests import POLL_SECONDS, AsyncRequests, has_ended
from orchestra.client.stream import AsyncStream
from schemas.api.bulk import BulkOutcome, BulkResult
from schemas.api.messages import MessageReply
from schemas.api.requests import AcceptedRequest, RequestResource
from schemas.errors import ERRORS, ErrorCode
from schemas.status import Status

_PATH = "/v1/messages"


class AsyncMessages:
    """Messages to answer.

    ``messages`` is a text, which is one message of the user, or a list of messages, oldest first. ``options`` are the
    other fields of the body; another name is a ``TypeError``. Each call has an Idempotency-Key, a random one if none is
    given, so that a repeated call is not a second message. Calls raise ``ClientError``.
    """

    def __init__(self, caller: Caller, requests: AsyncRequests) -> None:
        self._caller = caller
        self._requests = requests

    async def send(
        self,
        messages: Messages,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[MessageOptions],
    ) -> MessageReply:
        """Send messages, and wait until the request has an answer.

        ``timeout``: seconds, rounded up to whole ones; None: no limit. Raises ``RequestFailedError`` if the request
        ended without an answer, ``StillRunningError`` after ``timeout``, ``UnreachableError`` if no gateway could be
        reached for too long, and ``ClientError`` if the message was refused.
        """
        clock = self._caller.wire.clock
        until = math.inf if timeout is None else clock() + timeout
        seconds = min(POLL_SECONDS, math.ceil(timeout)) if timeout is not None else POLL_SECONDS
        call = _call(messages, options, idempotency_key, {"Prefer": f"wait={seconds}"}, READ_SECONDS + seconds)
        answer = await self._caller.call(call)
        if answer.status == 200:
            return answer.read(MessageReply)
        accepted = answer.read(AcceptedRequest)
        left = None if timeout is None else max(0.0, until - clock())
        ended = accepted if has_ended(accepted) else await self._requests.wait(accepted.id, timeout=left)
        return _reply(ended, accepted.warnings)

    async def submit(
        self, messages: Messages, *, idempotency_key: str | None = None, **options: Unpack[MessageOptions]
    ) -> AcceptedRequest:
        """Send messages, and return once the request is accepted: its ``id`` leads to the answer.

        Raises ``ClientError`` if it was refused. If no gateway could say whether it was accepted, the error has the
        ``idempotency_key`` with which to submit it again.
        """
        call = _call(messages, options, idempotency_key, {"Prefer": "respond-async"}, READ_SECONDS)
        return (await self._caller.call(call)).read(AcceptedRequest)

    async def submit_all(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[BulkOutcome]:
        """Submit up to 1,000 messages in one call. Returns the outcome of each, in the same order.

        Each is a body of ``POST /v1/messages``, with an ``idempotency_key`` of its own if it has one, else a random
        one. A message that was refused is no error: its outcome has ``error``, which says whether it is ``retryable``.
        """
        keyed = [{**each, "idempotency_key": each.get("idempotency_key") or str(uuid4())} for each in messages]
        call = Call("POST", f"{_PATH}/bulk", content=body_of(requests=keyed))
        return (await self._caller.call(call)).read(BulkResult).data

    def stream(
        self, messages: Messages, *, idempotency_key: str | None = None, **options: Unpack[MessageOptions]
    ) -> AsyncStream:
        """Send messages when the stream is first read, and stream the answer as it is written.

        Reading it raises ``ClientError`` if the message was refused. A request that ends without an answer is no error:
        its ending is an event.
        """
        call = _call(messages, options, idempotency_key, {"Accept": "text/event-stream"}, READ_SECONDS)
        return AsyncStream(self._caller, call)


def _call(
    messages: Messages, options: MessageOptions, key: str | None, headers: dict[str, str], seconds: float
) -> Call:
    check_names(options, MessageOptions)
    key = key or str(uuid4())
    body = body_of(messages=dialogue(messages), **options)
    headers = {**headers, "Idempotency-Key": key}
    return Call("POST", _PATH, headers=headers, content=body, read_seconds=seconds, about={"idempotency_key": key})


def _reply(ended: RequestResource, warnings: list[str]) -> MessageReply:
    """The answer of a request that has ended. Raises ``RequestFailedError`` if it has none."""
    if ended.status is not Status.COMPLETED or ended.conversation_id is None:
        raise _failure(ended)
    return MessageReply.model_construct(
        conversation_id=ended.conversation_id,
        reply=ended.reply or "",
        request_id=ended.id,
        model=ended.model,
        usage=ended.usage,
        finish_reason=ended.finish_reason,
        metadata=ended.metadata,
        output=ended.output,
        warnings=warnings,
    )


def _failure(ended: RequestResource) -> RequestFailedError:
    if ended.error:
        return RequestFailedError.by_code(ended.error.code, ended.error.detail, ended.id)
    codes = {Status.CANCELLED: ErrorCode.CANCELLED, Status.EXPIRED: ErrorCode.EXPIRED}
    code = codes.get(ended.status, ErrorCode.INTERNAL)
    return RequestFailedError.by_code(code, ERRORS[code].title, ended.id)

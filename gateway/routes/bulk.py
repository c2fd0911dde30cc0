"""``POST /v1/messages/bulk``: many messages in one call, each with its own outcome."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from fastapi import Response

from gateway.bulk import Bulk, Outcome
from gateway.http import openapi
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.routes.messages import ROUTE, allowed, read_value
from gateway.settings import GatewaySettings
from gateway.submission import Submission, trace
from gateway.submit import Submissions
from schemas.api.bulk import KEY_PATTERN, MAX_MESSAGES, BulkError, BulkMessages, BulkOutcome, BulkResult
from schemas.api.keys import Scope
from schemas.envelope import parse_json
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from schemas.invalid import UNKNOWN_FIELD

_KEY = re.compile(KEY_PATTERN)
# Messages that are read without a pause in which other calls are served.
_AT_A_TIME = 20
# The id of these exists, or may exist: the client needs it for the next call.
_WITH_ID = frozenset({ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.OUTCOME_UNKNOWN})


class BulkRoutes:
    """The route, with its collaborators."""

    def __init__(self, settings: GatewaySettings, submissions: Submissions, bulk: Bulk) -> None:
        self._settings = settings
        self._submissions = submissions
        self._bulk = bulk

    def routes(self) -> Sequence[Route]:
        """The row of the route table."""
        result = {"model": BulkResult, "description": "One outcome for each message, in the same order"}
        return [
            Route(
                "POST", f"{ROUTE}/bulk", self.create_messages, Scope.WRITE, {200: result},
                body=Body(BulkMessages, read_bulk), headers=[openapi.TRACEPARENT], writes=True,
            )
        ]  # fmt: skip

    async def create_messages(self, call: Call[list[Any]]) -> Response:
        """Send up to 1,000 messages, and do not wait for their replies.

        Each message is accepted or refused individually. The response has one outcome for each, and its status is 200
        even if all were refused. Messages of one conversation are accepted in the order of the list: if one is refused
        with an error that is `retryable`, the later ones of its conversation are refused, too. To repeat a call safely,
        give each message an `idempotency_key`.
        """
        traceparent = call.request.headers.get("traceparent")
        read: list[Submission | OrchestraError] = []
        keyed = set()
        for place, value in enumerate(call.body):
            if place % _AT_A_TIME == 0:
                await asyncio.sleep(0)
            try:
                key, submission = self._read(call, value, traceparent)
            except OrchestraError as error:
                read.append(error)
            else:
                read.append(submission)
                keyed |= {submission.id} if key else set()
        outcomes = iter(
            await self._bulk.send([each for each in read if isinstance(each, Submission)], frozenset(keyed))
        )
        data = [_refused(each) if isinstance(each, OrchestraError) else _told(next(outcomes)) for each in read]
        refused = sum(each.error is not None for each in data)
        return json_answer(BulkResult(data=data, accepted=len(data) - refused, refused=refused))

    def _read(self, call: Call[list[Any]], value: Any, traceparent: str | None) -> tuple[str | None, Submission]:
        key, rest = _key_of(value)
        body, warnings = allowed(self._settings, call.caller, *read_value(rest))
        if body.stream:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "stream: the messages of a bulk call are not streamed")
        if body.on_disconnect:
            warnings = ("on_disconnect", *warnings[:9])
        submission = Submission(
            caller=call.caller,
            id=self._submissions.id(call.caller, ROUTE, key),
            body=body,
            body_hash=body.body_hash(),
            traceparent=trace(traceparent),
            caller_waits=False,
            warnings=warnings,
        )
        return key, submission


def read_bulk(raw: bytes) -> list[Any]:
    """The messages of a bulk call, not read yet. Raises ``NOT_JSON`` or ``INVALID_REQUEST``."""
    value = parse_json(raw)
    if isinstance(value, dict) and not value.keys() <= {"requests"}:
        raise OrchestraError(ErrorCode.INVALID_REQUEST, f"body: {UNKNOWN_FIELD}")
    found = value.get("requests") if isinstance(value, dict) else None
    if not isinstance(found, list) or not 1 <= len(found) <= MAX_MESSAGES:
        detail = f"requests: must be a list of 1 to {MAX_MESSAGES} messages"
        raise OrchestraError(ErrorCode.INVALID_REQUEST, detail)
    return found


def _key_of(value: Any) -> tuple[str | None, Any]:
    """The idempotency key of a message, and the message without it. Raises ``INVALID_REQUEST``."""
    if not isinstance(value, dict) or "idempotency_key" not in value:
        return None, value
    rest = {name: each for name, each in value.items() if name != "idempotency_key"}
    key = value["idempotency_key"]
    if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
        detail = "idempotency_key: must be 1 to 255 visible ASCII characters"
        raise OrchestraError(ErrorCode.INVALID_REQUEST, detail)
    return key, rest


def _told(outcome: Outcome) -> BulkOutcome:
    submission, error = outcome.submission, outcome.error
    if error:
        told = _refused(error)
        return told.model_copy(update={"request_id": submission.id}) if error.code in _WITH_ID else told
    return BulkOutcome(
        request_id=submission.id,
        status=outcome.status,
        conversation_id=submission.conversation_id,
        warnings=list(submission.warnings),
    )


def _refused(error: OrchestraError) -> BulkOutcome:
    kind = ERRORS[error.code]
    detail = error.detail or kind.title
    return BulkOutcome(error=BulkError(code=error.code, detail=detail, status=kind.status, retryable=kind.retryable))

"""Acting on requests: retry, change or cancel one of them, many by their ids, or all that match a filter."""

from collections.abc import Sequence
from uuid import UUID

from fastapi import Response

from gateway.http import openapi
from gateway.http.bodies import read_idempotency_key
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.steering import Steering
from schemas.api.audit import Action
from schemas.api.keys import Scope
from schemas.api.requests import ChangedRequest, RequestResource
from schemas.api.steering import (
    CancelRequests,
    ChangeRequest,
    ChangeRequests,
    RequestsChanged,
    RequestsDone,
    RetryRequests,
)
from schemas.errors import ErrorCode

_RETRIED = (
    ErrorCode.NOT_RETRYABLE, ErrorCode.UNSUPPORTED_PART, ErrorCode.UNSUPPORTED_OPTION, ErrorCode.UNKNOWN_MODEL,
    ErrorCode.UNKNOWN_AGENT, ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.CONVERSATION_DELETED,
    ErrorCode.CONVERSATION_FULL, ErrorCode.FILE_NOT_FOUND, ErrorCode.TOO_LARGE, ErrorCode.QUOTA_EXCEEDED,
    *openapi.QUOTAS,
)  # fmt: skip
_CHANGED = (ErrorCode.NOTHING_TO_CHANGE, ErrorCode.NOT_CHANGEABLE, ErrorCode.TOO_MANY_PARKED)


class SteeringRoutes:
    """The routes, with their collaborators."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one = "/v1/requests", "/v1/requests/{request_id}"
        retried = {"model": RequestResource, "description": "The new request; its URL is in `Location`"}
        changed = {"model": ChangedRequest, "description": "The request as it is now"}
        cancelled: openapi.Responses = {
            200: {"model": RequestResource, "description": "It had already ended; nothing was changed"},
            202: {"model": RequestResource, "description": "It will be cancelled, unless it ends first"},
        }
        asked = {"model": RequestsDone, "description": "Each will be cancelled, unless it ends first"}
        sent = {"model": RequestsDone, "description": "How many were retried and how many skipped"}
        done = {"model": RequestsChanged, "description": "How many were changed and how many skipped"}
        headers = [openapi.RETRY_KEY, openapi.TRACEPARENT]
        return [
            Route(
                "POST", f"{path}/retry", self.retry_requests, Scope.WRITE, {202: sent}, body=Body(RetryRequests),
                headers=headers, writes=True, lists=True, or_scope=Scope.OPERATE, action=Action.REQUEST_RETRY,
            ),
            Route(
                "POST", f"{path}/change", self.update_requests, Scope.WRITE, {200: done}, body=Body(ChangeRequests),
                also=[ErrorCode.NOTHING_TO_CHANGE], lists=True, or_scope=Scope.OPERATE, action=Action.REQUEST_CHANGE,
            ),
            Route(
                "POST", f"{path}/cancel", self.cancel_requests, Scope.WRITE, {202: asked}, body=Body(CancelRequests),
                writes=True, lists=True, or_scope=Scope.OPERATE, action=Action.REQUEST_CANCEL,
            ),
            Route(
                "POST", f"{one}/retry", self.retry_request, Scope.WRITE, {202: retried}, also=_RETRIED, headers=headers,
                writes=True, or_scope=Scope.OPERATE, action=Action.REQUEST_RETRY,
            ),
            Route(
                "PATCH", one, self.update_request, Scope.WRITE, {200: changed}, body=Body(ChangeRequest), also=_CHANGED,
                or_scope=Scope.OPERATE, action=Action.REQUEST_CHANGE,
            ),
            Route(
                "POST", f"{one}/cancel", self.cancel_request, Scope.WRITE, cancelled, writes=True,
                or_scope=Scope.OPERATE, action=Action.REQUEST_CANCEL,
            ),
        ]  # fmt: skip

    async def retry_request(self, call: Call[None], request_id: UUID) -> Response:
        """Retry a failed, expired or cancelled request, as a new request.

        The new request has the same body and owner, but no `deadline`, `not_before` or `on_busy`. It is added at the
        end of the conversation. The original request does not change.
        """
        key, trace = read_idempotency_key(call.request), call.request.headers.get("traceparent")
        resource = await self._steering.retry(call.caller, request_id, key, trace, call.by)
        return json_answer(resource, 202, {"Location": f"/v1/requests/{resource.id}"})

    async def update_request(self, call: Call[ChangeRequest], request_id: UUID) -> Response:
        """Change the priority, `not_before` or `deadline` of a request that no worker runs yet."""
        resource, warnings = await self._steering.change(call.caller, request_id, call.body, call.by)
        return json_answer(ChangedRequest(**dict(resource), warnings=list(warnings)))

    async def cancel_request(self, call: Call[None], request_id: UUID) -> Response:
        """Cancel a request, unless it has ended."""
        resource = await self._steering.cancel(call.caller, request_id, call.by)
        return json_answer(resource, 200 if resource.status.terminal else 202)

    async def retry_requests(self, call: Call[RetryRequests]) -> Response:
        """Retry many failed, expired and cancelled requests, at most 1,000 per call.

        Requests of one conversation are retried in their order. If one of them may be accepted later but not now, the
        later ones of its conversation are skipped.
        """
        key, trace = read_idempotency_key(call.request), call.request.headers.get("traceparent")
        return json_answer(await self._steering.retry_all(call.caller, call.body, key, trace, call.by), 202)

    async def update_requests(self, call: Call[ChangeRequests]) -> Response:
        """Change many requests that no worker runs yet, at most 1,000 per call."""
        return json_answer(await self._steering.change_all(call.caller, call.body, call.by))

    async def cancel_requests(self, call: Call[CancelRequests]) -> Response:
        """Cancel many requests that have not ended, at most 1,000 per call."""
        return json_answer(await self._steering.cancel_all(call.caller, call.body, call.by), 202)

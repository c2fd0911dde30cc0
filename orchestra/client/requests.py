"""Requests: get, list, wait for, stream and cancel them."""

import math
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from orchestra.client.caller import READ_SECONDS, Call, Caller
from orchestra.client.errors import StillRunningError
from orchestra.client.pages import AsyncItems, items_by_cursor
from orchestra.client.stream import AsyncStream
from schemas.api.requests import ListedRequest, RequestPage, RequestResource
from schemas.errors import ErrorCode
from schemas.status import Status

# How long one call waits: proxies often allow a minute of silence.
POLL_SECONDS = 30
_POLL_AGAIN_SECONDS = 0.5
_PATH = "/v1/requests"


class AsyncRequests:
    """The requests of the caller. Calls raise ``ClientError``, with code ``not_found`` for an id that is unknown."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, request_id: UUID | str) -> RequestResource:
        """A request as it is now."""
        return (await self._caller.call(Call("GET", one(_PATH, request_id)))).read(RequestResource)

    async def wait(self, request_id: UUID | str, *, timeout: float | None = None) -> RequestResource:
        """Wait until a request has ended, and return it, whether it is completed, failed, cancelled or expired.

        ``timeout``: seconds, rounded up to whole ones; None: no limit. Raises ``StillRunningError`` after it, and
        ``UnreachableError`` if no gateway could be reached for too long; the request goes on all the same.
        """
        caller, patience = self._caller, self._caller.patience(self._caller.reconnect_seconds)
        until = math.inf if timeout is None else caller.wire.clock() + timeout
        while True:
            began, url = caller.wire.clock(), caller.url
            seconds = math.ceil(min(max(until - began, 0), POLL_SECONDS))
            headers = {"Prefer": f"wait={seconds}"} if seconds else {}
            about = {"request_id": _uuid(request_id)}
            path = one(_PATH, request_id)
            call = Call("GET", path, headers=headers, read_seconds=READ_SECONDS + seconds, about=about)
            request = (await caller.call(call, patience)).read(RequestResource)
            if has_ended(request):
                return request
            now = caller.wire.clock()
            if now >= until:
                detail = "the request has not ended yet"
                raise StillRunningError(detail, code=ErrorCode.STILL_RUNNING, request_id=request.id, retryable=True)
            if now - began < seconds - 1:
                # A gateway that shuts down responds at once.
                caller.leave(url)
                await caller.wire.sleep(min(_POLL_AGAIN_SECONDS, until - now))

    def stream(self, request_id: UUID | str, *, last_event_id: str | None = None) -> AsyncStream:
        """Stream the answer of a request: from its beginning, or after the event with ``last_event_id``.

        Reading it raises ``ClientError``. A request that ends without an answer is no error: its ending is an event.
        """
        return AsyncStream(self._caller, None, UUID(str(request_id)), last_event_id)

    async def cancel(self, request_id: UUID | str) -> RequestResource:
        """Cancel a request, unless it has ended. It is cancelled when its ``status`` says so, not before."""
        return (await self._caller.call(Call("POST", f"{one(_PATH, request_id)}/cancel"))).read(RequestResource)

    def list(
        self,
        *,
        status: Status | str | None = None,
        model: str | None = None,
        conversation_id: UUID | str | None = None,
        task_type: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 100,
    ) -> AsyncItems[ListedRequest]:
        """Iterate over the requests that match every given field, newest first. ``page_size``: 1 to 100."""
        params = {
            "status": status,
            "model": model,
            "conversation_id": conversation_id,
            "task_type": task_type,
            "created_after": moment(created_after),
            "created_before": moment(created_before),
            "limit": page_size,
        }
        return items_by_cursor(self._caller, _PATH, RequestPage, params)


def has_ended(request: RequestResource) -> bool:
    """Whether a request has ended, also in a way that is new."""
    known = isinstance(request.status, Status)
    return request.status.terminal if known else request.finished_at is not None


def one(path: str, id: Any) -> str:
    """The path of one thing of a list."""
    return f"{path}/{quote(str(id), safe='') or '-'}"


def moment(at: datetime | None) -> str | None:
    """A time as the API has it."""
    return at.isoformat() if at else None


def _uuid(text: UUID | str) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None

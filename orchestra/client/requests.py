"""Requests: get, list, wait for, stream, cancel, retry and change them."""

import math
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Unpack
from urllib.parse import quote
from uuid import UUID

from orchestra.client.caller import READ_SECONDS, Call, Caller
from orchestra.client.errors import StillRunningError
from orchestra.client.many import act, keyed
from orchestra.client.options import Changes, RequestFilters, check_names, whole_body_of
from orchestra.client.pages import AsyncItems, items_by_cursor
from orchestra.client.stream import AsyncStream
from schemas.api.requests import ChangedRequest, ListedRequest, RequestDetail, RequestPage, RequestResource
from schemas.api.steering import RequestsChanged, RequestsDone
from schemas.api.waiting import WaitingState
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

    async def get(self, request_id: UUID | str) -> RequestDetail:
        """A request as it is now, with all that is known of it."""
        return (await self._caller.call(Call("GET", one(_PATH, request_id)))).read(RequestDetail)

    async def waiting(self, request_id: UUID | str) -> WaitingState:
        """Why a request waits, how many come first, and about how long it will take."""
        return (await self._caller.call(Call("GET", f"{one(_PATH, request_id)}/waiting"))).read(WaitingState)

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

    async def retry(self, request_id: UUID | str, *, idempotency_key: str | None = None) -> RequestResource:
        """Retry a failed, expired or cancelled request, as a new request, which is returned.

        Without an ``idempotency_key`` a request is retried once: a repeat returns the same retry.
        """
        call = keyed(f"{one(_PATH, request_id)}/retry", idempotency_key)
        return (await self._caller.call(call)).read(RequestResource)

    async def change(self, request_id: UUID | str, **changes: Unpack[Changes]) -> ChangedRequest:
        """Change a request that no worker runs yet. ``warnings`` has ``priority`` if that was lowered."""
        check_names(changes, Changes)
        call = Call("PATCH", one(_PATH, request_id), content=whole_body_of(**changes))
        return (await self._caller.call(call)).read(ChangedRequest)

    async def cancel_all(
        self,
        ids: Collection[UUID | str] | None = None,
        *,
        dry_run: bool = False,
        **filters: Unpack[RequestFilters],
    ) -> RequestsDone:
        """Cancel the requests with these ids, or those that match every given filter and have not ended.

        All of them, in as many calls as that takes; what is returned are the sums. ``dry_run``: change nothing, and say
        what would be done.
        """
        return await act(self._caller, "cancel", RequestsDone, ids, filters, dry_run=dry_run)

    async def retry_all(
        self,
        ids: Collection[UUID | str] | None = None,
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        **filters: Unpack[RequestFilters],
    ) -> RequestsDone:
        """Retry the requests with these ids, or those that match every given filter and ended without an answer.

        Like ``cancel_all``. ``idempotency_key``: see ``retry``.
        """
        return await act(self._caller, "retry", RequestsDone, ids, filters, dry_run=dry_run, key=idempotency_key)

    async def change_all(
        self,
        changes: Changes,
        ids: Collection[UUID | str] | None = None,
        *,
        dry_run: bool = False,
        **filters: Unpack[RequestFilters],
    ) -> RequestsChanged:
        """Change the requests with these ids, or those that match every given filter and that no worker runs yet.

        Like ``cancel_all``. ``warnings`` has ``priority`` if that was lowered.
        """
        check_names(changes, Changes)
        return await act(self._caller, "change", RequestsChanged, ids, filters, dry_run=dry_run, change=changes)

    async def page(
        self,
        *,
        limit: int = 20,
        cursor: str | None = None,
        newer_than: str | None = None,
        **filters: Unpack[RequestFilters],
    ) -> RequestPage:
        """One page of the list, newest first, for programs that ask again and again. ``limit``: 1 to 100.

        ``cursor``: ``next`` of the page before it. ``newer_than``: ``newest`` of an earlier page: only what came since.
        """
        check_names(filters, RequestFilters)
        given = {**filters, "limit": limit, "cursor": cursor, "newer_than": newer_than}
        return (await self._caller.call(Call("GET", _PATH, params=texts_of(given)))).read(RequestPage)

    def list(self, *, page_size: int = 100, **filters: Unpack[RequestFilters]) -> AsyncItems[ListedRequest]:
        """Iterate over the requests that match every given filter, newest first. ``page_size``: 1 to 100.

        ``id``: up to 100 of them. ``waited_min``: seconds. Times without a zone are UTC.
        """
        check_names(filters, RequestFilters)
        return items_by_cursor(self._caller, _PATH, RequestPage, {**texts_of(filters), "limit": page_size})


def has_ended(request: RequestResource) -> bool:
    """Whether a request has ended, even with a status that this client does not know."""
    known = isinstance(request.status, Status)
    return request.status.terminal if known else request.finished_at is not None


def one(path: str, id: Any) -> str:
    """The path of the item with this id below the path of its list."""
    return f"{path}/{quote(str(id), safe='') or '-'}"


def moment(at: datetime | str | None) -> str | None:
    """A time in the form of the API (ISO 8601). A text is returned unchanged."""
    return at.isoformat() if isinstance(at, datetime) else at


def texts_of(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Filters as parameters of a query: times as texts, and none that is None."""
    texts = {name: moment(value) for name, value in filters.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _uuid(text: UUID | str) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None

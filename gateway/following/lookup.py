"""Finds what is known about a request id: its row, or what the id itself shows while there is no row."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from gateway.following.live import Ending
from gateway.people.principal import Principal
from orchestra.receipts import Receipt, Receipts
from orchestra.store import cancels, dead_letters, progress, requests
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.requests import StoredRequest
from orchestra.store.turns import RequestRef
from schemas.api.requests import RequestDetail, RequestResource
from schemas.errors import ErrorCode, OrchestraError
from schemas.replies import RequestError
from schemas.status import Status
from schemas.topics import REQUESTS

# The time from minting an id to its record's timestamp in the log, plus the clock skew of two machines.
_SLACK = timedelta(seconds=15)
_MAX_REMEMBERED = 100_000
# Statements for rows that run at once; the other connections stay free for other queries.
_AT_ONCE = 2


_Resource = TypeVar("_Resource", bound=RequestResource)
_Find = Callable[[Database, Collection[RequestRef]], Awaitable[Mapping[RequestRef, StoredRequest]]]


class _Rows:
    """Reads rows of requests in batches: those wanted while a statement runs are read by the next one."""

    def __init__(self, database: Database, find: _Find) -> None:
        self._database = database
        self._find = find
        self._wanted: dict[RequestRef, asyncio.Future[StoredRequest | None]] = {}
        self._asking: set[asyncio.Task[None] | None] = set()

    async def find(self, ref: RequestRef) -> StoredRequest | None:
        """The row, read after this call began. Raises ``DatabaseUnavailableError``."""
        if ref not in self._wanted:
            self._wanted[ref] = asyncio.get_running_loop().create_future()
            self._wanted[ref].add_done_callback(_seen)
        wanted = self._wanted[ref]
        if len(self._asking) < _AT_ONCE:
            self._asking.add(asyncio.create_task(self._ask()))
        return await asyncio.shield(wanted)

    async def _ask(self) -> None:
        try:
            while self._wanted:
                await self._ask_once()
        finally:
            # Here and not in a callback, which runs later: a call in between would count on a task that has ended.
            self._asking.discard(asyncio.current_task())

    async def _ask_once(self) -> None:
        wanted, self._wanted = self._wanted, {}
        try:
            found = await self._find(self._database, wanted)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - each waiting call raises it
            # Nothing cancels this task: a library leaked its own CancelledError. It must not cancel the waiting calls.
            leaked = isinstance(error, asyncio.CancelledError)
            for future in wanted.values():
                future.set_exception(DatabaseUnavailableError("CancelledError") if leaked else error)
        else:
            for ref, future in wanted.items():
                future.set_result(found.get(ref))


def _seen(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()  # Marks it as retrieved: the calls that still wait raise it.


@dataclass(frozen=True)
class _Known:
    """What is known of a request. Without a row: no owner, and when it was accepted, if its id shows that."""

    resource: RequestResource
    owner: str | None = None
    accepted_at: datetime | None = None


class Lookup:
    """Finds requests. Each method raises ``DatabaseUnavailableError`` while Postgres is down."""

    def __init__(self, database: Database, receipts: Receipts) -> None:
        self._database = database
        self._rows = _Rows(database, requests.find)
        self._details = _Rows(database, requests.find_detail)
        self._receipts = receipts
        # An id derived from a key does not contain the time of its creation.
        self._first_asked: OrderedDict[RequestRef, datetime] = OrderedDict()

    async def stored(self, caller: Principal, id: UUID) -> StoredRequest | None:
        """The row, if there is one that this caller may see."""
        return await _visible(caller, id, self._rows)

    async def resource(self, caller: Principal, id: UUID) -> RequestResource:
        """The request as its caller sees it. Raises ``NOT_FOUND`` if it is unknown, deleted or another owner's."""
        return (await self._known(caller, id, self._rows)).resource

    async def steered(self, caller: Principal, id: UUID) -> RequestResource:
        """The request for a caller that may act on it; an operator gets those of other owners without texts.

        Raises ``NOT_FOUND``.
        """
        known = await self._known(caller.as_operator, id, self._rows)
        return without_texts(caller, known.resource, known.owner)

    async def detail(self, caller: Principal, id: UUID) -> RequestDetail:
        """The request with all that is known of it, on the same terms as ``steered``."""
        known = await self._known(caller.as_operator, id, self._details)
        if isinstance(known.resource, RequestDetail):
            return without_texts(caller, known.resource, known.owner)
        return RequestDetail(**dict(known.resource), accepted_at=known.accepted_at)  # It has no row.

    async def _known(self, caller: Principal, id: UUID, rows: _Rows) -> _Known:
        if stored := await _visible(caller, id, rows):
            return _Known(stored.resource, stored.owner)
        # From here on another owner's id is treated as unknown. An admin sees dead letters without a receipt, because
        # a producer chooses its own ids.
        receipt = self._receipts.verify(caller.tenant, caller.only, id, datetime.now(UTC))
        if receipt is None and not caller.admin:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        if letter := await dead_letters.reason_of(self._database, caller.tenant, id):
            code, detail = letter
            return _Known(RequestResource(id=id, status=Status.FAILED, error=RequestError(code=code, detail=detail)))
        ref, replayed_at = caller.request(id), await dead_letters.last_replay(self._database, caller.tenant, id)
        if (receipt is None and replayed_at is None) or await requests.deleted_among(self._database, [ref]):
            raise OrchestraError(ErrorCode.NOT_FOUND)
        if await self._may_be_on_its_way(ref, receipt, replayed_at):
            cancelling = await cancels.is_cancelled_early(self._database, ref, caller.user, any_owner=caller.admin)
            resource = RequestResource(id=id, status=Status.PENDING, cancel_requested=cancelling)
            return _Known(resource, accepted_at=receipt.minted_at if receipt else None)
        # Intake may have written the row since the first look.
        if stored := await _visible(caller, id, rows):
            return _Known(stored.resource, stored.owner)
        raise OrchestraError(ErrorCode.NOT_FOUND)

    async def with_reply(self, ref: RequestRef, ending: Ending) -> Ending | None:
        """The ending with its reply, read from Postgres if it was too long for an event; None while that fails."""
        if ending.status is not Status.COMPLETED or ending.reply is not None:
            return ending
        try:
            stored = await self._rows.find(ref)
        except DatabaseUnavailableError:
            return None
        if stored is None:
            gone = RequestError(code=ErrorCode.CONVERSATION_DELETED, detail="the conversation is deleted")
            return Ending(Status.FAILED, ending.attempt, error=gone)
        resource = stored.resource
        return replace(
            ending, reply=resource.reply or "", output=resource.output, model=resource.model,
            finish_reason=resource.finish_reason,
        )  # fmt: skip

    async def _may_be_on_its_way(self, ref: RequestRef, receipt: Receipt | None, replayed_at: datetime | None) -> bool:
        since = replayed_at or (receipt and receipt.minted_at) or self._asked(ref)
        read_up_to = await progress.read_up_to(self._database, REQUESTS.name)
        return read_up_to is None or since > read_up_to - _SLACK

    def _asked(self, ref: RequestRef) -> datetime:
        if len(self._first_asked) >= _MAX_REMEMBERED and ref not in self._first_asked:
            self._first_asked.popitem(last=False)
        return self._first_asked.setdefault(ref, datetime.now(UTC))


def without_texts(caller: Principal, resource: _Resource, owner: str | None) -> _Resource:
    """The request of this owner as an operator sees it: without what others said and were answered."""
    if caller.sees(owner):
        return resource
    texts = {"reply", "output", "metadata", "messages"} & type(resource).model_fields.keys()
    return resource.model_copy(update=dict.fromkeys(texts))


async def _visible(caller: Principal, id: UUID, rows: _Rows) -> StoredRequest | None:
    found = await rows.find(caller.request(id))
    return found if found and caller.sees(found.owner) else None

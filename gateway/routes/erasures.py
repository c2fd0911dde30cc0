"""Erasures: delete everything that an owner has."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from fastapi import Response

from gateway.erasing import Erasing
from gateway.http.cursors import Cursor, Limit, read_time_cursor, write_cursor
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.people.callers import Callers
from orchestra.signing import OwnerHasher
from orchestra.store import erasing, erasures
from orchestra.store.database import Database
from orchestra.store.erasures import SETTLES_SECONDS, StoredErasure, user_id_of
from schemas.api.audit import Action
from schemas.api.erasures import EraseOwner, ErasurePage, ErasureResource
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from schemas.topics import DEAD_LETTERS, EVENTS, REPLIES, REQUESTS

# A record is deleted with its segment, which is written for a sixth of the time that the topic keeps records.
_KEPT = {
    topic.name: timedelta(seconds=SETTLES_SECONDS, milliseconds=topic.retention_ms * 7 // 6)
    for topic in (REQUESTS, EVENTS, REPLIES, DEAD_LETTERS)
}


class Erasures:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, callers: Callers, erasing: Erasing, secrets: list[bytes]) -> None:
        self._database = database
        self._callers = callers
        self._erasing = erasing
        self._hasher = OwnerHasher(secrets)

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one = "/v1/erasures", "/v1/erasures/{erasure_id}"
        counted = {"model": ErasureResource, "description": "A dry run: how much would be deleted"}
        begun = {"model": ErasureResource, "description": "Accepted; workers delete everything"}
        page = {"model": ErasurePage, "description": "One page, newest first"}
        shown = {"model": ErasureResource, "description": "The erasure"}
        return [
            Route(
                "POST", path, self.create_erasure, Scope.ADMIN, {200: counted, 202: begun}, body=Body(EraseOwner),
                action=Action.OWNER_ERASE,
            ),
            Route("GET", path, self.list_erasures, Scope.ADMIN, {200: page}, lists=True),
            Route("GET", one, self.get_erasure, Scope.ADMIN, {200: shown}),
        ]  # fmt: skip

    async def create_erasure(self, call: Call[EraseOwner]) -> Response:
        """Delete everything that an owner has.

        Conversations, messages, requests, files and dead letters of a user, of a program's keys or of an `X-User-ID`
        are deleted. Open requests are cancelled, keys are revoked, and a user's account is deleted. Workers do this
        within a few minutes. A call for an owner whose erasure is running returns that erasure. The id of an erased
        user can never be used again; other names can, as soon as the erasure is done. An erasure cannot be undone. Only
        for admins, who cannot erase themselves.
        """
        owner, caller = call.body.owner, call.caller
        if call.body.dry_run:
            now = datetime.now(UTC)
            found = await erasing.count(self._database, caller.tenant, owner)
            return json_answer(_resource(None, "counted", found, now, None))
        if caller.identified and owner in (caller.user, str(caller.user_id)):
            raise OrchestraError(ErrorCode.FORBIDDEN, "you cannot erase yourself")
        erasure = await erasures.note(
            self._database, caller.tenant, owner, self._hasher.hash(caller.tenant, owner), uuid4(), call.by,
            leave_admin=caller.identified,
        )  # fmt: skip
        self._callers.forget_owner(owner, user_id_of(owner))
        await self._erasing.look(self._database)
        return json_answer(_shown(erasure), 202)

    async def list_erasures(self, call: Call[None], limit: Limit = 20, cursor: Cursor = None) -> Response:
        """List erasures, newest first.

        They do not say whose data were deleted. Only for admins.
        """
        before = read_time_cursor(cursor)
        found = await erasures.page(self._database, call.caller.tenant, before, limit + 1)
        page, more = found[:limit], len(found) > limit
        following = write_cursor(page[-1].requested_at, page[-1].id) if more else None
        return json_answer(ErasurePage(data=[_shown(each) for each in page], next=following))

    async def get_erasure(self, call: Call[None], erasure_id: UUID) -> Response:
        """Get an erasure.

        It does not say whose data were deleted. Only for admins.
        """
        erasure = await erasures.find(self._database, call.caller.tenant, erasure_id)
        if erasure is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return json_answer(_shown(erasure))


def _shown(erasure: StoredErasure) -> ErasureResource:
    status = "done" if erasure.finished_at else "running"
    return _resource(erasure.id, status, erasure.erased, erasure.requested_at, erasure.finished_at)


def _resource(
    id: UUID | None, status: str, counts: Mapping[str, int], requested_at: datetime, finished_at: datetime | None
) -> ErasureResource:
    free_at = {topic: requested_at + kept for topic, kept in _KEPT.items()}
    return ErasureResource.model_validate(
        {
            "id": id, "status": status, "counts": counts, "requested_at": requested_at, "finished_at": finished_at,
            "topics_free_at": free_at,
        }
    )  # fmt: skip

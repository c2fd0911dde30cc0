"""API keys: make, list, revoke. A key itself is shown once, to whoever made it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from gateway.http.answers import json_answer
from gateway.http.cursors import cut, read_key_cursor
from gateway.http.route import Body, Call, Route
from gateway.people.callers import GRANTED, OF_ROLE, Callers
from gateway.people.principal import Principal
from orchestra.credentials import is_key_id, new_key
from orchestra.store import keys, users
from orchestra.store.database import Database
from schemas.api.conversations import Page
from schemas.api.keys import CreatedKey, CreateKey, KeyResource, Scope
from schemas.errors import ErrorCode, OrchestraError

# By place: FastAPI makes up the names of operations.
_REVOKE = {
    "revoke": {
        "operationRef": "#/paths/~1v1~1keys~1{key_id}/delete",
        "parameters": {"key_id": "$response.body#/id"},
    }
}

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=512)]


class Keys:
    """The routes, with what they need."""

    def __init__(self, database: Database, callers: Callers) -> None:
        self._database = database
        self._callers = callers

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path = "/v1/keys"
        made = {"model": CreatedKey, "description": "Made; `key` is shown only here", "links": _REVOKE}
        page = {"model": Page[KeyResource], "description": "The newest first"}
        gone = {"description": "Revoked: within a minute no gateway takes it any more"}
        return [
            Route("POST", path, self.create, Scope.WRITE, {201: made}, body=Body(CreateKey)),
            Route("GET", path, self.list, Scope.READ, {200: page}, lists=True),
            Route("DELETE", f"{path}/{{key_id}}", self.revoke, Scope.WRITE, {204: gone}),
        ]

    async def create(self, call: Call[CreateKey]) -> Response:
        """Make a key: for oneself, signed in by password; as an admin for any user, or for a program."""
        caller, wanted = call.caller, call.body
        if not caller.admin and caller.session is None:
            raise OrchestraError(ErrorCode.FORBIDDEN, "keys are made by an admin, or by who signed in with a password")
        if wanted.expires_at is not None and wanted.expires_at <= datetime.now(UTC):
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "expires_at: must be in the future")
        user_id = await self._owner(caller, wanted)
        key = new_key()
        kept = await keys.create(self._database, caller.tenant, key, wanted, user_id, caller.session)
        return json_answer(CreatedKey(**dict(kept), key=key.text), 201)

    async def list(self, call: Call[None], limit: Limit = 20, cursor: Cursor = None) -> Response:
        """The caller's own keys, for an admin everybody's, the newest first."""
        before, caller = read_key_cursor(cursor), call.caller
        found = await keys.page(self._database, caller.tenant, _whose(caller), before, limit + 1)
        data, following = cut(found, limit)
        return json_answer(Page[KeyResource](data=data, next=following))

    async def revoke(self, call: Call[None], key_id: str) -> Response:
        """Revoke a key of one's own, as an admin anybody's. It stays in the list."""
        tenant, whose = call.caller.tenant, _whose(call.caller)
        if not is_key_id(key_id) or not await keys.revoke(self._database, tenant, whose, key_id):
            raise OrchestraError(ErrorCode.NOT_FOUND)
        self._callers.forget_key(key_id)
        return Response(status_code=204)

    async def _owner(self, caller: Principal, wanted: CreateKey) -> UUID | None:
        """Whose key it is to be. Raises ``FORBIDDEN``, or ``INVALID_REQUEST`` for a user who cannot have it."""
        if not caller.admin:
            if wanted.user_id not in (None, caller.user_id):
                raise OrchestraError(ErrorCode.FORBIDDEN, "user_id: only an admin makes keys for others")
            if not caller.scopes.issuperset(wanted.scopes):
                raise OrchestraError(ErrorCode.FORBIDDEN, "scopes: more than your own")
            return caller.user_id
        if wanted.user_id is None:
            return None
        user = await users.by_id(self._database, wanted.user_id)
        if user is None or user.tenant != caller.tenant:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "user_id: there is no such user")
        if not (OF_ROLE[user.resource.role] | GRANTED).issuperset(wanted.scopes):
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "scopes: more than the user's role allows")
        return wanted.user_id


def _whose(caller: Principal) -> UUID | None:
    """The user whose keys a caller sees; None: everybody's. Raises ``FORBIDDEN``."""
    if caller.admin:
        return None
    if caller.user_id is None:
        raise OrchestraError(ErrorCode.FORBIDDEN, "a program's own key sees no keys")
    return caller.user_id

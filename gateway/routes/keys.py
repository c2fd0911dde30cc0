"""API keys: create, list, revoke. The key itself is shown once, when it is created."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from fastapi import Response

from gateway.http.cursors import Cursor, Limit, cut, read_key_cursor
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.people.callers import GRANTED, OF_ROLE, Callers
from gateway.people.principal import Principal
from orchestra.credentials import is_key_id, new_key
from orchestra.store import keys, users
from orchestra.store.database import Database
from schemas.api.audit import Action
from schemas.api.keys import CreatedKey, CreateKey, KeyPage, Scope
from schemas.errors import ErrorCode, OrchestraError

_REVOKE = {"revoke": {"operationId": "revokeKey", "parameters": {"key_id": "$response.body#/id"}}}


class Keys:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, callers: Callers) -> None:
        self._database = database
        self._callers = callers

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path = "/v1/keys"
        made = {"model": CreatedKey, "description": "Created; `key` is shown only here", "links": _REVOKE}
        page = {"model": KeyPage, "description": "One page, newest first"}
        gone = {"description": "Revoked; within a minute every gateway rejects it"}
        return [
            Route(
                "POST",
                path,
                self.create_key,
                Scope.WRITE,
                {201: made},
                body=Body(CreateKey),
                creates_access=True,
                action=Action.KEY_CREATE,
            ),
            Route("GET", path, self.list_keys, Scope.READ, {200: page}, lists=True),
            Route("DELETE", f"{path}/{{key_id}}", self.revoke_key, Scope.WRITE, {204: gone}, action=Action.KEY_REVOKE),
        ]

    async def create_key(self, call: Call[CreateKey]) -> Response:
        """Create an API key.

        Users who signed in with a password can create keys for themselves, admins also for any user or for a program.
        """
        caller, wanted = call.caller, call.body
        if not caller.admin and caller.session is None:
            raise OrchestraError(
                ErrorCode.FORBIDDEN, "only an admin, or a user who signed in with a password, can create keys"
            )
        if wanted.expires_at is not None and wanted.expires_at <= datetime.now(UTC):
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "expires_at: must be in the future")
        user_id = await self._owner(caller, wanted)
        key = new_key()
        kept = await keys.create(self._database, caller.tenant, key, wanted, user_id, caller.session, call.by)
        return json_answer(CreatedKey(**dict(kept), key=key.text), 201)

    async def list_keys(self, call: Call[None], limit: Limit = 20, cursor: Cursor = None) -> Response:
        """List API keys, newest first.

        Users see their own keys, admins all keys.
        """
        before, caller = read_key_cursor(cursor), call.caller
        found = await keys.page(self._database, caller.tenant, _whose(caller), before, limit + 1)
        data, following = cut(found, limit)
        return json_answer(KeyPage(data=data, next=following))

    async def revoke_key(self, call: Call[None], key_id: str) -> Response:
        """Revoke an API key.

        Users revoke their own keys, admins any key. A revoked key stays in the list.
        """
        tenant, whose = call.caller.tenant, _whose(call.caller)
        if not is_key_id(key_id) or not await keys.revoke(self._database, tenant, whose, key_id, call.by):
            raise OrchestraError(ErrorCode.NOT_FOUND)
        self._callers.forget_key(key_id)
        return Response(status_code=204)

    async def _owner(self, caller: Principal, wanted: CreateKey) -> UUID | None:
        """The owner of the new key. Raises ``FORBIDDEN``, or ``INVALID_REQUEST`` if that user cannot have it."""
        if not caller.admin:
            if wanted.user_id not in (None, caller.user_id):
                raise OrchestraError(ErrorCode.FORBIDDEN, "user_id: only an admin can create keys for others")
            if not caller.scopes.issuperset(wanted.scopes):
                raise OrchestraError(ErrorCode.FORBIDDEN, "scopes: exceed your own")
            return caller.user_id
        if wanted.user_id is None:
            return None
        user = await users.by_id(self._database, wanted.user_id)
        if user is None or user.tenant != caller.tenant:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "user_id: no such user")
        if not (OF_ROLE[user.resource.role] | GRANTED).issuperset(wanted.scopes):
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "scopes: exceed those of the user's role")
        return wanted.user_id


def _whose(caller: Principal) -> UUID | None:
    """The user whose keys a caller sees; None: all keys. Raises ``FORBIDDEN``."""
    if caller.admin:
        return None
    if caller.user_id is None:
        raise OrchestraError(ErrorCode.FORBIDDEN, "the key of a program cannot list or revoke keys")
    return caller.user_id

"""Users: list, make, change, delete; who am I; a new password of one's own."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Response
from pydantic import TypeAdapter

from gateway.http.answers import json_answer
from gateway.http.cursors import cut, read_time_cursor
from gateway.http.route import Body, Call, Route
from gateway.people.attempts import Attempts
from gateway.people.callers import Callers
from gateway.people.passwords import Passwords
from orchestra.http.client_address import client_address
from orchestra.store import users
from orchestra.store.database import Database
from orchestra.store.users import StoredUser
from schemas.api.keys import Scope
from schemas.api.users import ChangePassword, ChangeUser, CreateUser, UserResource
from schemas.errors import ErrorCode, OrchestraError

_LIST = TypeAdapter(list[UserResource])

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=512)]


class Users:
    """The routes, with what they need."""

    def __init__(self, database: Database, callers: Callers, passwords: Passwords, attempts: Attempts) -> None:
        self._database = database
        self._callers = callers
        self._passwords = passwords
        self._attempts = attempts

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one, mine = "/v1/users", "/v1/users/{user_id}", "/v1/users/me/password"
        listed = {"model": list[UserResource], "description": "The newest first"}
        made = {"model": UserResource, "description": "Made"}
        user = {"model": UserResource, "description": "The user"}
        gone = {"description": "Deleted, with their keys"}
        renewed = {"description": "Changed: sign in with the new one"}
        new, other = Body(CreateUser, any_type=True), Body(ChangeUser, any_type=True)
        taken, hashed = ErrorCode.USERNAME_TAKEN, ErrorCode.OVERLOADED
        return [
            Route("GET", path, self.list, Scope.ADMIN, {200: listed}, lists=True),
            Route("POST", path, self.create, Scope.ADMIN, {201: made}, body=new, also=[taken, hashed]),
            Route(
                "PUT", mine, self.change_password, Scope.WRITE, {204: renewed}, body=Body(ChangePassword),
                also=[ErrorCode.TOO_MANY_ATTEMPTS, hashed],
            ),
            Route(
                "PUT", one, self.change, Scope.ADMIN, {200: user}, body=other,
                also=[ErrorCode.NOTHING_TO_CHANGE, taken, hashed],
            ),
            Route("DELETE", one, self.delete, Scope.ADMIN, {204: gone}),
            Route("GET", "/users/me", self.me, Scope.READ, {200: user}, also=[ErrorCode.NOT_FOUND]),
        ]  # fmt: skip

    async def list(self, call: Call[None], limit: Limit = 100, cursor: Cursor = None) -> Response:
        """All users, the newest first; the `Link` header leads to more of them. For admins."""
        found = await users.page(self._database, call.caller.tenant, read_time_cursor(cursor), limit + 1)
        data, following = cut(found, limit)
        headers = {}
        if following:
            headers["Link"] = f'</v1/users?{urlencode({"limit": limit, "cursor": following})}>; rel="next"'
        return Response(_LIST.dump_json(data), 200, headers, media_type="application/json")

    async def create(self, call: Call[CreateUser]) -> Response:
        """Make a user. For admins."""
        wanted = call.body
        password_hash = await self._passwords.hash(wanted.password)
        made = await users.create(self._database, call.caller.tenant, wanted.username, password_hash, wanted.role)
        return json_answer(made, 201)

    async def change(self, call: Call[ChangeUser], user_id: UUID) -> Response:
        """Change name, password or role of a user; a new password ends their sessions and keys. For admins."""
        wanted = call.body
        if wanted.username is None and wanted.password is None and wanted.role is None:
            raise OrchestraError(ErrorCode.NOTHING_TO_CHANGE)
        password_hash = await self._passwords.hash(wanted.password) if wanted.password else None
        changed = await users.change(
            self._database,
            call.caller.tenant,
            user_id,
            username=wanted.username,
            password_hash=password_hash,
            role=wanted.role,
            keep_keys=wanted.keep_keys,
            leave_admin=self._callers.presents_credentials(call.request),
        )
        self._callers.forget_user(user_id)
        if changed is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return json_answer(changed)

    async def change_password(self, call: Call[ChangePassword]) -> Response:
        """Change one's own password, with the old one; it ends one's sessions and keys. For those who signed in."""
        if not self._callers.presents_credentials(call.request):
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        if call.caller.session is None:
            raise OrchestraError(ErrorCode.FORBIDDEN, "a password is changed by who signed in with it")
        id = call.caller.session.user_id
        user = await users.by_id(self._database, id)
        if user is None:
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        async with self._attempts.attempt(user.resource.username, client_address(call.request.scope)):
            changed = await self._exchange(user, call.body)
            if not changed:
                raise OrchestraError(ErrorCode.FORBIDDEN, "old_password: is wrong")
        self._callers.forget_user(id)
        return Response(status_code=204)

    async def delete(self, call: Call[None], user_id: UUID) -> Response:
        """Delete a user and their keys; what they made stays. For admins, and nobody deletes themself."""
        if user_id == call.caller.user_id:
            raise OrchestraError(ErrorCode.FORBIDDEN, "nobody deletes themself")
        leave_admin = self._callers.presents_credentials(call.request)
        deleted = await users.delete(self._database, call.caller.tenant, user_id, leave_admin=leave_admin)
        self._callers.forget_user(user_id)
        if not deleted:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return Response(status_code=204)

    async def me(self, call: Call[None]) -> Response:
        """The user who calls, by their password or by a key of theirs."""
        if not self._callers.presents_credentials(call.request):
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        user = await users.by_id(self._database, call.caller.user_id) if call.caller.user_id else None
        if user is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return json_answer(user.resource)

    async def _exchange(self, user: StoredUser, wanted: ChangePassword) -> bool:
        """Put the new password in the old one's place; false where the old one is wrong."""
        found = await users.by_username(self._database, user.resource.username)
        right, _ = await self._passwords.verify(wanted.old_password, found[1] if found else None)
        if found is None or not right:
            return False
        new, id = await self._passwords.hash(wanted.password), user.resource.id
        changed = await users.change(
            self._database, user.tenant, id, password_hash=new, old_hash=found[1], keep_keys=wanted.keep_keys
        )
        return changed is not None

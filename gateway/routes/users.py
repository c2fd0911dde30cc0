"""Users: list, create, update, delete; the calling user, and their password."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Response
from pydantic import TypeAdapter

from gateway.http.cursors import Cursor, cut, read_time_cursor
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.people.attempts import Attempts
from gateway.people.callers import Callers
from gateway.people.passwords import Passwords
from orchestra.http.client_address import client_address
from orchestra.store import users
from orchestra.store.audit import Author
from orchestra.store.database import Database
from orchestra.store.users import StoredUser
from schemas import fields
from schemas.api.audit import Action
from schemas.api.keys import Scope
from schemas.api.users import ChangePassword, ChangeUser, CreateUser, UserResource
from schemas.errors import ErrorCode, OrchestraError

_LIST = TypeAdapter(list[UserResource])

Limit = Annotated[int, Query(ge=1, le=1000, description=fields.LIMIT.description, examples=[100])]


class Users:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, callers: Callers, passwords: Passwords, attempts: Attempts) -> None:
        self._database = database
        self._callers = callers
        self._passwords = passwords
        self._attempts = attempts

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one, mine = "/v1/users", "/v1/users/{user_id}", "/v1/users/me/password"
        listed = {
            "model": list[UserResource],
            "description": "One page, newest first; the URL of the next one is in `Link`",
        }
        made = {"model": UserResource, "description": "Created"}
        user = {"model": UserResource, "description": "The user"}
        gone = {"description": "Deleted, with the user's keys"}
        renewed = {"description": "Changed; sign in with the new password"}
        new, other = Body(CreateUser, any_type=True), Body(ChangeUser, any_type=True)
        taken, hashed = ErrorCode.USERNAME_TAKEN, ErrorCode.OVERLOADED
        return [
            Route("GET", path, self.list_users, Scope.ADMIN, {200: listed}, lists=True),
            Route(
                "POST", path, self.create_user, Scope.ADMIN, {201: made}, body=new, also=[taken, hashed],
                creates_access=True, action=Action.USER_CREATE,
            ),
            Route(
                "PUT", mine, self.change_password, Scope.WRITE, {204: renewed}, body=Body(ChangePassword),
                also=[ErrorCode.TOO_MANY_ATTEMPTS, hashed], action=Action.USER_PASSWORD,
            ),
            Route(
                "PUT", one, self.update_user, Scope.ADMIN, {200: user}, body=other,
                also=[ErrorCode.NOTHING_TO_CHANGE, taken, hashed], creates_access=True, action=Action.USER_UPDATE,
            ),
            Route("DELETE", one, self.delete_user, Scope.ADMIN, {204: gone}, action=Action.USER_DELETE),
            Route("GET", "/users/me", self.get_current_user, Scope.READ, {200: user}, also=[ErrorCode.NOT_FOUND]),
        ]  # fmt: skip

    async def list_users(self, call: Call[None], limit: Limit = 100, cursor: Cursor = None) -> Response:
        """List all users, newest first.

        Only for admins.
        """
        found = await users.page(self._database, call.caller.tenant, read_time_cursor(cursor), limit + 1)
        data, following = cut(found, limit)
        headers = {}
        if following:
            headers["Link"] = f'</v1/users?{urlencode({"limit": limit, "cursor": following})}>; rel="next"'
        return Response(_LIST.dump_json(data), 200, headers, media_type="application/json")

    async def create_user(self, call: Call[CreateUser]) -> Response:
        """Create a user.

        Only for admins.
        """
        wanted = call.body
        password_hash = await self._passwords.hash(wanted.password)
        made = await users.create(
            self._database, call.caller.tenant, wanted.username, password_hash, wanted.role, call.by
        )
        return json_answer(made, 201)

    async def update_user(self, call: Call[ChangeUser], user_id: UUID) -> Response:
        """Update the name, password or role of a user.

        A new password ends the user's sessions and revokes their keys. Only for admins.
        """
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
            leave_admin=call.caller.identified,
            by=call.by,
        )
        self._callers.forget_user(user_id)
        if changed is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return json_answer(changed)

    async def change_password(self, call: Call[ChangePassword]) -> Response:
        """Change the caller's own password.

        It ends the caller's sessions and revokes their keys. Only for users who signed in with a password.
        """
        if not call.caller.identified:
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        if call.caller.session is None:
            raise OrchestraError(ErrorCode.FORBIDDEN, "only a user who signed in with a password can change it")
        id = call.caller.session.user_id
        user = await users.by_id(self._database, id)
        if user is None:
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        async with self._attempts.attempt(user.resource.username, client_address(call.request.scope)):
            changed = await self._exchange(user, call.body, call.by)
            if not changed:
                raise OrchestraError(ErrorCode.FORBIDDEN, "old_password: wrong")
        self._callers.forget_user(id)
        return Response(status_code=204)

    async def delete_user(self, call: Call[None], user_id: UUID) -> Response:
        """Delete a user and their keys.

        The user's requests and conversations remain. Only for admins, who cannot delete themselves.
        """
        if user_id == call.caller.user_id:
            raise OrchestraError(ErrorCode.FORBIDDEN, "you cannot delete yourself")
        leave_admin = call.caller.identified
        deleted = await users.delete(self._database, call.caller.tenant, user_id, leave_admin=leave_admin, by=call.by)
        self._callers.forget_user(user_id)
        if not deleted:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return Response(status_code=204)

    async def get_current_user(self, call: Call[None]) -> Response:
        """Get the calling user.

        The caller is identified by a token or by one of the user's keys.
        """
        if not call.caller.identified:
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        user = await users.by_id(self._database, call.caller.user_id) if call.caller.user_id else None
        if user is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return json_answer(user.resource)

    async def _exchange(self, user: StoredUser, wanted: ChangePassword, by: Author) -> bool:
        """Replace the password. False if the old one is wrong."""
        found = await users.by_username(self._database, user.resource.username)
        right, _ = await self._passwords.verify(wanted.old_password, found[1] if found else None)
        if found is None or not right:
            return False
        new, id = await self._passwords.hash(wanted.password), user.resource.id
        changed = await users.change(
            self._database, user.tenant, id, password_hash=new, old_hash=found[1], keep_keys=wanted.keep_keys,
            by=by,
        )  # fmt: skip
        return changed is not None

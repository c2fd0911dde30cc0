"""Users: list, make, change, delete; sign in with a password; who am I."""

from typing import Annotated
from urllib.parse import parse_qs, urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.http.bodies import parse, read_body, read_id, read_json
from gateway.http.cursors import read_time_cursor, write_cursor
from gateway.people.attempts import Attempts
from gateway.people.callers import Callers
from gateway.people.passwords import Passwords
from gateway.people.tokens import LIFETIME, Tokens
from orchestra.http.client_address import client_address
from orchestra.store import users
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.users import StoredUser
from schemas.api.keys import Scope
from schemas.api.users import ChangePassword, ChangeUser, CreateUser, Token, UserResource
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import describe, storable

_ASKED = (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.INVALID_REQUEST, ErrorCode.UNAVAILABLE)
_LISTED = openapi.problems(*_ASKED, ErrorCode.TOO_MANY_CALLS)
_FOUND = openapi.problems(*_ASKED, ErrorCode.NOT_FOUND)
_CREATED = openapi.problems(ErrorCode.NOT_JSON, *_ASKED, ErrorCode.USERNAME_TAKEN, *openapi.BODY, ErrorCode.OVERLOADED)
_CHANGED = openapi.problems(
    ErrorCode.NOT_JSON, ErrorCode.NOTHING_TO_CHANGE, *_ASKED, ErrorCode.NOT_FOUND, ErrorCode.USERNAME_TAKEN,
    *openapi.BODY, ErrorCode.OVERLOADED,
)  # fmt: skip
_RENEWED = openapi.problems(
    ErrorCode.NOT_JSON, *_ASKED, *openapi.BODY, ErrorCode.TOO_MANY_ATTEMPTS, ErrorCode.OVERLOADED
)
_SIGN_IN = openapi.problems(
    ErrorCode.UNAUTHORIZED, *openapi.BODY, ErrorCode.INVALID_REQUEST, ErrorCode.TOO_MANY_ATTEMPTS,
    ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE,
)  # fmt: skip
_LONGEST_FORM = 16 * 1024
_TEXT = {"type": "string"}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["username", "password"],
                    "properties": {
                        "grant_type": {"const": "password"},
                        "username": _TEXT,
                        "password": {**_TEXT, "format": "password"},
                    },
                }
            }
        },
    }
}
_LIST = TypeAdapter(list[UserResource])

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=512)]


class SignIn(BaseModel):
    """The form of ``POST /token``."""

    username: str
    password: SecretStr


class Users:
    """The routes, with what they need."""

    def __init__(
        self,
        database: Database,
        callers: Callers,
        passwords: Passwords,
        attempts: Attempts,
        tokens: Tokens,
        most_bytes: int,
    ) -> None:
        self._database = database
        self._callers = callers
        self._passwords = passwords
        self._attempts = attempts
        self._tokens = tokens
        self._most_bytes = most_bytes

    def router(self) -> APIRouter:
        """The routes for the app."""
        router = APIRouter(tags=["users"])
        listed: openapi.Responses = {200: {"model": list[UserResource], "description": "The newest first"}}
        made: openapi.Responses = {201: {"model": UserResource, "description": "Made"}}
        one: openapi.Responses = {200: {"model": UserResource, "description": "The user"}}
        gone: openapi.Responses = {204: {"description": "Deleted, with his keys"}}
        renewed: openapi.Responses = {204: {"description": "Changed: sign in with the new one"}}
        token: openapi.Responses = {200: {"model": Token, "description": "Signed in"}}
        for path, method, call, answers, more in (
            ("/v1/users", "GET", self.list, {**_LISTED, **listed}, None),
            ("/v1/users", "POST", self.create, {**_CREATED, **made}, openapi.body(CreateUser)),
            ("/v1/users/{user_id}", "PUT", self.change, {**_CHANGED, **one}, openapi.body(ChangeUser)),
            (
                "/v1/users/me/password",
                "PUT",
                self.change_password,
                {**_RENEWED, **renewed},
                openapi.body(ChangePassword),
            ),
            ("/v1/users/{user_id}", "DELETE", self.delete, {**_FOUND, **gone}, None),
            ("/token", "POST", self.sign_in, {**_SIGN_IN, **token}, _FORM),
            ("/users/me", "GET", self.me, {**_FOUND, **one}, None),
        ):
            router.add_api_route(
                path, call, methods=[method], response_model=None, responses=answers, openapi_extra=more
            )
        return router

    async def list(self, request: Request, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """All users, the newest first; the `Link` header leads to more of them. For admins."""
        async with self._callers.listing(request, Scope.ADMIN) as caller:
            found = await users.page(self._database, caller.tenant, read_time_cursor(cursor), limit + 1)
        headers = {}
        if len(found) > limit:
            last = found[limit - 1]
            query = urlencode({"limit": limit, "cursor": write_cursor(last.created_at, last.id)})
            headers["Link"] = f'</v1/users?{query}>; rel="next"'
        return Response(_LIST.dump_json(found[:limit]), 200, headers, media_type="application/json")

    async def create(self, request: Request) -> Response:
        """Make a user. For admins."""
        caller = await self._callers.identify(request, Scope.ADMIN)
        wanted = parse(CreateUser, await read_body(request, self._most_bytes))
        password_hash = await self._passwords.hash(wanted.password)
        made = await users.create(self._database, caller.tenant, wanted.username, password_hash, wanted.role)
        return json_answer(made, 201)

    async def change(self, request: Request, user_id: str) -> Response:
        """Change name, password or role of a user; a new password ends their sessions and keys. For admins."""
        caller, id = await self._callers.identify(request, Scope.ADMIN), read_id(user_id)
        wanted = parse(ChangeUser, await read_body(request, self._most_bytes))
        if wanted.username is None and wanted.password is None and wanted.role is None:
            raise OrchestraError(ErrorCode.NOTHING_TO_CHANGE)
        password_hash = await self._passwords.hash(wanted.password) if wanted.password else None
        changed = await users.change(
            self._database,
            caller.ref(id),
            username=wanted.username,
            password_hash=password_hash,
            role=wanted.role,
            keep_keys=wanted.keep_keys,
            leave_admin=self._callers.presents_credentials(request),
        )
        self._callers.forget_user(id)
        if changed is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return json_answer(changed)

    async def change_password(self, request: Request) -> Response:
        """Change one's own password, with the old one; it ends one's sessions and keys. For those who signed in."""
        caller = await self._callers.identify(request, Scope.WRITE)
        wanted = await read_json(request, ChangePassword, self._most_bytes)
        if not self._callers.presents_credentials(request):
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        if caller.session is None:
            raise OrchestraError(ErrorCode.FORBIDDEN, "a password is changed by who signed in with it")
        id = caller.session.user_id
        user = await users.by_id(self._database, id)
        if user is None:
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        async with self._attempts.attempt(user.resource.username, client_address(request.scope)):
            changed = await self._exchange(user, wanted)
            if not changed:
                raise OrchestraError(ErrorCode.FORBIDDEN, "old_password: is wrong")
        self._callers.forget_user(id)
        return Response(status_code=204)

    async def delete(self, request: Request, user_id: str) -> Response:
        """Delete a user and their keys; what they made stays. For admins, and nobody deletes themself."""
        caller, id = await self._callers.identify(request, Scope.ADMIN), read_id(user_id)
        if id == caller.user_id:
            raise OrchestraError(ErrorCode.FORBIDDEN, "nobody deletes themself")
        leave_admin = self._callers.presents_credentials(request)
        deleted = await users.delete(self._database, caller.ref(id), leave_admin=leave_admin)
        self._callers.forget_user(id)
        if not deleted:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return Response(status_code=204)

    async def sign_in(self, request: Request) -> Response:
        """Sign in with username and password, as OAuth2's password form has it; the token is good for an hour."""
        form = read_form(await read_body(request, _LONGEST_FORM))
        async with self._attempts.attempt(form.username, client_address(request.scope)):
            user = await self._with_password(form)
        token = self._tokens.sign(user).get_secret_value()
        answer = Token(access_token=token, expires_in=int(LIFETIME.total_seconds()))
        return json_answer(answer)

    async def me(self, request: Request) -> Response:
        """The user who calls, by his password or by a key of his."""
        caller = await self._callers.identify(request, Scope.READ)
        if not self._callers.presents_credentials(request):
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        user = await users.by_id(self._database, caller.user_id) if caller.user_id else None
        if user is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return json_answer(user.resource)

    async def _exchange(self, user: StoredUser, wanted: ChangePassword) -> bool:
        """Put the new password in the old one's place; false where the old one is wrong."""
        found = await users.by_username(self._database, user.resource.username)
        right, _ = await self._passwords.verify(wanted.old_password, found[1] if found else None)
        if found is None or not right:
            return False
        new, ref = await self._passwords.hash(wanted.password), (user.tenant, user.resource.id)
        changed = await users.change(
            self._database, ref, password_hash=new, old_hash=found[1], keep_keys=wanted.keep_keys
        )
        return changed is not None

    async def _with_password(self, form: SignIn) -> StoredUser:
        found = await users.by_username(self._database, form.username)
        right, better = await self._passwords.verify(form.password, found[1] if found else None)
        if found is None or not right:
            raise OrchestraError(ErrorCode.UNAUTHORIZED, "username or password is wrong")
        user, kept = found
        if better:
            await self._upgrade(user.resource.id, kept, better)
        return user

    async def _upgrade(self, id: UUID, kept: str, better: str) -> None:
        try:
            await users.set_hash(self._database, id, kept, better)
        except DatabaseUnavailableError:
            return  # At the next sign-in.


def read_form(raw: bytes) -> SignIn:
    """The form of somebody who signs in. Raises ``INVALID_REQUEST``."""
    try:
        text = raw.decode()
        fields = parse_qs(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=20)
        single = {name: values[0] for name, values in fields.items() if len(values) == 1}
        if single.get("grant_type", "password") == "password":
            form = SignIn.model_validate(single)
            storable(form.username)
            return form
        detail = "grant_type: must be password"
    except ValidationError as error:
        detail = describe(error)
    except ValueError:  # Also of what is no UTF-8.
        detail = "must be a form with username and password, once each"
    raise OrchestraError(ErrorCode.INVALID_REQUEST, detail)

"""``POST /token``: sign in with the form of OAuth2's password grant."""

from urllib.parse import parse_qs
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, SecretStr, ValidationError

from gateway.http import openapi
from gateway.http.bodies import check_query, read_body
from gateway.http.responses import json_answer
from gateway.people.attempts import Attempts
from gateway.people.passwords import Passwords
from gateway.people.tokens import LIFETIME, Tokens
from orchestra.http.client_address import client_address
from orchestra.store import users
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.users import StoredUser
from schemas.api.users import Token
from schemas.content import storable
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import describe

_PROBLEMS = openapi.problems(
    ErrorCode.UNAUTHORIZED, ErrorCode.TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.INVALID_REQUEST,
    ErrorCode.TOO_MANY_ATTEMPTS, ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE,
)  # fmt: skip
LONGEST_FORM = 16 * 1024
_TEXT = {"type": "string"}
_PASSWORD = {**_TEXT, "format": "password", "description": "The user's password.", "examples": ["tr0ub4dor&3"]}
FORM_CONTENT = {
    "application/x-www-form-urlencoded": {
        "schema": {
            "type": "object",
            "required": ["username", "password"],
            "properties": {
                "grant_type": {"const": "password", "description": "Always `password`; may be absent."},
                "username": {**_TEXT, "description": "The user's name.", "examples": ["ann"]},
                "password": _PASSWORD,
            },
        }
    }
}


class Form(BaseModel):
    """The form of ``POST /token``."""

    username: str
    password: SecretStr


class SignIn:
    """The route, with its collaborators. It issues credentials, so it requires none."""

    def __init__(self, database: Database, passwords: Passwords, attempts: Attempts, tokens: Tokens) -> None:
        self._database = database
        self._passwords = passwords
        self._attempts = attempts
        self._tokens = tokens

    def router(self) -> APIRouter:
        """The route for the app."""
        router = APIRouter(tags=["users"], dependencies=[Depends(check_query)])
        answers: openapi.Responses = {**_PROBLEMS, 200: {"model": Token, "description": "Signed in"}}
        router.add_api_route(
            "/token", self.create_token, methods=["POST"], response_model=None, responses=answers,
            operation_id="createToken", summary="Sign in with username and password",
            openapi_extra={"requestBody": {"required": True, "content": FORM_CONTENT}},
            description="The form is that of OAuth2's password grant. The token is valid for one hour.",
        )  # fmt: skip
        return router

    async def create_token(self, request: Request) -> Response:
        """Sign in with username and password."""
        user = await self.with_password(request, read_form(await read_body(request, LONGEST_FORM)))
        token = self._tokens.sign(user).get_secret_value()
        answer = Token(access_token=token, expires_in=int(LIFETIME.total_seconds()))
        return json_answer(answer)

    async def with_password(self, request: Request, form: Form) -> StoredUser:
        """The user who signs in with this form. Raises ``UNAUTHORIZED`` and ``TOO_MANY_ATTEMPTS``."""
        async with self._attempts.attempt(form.username, client_address(request.scope)):
            return await self._with_password(form)

    async def _with_password(self, form: Form) -> StoredUser:
        found = await users.by_username(self._database, form.username)
        right, better = await self._passwords.verify(form.password, found[1] if found else None)
        if found is None or not right:
            raise OrchestraError(ErrorCode.UNAUTHORIZED, "wrong username or password")
        user, kept = found
        if better:
            await self._upgrade(user.resource.id, kept, better)
        return user

    async def _upgrade(self, id: UUID, kept: str, better: str) -> None:
        try:
            await users.set_hash(self._database, id, kept, better)
        except DatabaseUnavailableError:
            return  # The next sign-in will try again.


def read_form(raw: bytes) -> Form:
    """The form of a sign-in. Raises ``INVALID_REQUEST``."""
    try:
        text = raw.decode()
        fields = parse_qs(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=20)
        single = {name: values[0] for name, values in fields.items() if len(values) == 1}
        if single.get("grant_type", "password") == "password":
            form = Form.model_validate(single)
            storable(form.username)
            return form
        detail = "grant_type: must be password"
    except ValidationError as error:
        detail = describe(error, Form)
    except ValueError:  # Including bytes that are not UTF-8.
        detail = "must be a form with username and password, once each"
    raise OrchestraError(ErrorCode.INVALID_REQUEST, detail)

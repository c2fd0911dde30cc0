"""``POST /token``: sign in with a password, as OAuth2's password form has it."""

from urllib.parse import parse_qs
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, SecretStr, ValidationError

from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.http.bodies import read_body, refuse_unknown_query
from gateway.people.attempts import Attempts
from gateway.people.passwords import Passwords
from gateway.people.tokens import LIFETIME, Tokens
from orchestra.http.client_address import client_address
from orchestra.store import users
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.users import StoredUser
from schemas.api.users import Token
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import describe, storable

_PROBLEMS = openapi.problems(
    ErrorCode.UNAUTHORIZED, ErrorCode.TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.INVALID_REQUEST,
    ErrorCode.TOO_MANY_ATTEMPTS, ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE,
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


class Form(BaseModel):
    """The form of ``POST /token``."""

    username: str
    password: SecretStr


class SignIn:
    """The route, with what it needs. It is how to get credentials, and asks for none."""

    def __init__(self, database: Database, passwords: Passwords, attempts: Attempts, tokens: Tokens) -> None:
        self._database = database
        self._passwords = passwords
        self._attempts = attempts
        self._tokens = tokens

    def router(self) -> APIRouter:
        """The route for the app."""
        router = APIRouter(tags=["users"], dependencies=[Depends(refuse_unknown_query)])
        answers: openapi.Responses = {**_PROBLEMS, 200: {"model": Token, "description": "Signed in"}}
        router.add_api_route(
            "/token", self.sign_in, methods=["POST"], response_model=None, responses=answers, openapi_extra=_FORM
        )
        return router

    async def sign_in(self, request: Request) -> Response:
        """Sign in with username and password, as OAuth2's password form has it; the token is good for an hour."""
        form = read_form(await read_body(request, _LONGEST_FORM))
        async with self._attempts.attempt(form.username, client_address(request.scope)):
            user = await self._with_password(form)
        token = self._tokens.sign(user).get_secret_value()
        answer = Token(access_token=token, expires_in=int(LIFETIME.total_seconds()))
        return json_answer(answer)

    async def _with_password(self, form: Form) -> StoredUser:
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


def read_form(raw: bytes) -> Form:
    """The form of somebody who signs in. Raises ``INVALID_REQUEST``."""
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
        detail = describe(error)
    except ValueError:  # Also of what is no UTF-8.
        detail = "must be a form with username and password, once each"
    raise OrchestraError(ErrorCode.INVALID_REQUEST, detail)

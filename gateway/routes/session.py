"""``/v1/session``: pages of this gateway sign in and out, by a cookie, and find out who calls."""

from datetime import UTC, datetime

from fastapi import APIRouter, Depends, Request, Response

from gateway.http import openapi
from gateway.http.bodies import check_query, parse, read_body
from gateway.http.responses import json_answer
from gateway.people.attempts import Attempts
from gateway.people.cached_rows import CachedRows
from gateway.people.callers import Callers
from gateway.people.cookies import check_own_page, set_cookie, unset_cookies
from gateway.people.principal import Principal
from gateway.people.tokens import Tokens, WebSession
from gateway.routes.sign_in import FORM_CONTENT, LONGEST_FORM, SignIn, read_form
from gateway.timings import TIMINGS, Timings
from orchestra.credentials import read_key
from orchestra.http.client_address import client_address
from orchestra.store import users
from orchestra.store.database import Database
from orchestra.store.keys import Session, StoredKey
from orchestra.version import version
from schemas.api.keys import Scope
from schemas.api.session import CreateSession, SessionCaller, SessionResource, SessionTimes
from schemas.api.users import Role
from schemas.errors import ErrorCode

_NOT_KEPT = {"Cache-Control": "no-store"}
_JSON = "application/json"
# Of attempts with a key. A username has no line break.
_KEY = "\nkey {id}"
_CREATE = (
    "Send the form of `POST /token`, or an API key as JSON. The response sets a cookie that scripts cannot read: "
    "`__Host-orchestra`, or `orchestra` over plain http. The cookie is used for calls without `Authorization`, and "
    "only for those from pages of this gateway: for methods other than GET, HEAD and OPTIONS, `Sec-Fetch-Site` must be "
    "`same-origin` or `none`; without that header, the host and port of `Origin` must equal `Host`. The session lasts "
    "an hour, or up to twelve if it is renewed. It ends when the key is revoked or expires, or the password changes."
)
_GET = (
    "Pages use it to decide what to show. It requires no credentials. From `renew_at` on, it also renews the session "
    "of the cookie."
)
_DELETE = (
    "Copies of the cookie elsewhere stay valid until they expire. To end all sessions, change the password or revoke "
    "the key."
)


class SessionRoutes:
    """The routes, with their collaborators. They require no credentials. ``asks``: other routes do."""

    def __init__(
        self,
        database: Database,
        callers: Callers,
        sign_in: SignIn,
        attempts: Attempts,
        tokens: Tokens,
        *,
        asks: bool,
        timings: Timings = TIMINGS,
    ) -> None:
        self._callers = callers
        self._sign_in = sign_in
        self._attempts = attempts
        self._tokens = tokens
        self._asks = asks

        async def any_users(_: None) -> bool:
            return await users.exist(database)

        self._any_users: CachedRows[None, bool] = CachedRows(any_users, timings=timings)

    def router(self) -> APIRouter:
        """The routes for the app."""
        router = APIRouter(tags=["users"], dependencies=[Depends(check_query)])
        signed_in, signed_out = {"description": "Signed in, by `Set-Cookie`"}, {"description": "Signed out"}
        shown = {"model": SessionResource, "description": "The session"}
        refused = [ErrorCode.CROSS_ORIGIN]
        reading = [ErrorCode.NOT_JSON, ErrorCode.INVALID_REQUEST, *openapi.BODY]
        failing = [ErrorCode.UNAUTHORIZED, ErrorCode.TOO_MANY_ATTEMPTS, ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE]
        content = {**FORM_CONTENT, _JSON: {"schema": openapi.ref(CreateSession)}}
        router.add_api_route(
            "/v1/session", self.create_session, methods=["POST"], response_model=None, status_code=204,
            responses={**openapi.problems(*reading, *refused, *failing), 204: signed_in}, operation_id="createSession",
            summary="Sign in from a page of this gateway", description=_CREATE, response_class=Response,
            openapi_extra={"requestBody": {"required": True, "content": content}},
        )  # fmt: skip
        found = [ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.INVALID_REQUEST, ErrorCode.UNAVAILABLE]
        router.add_api_route(
            "/v1/session", self.get_session, methods=["GET"], response_model=None,
            responses={**openapi.problems(*found), 200: shown}, operation_id="getSession",
            summary="Get the caller and the session", description=_GET,
        )  # fmt: skip
        router.add_api_route(
            "/v1/session", self.delete_session, methods=["DELETE"], response_model=None, status_code=204,
            responses={**openapi.problems(*refused, ErrorCode.INVALID_REQUEST), 204: signed_out},
            operation_id="deleteSession", summary="Sign out: delete the cookie", description=_DELETE,
            response_class=Response,
        )  # fmt: skip
        return router

    async def create_session(self, request: Request) -> Response:
        """Sign in from a page of this gateway."""
        check_own_page(request)
        raw = await read_body(request, LONGEST_FORM)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        who: Session | str
        if kind == _JSON:
            who = await self._with_key(request, parse(CreateSession, raw).api_key.get_secret_value())
        else:
            user = await self._sign_in.with_password(request, read_form(raw))
            who = Session(user.resource.id, user.password_set_at)
        now = datetime.now(UTC)
        return Response(None, 204, {"Set-Cookie": self._cookie(request, WebSession(who, now, now), now), **_NOT_KEPT})

    async def get_session(self, request: Request) -> Response:
        """Get the current caller."""
        caller = await self._callers.recognize(request)
        session, headers, now = caller and caller.web, {}, datetime.now(UTC)
        if session and now >= session.renew_at and session.expires_at < session.ends_at:
            session = WebSession(session.who, session.signed_in_at, now)
            headers["Set-Cookie"] = self._cookie(request, session, now)
        answer = SessionResource(
            mode="open" if not self._asks else "users" if await self._any_users.get(None) else "keys",
            version=version(),
            caller=await self._shown(caller) if caller else None,
            session=SessionTimes.model_validate(session, from_attributes=True) if session else None,
        )
        return json_answer(answer, headers=headers)

    async def delete_session(self, request: Request) -> Response:
        """Sign out: delete the cookie."""
        check_own_page(request)
        response = Response(None, 204, _NOT_KEPT)
        for each in unset_cookies():
            response.headers.append("Set-Cookie", each)
        return response

    async def _with_key(self, request: Request, text: str) -> str:
        id, _ = read_key(text) or ("", b"")
        async with self._attempts.attempt(_KEY.format(id=id), client_address(request.scope)):
            return await self._callers.sign_in(text)

    def _cookie(self, request: Request, session: WebSession, now: datetime) -> str:
        return set_cookie(request, self._tokens.sign_session(session), now, session.expires_at)

    async def _shown(self, caller: Principal) -> SessionCaller:
        key: str | None = None
        username: str | None = None
        role: Role | None = None
        row = await self._callers.named(caller)
        if isinstance(row, StoredKey):
            key, username, role = row.resource.name, row.username, row.role
        elif row is not None:
            username, role = row.resource.username, row.resource.role
        return SessionCaller(
            tenant=caller.tenant,
            owner=caller.user,
            user_id=caller.user_id,
            username=username,
            role=role,
            key_id=caller.key_id,
            key_name=key,
            scopes=[scope for scope in Scope if scope in caller.scopes],
        )

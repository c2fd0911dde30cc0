"""Identifies the caller of a request, and the user it acts for; otherwise 401 or 403."""

import asyncio
import hmac
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import structlog
from fastapi import Request

from gateway.people.cached_rows import CachedRows
from gateway.people.principal import EVERYTHING, Principal, nameless
from gateway.people.standing import Standing
from gateway.people.tokens import Tokens
from gateway.timings import TIMINGS, Timings
from orchestra.credentials import KEY_PREFIX, read_key
from orchestra.store import keys, users
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.keys import StoredKey
from orchestra.store.users import StoredUser
from schemas.api.keys import Scope
from schemas.api.users import Role
from schemas.errors import ErrorCode, OrchestraError

_LONGEST_NAME = 200
_NO_HASH = bytes(32)
OF_ROLE: dict[Role, frozenset[Scope]] = {"user": frozenset({Scope.READ, Scope.WRITE}), "admin": EVERYTHING}
# Scopes that an admin may add to any user's key.
GRANTED = frozenset({Scope.PRIORITY, Scope.OPERATE})
_IMPLIED = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.WRITE: frozenset({Scope.READ, Scope.WRITE}),
    Scope.PRIORITY: frozenset({Scope.PRIORITY}),
    Scope.OPERATE: frozenset({Scope.OPERATE}),
    Scope.ADMIN: EVERYTHING,
}

log = structlog.get_logger()


class Callers:
    """Identifies callers. ``asks``: credentials are required; otherwise a caller without any may do everything."""

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        *,
        asks: bool,
        clock: Callable[[], float] = time.monotonic,
        timings: Timings = TIMINGS,
    ) -> None:
        self._timings = timings
        self._database = database
        self._tokens = tokens
        self._asks = asks
        self._keys: CachedRows[str, StoredKey] = CachedRows(partial(keys.find, database), clock, timings)
        self._users: CachedRows[UUID, StoredUser] = CachedRows(partial(users.by_id, database), clock, timings)
        self._used: dict[str, datetime] = {}

    async def identify(self, request: Request, scope: Scope) -> Principal:
        """The caller, who has this scope.

        Raises ``UNAUTHORIZED``, ``FORBIDDEN``, ``INVALID_REQUEST`` for an invalid X-User-ID, and
        ``DatabaseUnavailableError`` while Postgres is unreachable and the caller was not seen in the last 55 s.
        """
        credentials = self._credentials(request)
        name = _user_header(request)
        if credentials is None and self._asks:
            raise OrchestraError(
                ErrorCode.UNAUTHORIZED, "send `Authorization: Bearer` with an API key or an access token"
            )
        if credentials is None:
            return nameless(name or "")
        by_key = credentials.startswith(KEY_PREFIX)
        caller, username = await (self._by_key(credentials) if by_key else self._by_token(credentials))
        if scope not in caller.scopes:
            raise OrchestraError(ErrorCode.FORBIDDEN, f"this needs the scope `{scope}`")
        return _in_the_name_of(name, caller, username)

    def standing(self, request: Request, scope: Scope, caller: Principal) -> Standing:
        """A check for the duration of a call: whether its ``caller`` still has access."""
        # Only the headers: the request itself would keep its body in memory for as long.
        again = partial(self._identify_again, request.scope["headers"], scope)
        return Standing(caller, again, self._timings)

    async def _identify_again(self, headers: Sequence[tuple[bytes, bytes]], scope: Scope) -> Principal:
        return await self.identify(Request({"type": "http", "headers": headers}), scope)

    def presents_credentials(self, request: Request) -> bool:
        """True when a request has credentials in our format, valid or not."""
        return self._credentials(request) is not None

    def forget_key(self, id: str) -> None:
        """Read this key again, because it was revoked. Other gateways notice within 20 s."""
        self._keys.forget(id)

    def forget_user(self, id: UUID) -> None:
        """Read this user and their keys again, because they changed. Other gateways notice within 20 s."""
        self._users.forget(id)
        self._keys.forget_where(lambda key: key.resource.user_id == id)

    async def run(self) -> None:
        """Store once a minute when keys were last used, until cancelled."""
        while True:
            await asyncio.sleep(self._timings.note_used)
            try:
                await self.note_used()
            except DatabaseUnavailableError:
                continue  # The health check reports it.
            except Exception as error:
                log.error("note_used_failed", exc_info=error)

    async def note_used(self) -> None:
        """Store once when keys were last used. Raises ``DatabaseUnavailableError``; then nothing is lost."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await keys.note_used(self._database, used)
        except DatabaseUnavailableError:
            self._used = {**used, **self._used}
            raise

    def _credentials(self, request: Request) -> str | None:
        values = request.headers.getlist("authorization")
        if not values:
            return None
        scheme, _, text = ", ".join(values).strip().partition(" ")
        text = text.strip()
        ours = scheme.lower() == "bearer" and (text.startswith(KEY_PREFIX) or self._tokens.issued(text))
        return text if ours else None

    async def _by_key(self, text: str) -> tuple[Principal, str | None]:
        id, secret_hash = read_key(text) or ("", _NO_HASH)
        key = await self._keys.get(id) if id else None
        genuine = hmac.compare_digest(secret_hash, key.secret_hash if key else _NO_HASH)
        now = datetime.now(UTC)
        if key is None or not genuine or not _is_good(key, now):
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        self._used[id] = now
        user_id, scopes = key.resource.user_id, _all_implied(key.resource.scopes)
        if user_id is None or key.role is None:
            return Principal(key.tenant, f"key:{key.resource.name}", scopes, shown=f"key {id}"), None
        scopes &= OF_ROLE[key.role] | GRANTED.intersection(key.resource.scopes)
        return Principal(key.tenant, str(user_id), scopes, user_id=user_id, shown=f"key {id}"), key.username

    async def _by_token(self, text: str) -> tuple[Principal, str | None]:
        session = self._tokens.read(text)
        user = session and await self._users.get(session.user_id)
        if session and user and user.password_set_at < session.password_set_at:
            # A new password, set and used on another gateway a moment ago.
            self._users.forget(session.user_id)
            user = await self._users.get(session.user_id)
        if not session or not user or user.password_set_at != session.password_set_at:
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        id, scopes = user.resource.id, OF_ROLE[user.resource.role]
        caller = Principal(user.tenant, str(id), scopes, session=session, user_id=id, shown=f"user {id}")
        return caller, user.resource.username


def _is_good(key: StoredKey, now: datetime) -> bool:
    expires_at = key.resource.expires_at
    return key.resource.revoked_at is None and (expires_at is None or expires_at > now)


def _all_implied(scopes: list[Scope]) -> frozenset[Scope]:
    return frozenset[Scope]().union(*(_IMPLIED[scope] for scope in scopes))


def _user_header(request: Request) -> str | None:
    """The name in X-User-ID; None where there is none. Raises ``INVALID_REQUEST``."""
    values = request.headers.getlist("x-user-id")
    if not any(value.strip() for value in values):
        return None
    try:
        name = values[0].encode("latin-1").decode("utf-8").strip()
    except UnicodeDecodeError:
        name = ""
    controls = any(unicodedata.category(character) == "Cc" for character in name)
    if len(values) > 1 or controls or not 1 <= len(name) <= _LONGEST_NAME:
        detail = f"X-User-ID: must be one value of 1 to {_LONGEST_NAME} characters in UTF-8, without control characters"
        raise OrchestraError(ErrorCode.INVALID_REQUEST, detail)
    return name


def _in_the_name_of(name: str | None, caller: Principal, username: str | None) -> Principal:
    if name is None or name == username or name.lower() == caller.user.lower():
        return caller
    if not caller.admin:
        raise OrchestraError(ErrorCode.FORBIDDEN, "X-User-ID: only an admin may act for another user")
    return replace(caller, user=name)

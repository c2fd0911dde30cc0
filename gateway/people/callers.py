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
from gateway.people.cookies import session_cookie
from gateway.people.principal import EVERYTHING, Principal, nameless
from gateway.people.standing import Standing
from gateway.people.tokens import Tokens
from gateway.timings import TIMINGS, Timings
from orchestra.credentials import KEY_PREFIX, read_key
from orchestra.store import keys, users
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.keys import Session, StoredKey
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
# What a call shows: the credentials in `Authorization` (empty: something else is there), the session in its cookie, and
# the name in X-User-ID.
_READ = frozenset({b"authorization", b"cookie", b"x-user-id"})
_Presented = tuple[str | None, str | None, str | None]
# A caller, and the name of its user.
_Known = tuple[Principal, str | None]

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

    async def identify(self, request: Request, scope: Scope, or_scope: Scope | None = None) -> Principal:
        """The caller, who has this scope or the other one.

        Raises ``UNAUTHORIZED``, ``FORBIDDEN``, ``INVALID_REQUEST`` for an invalid X-User-ID, and
        ``DatabaseUnavailableError`` while Postgres is unreachable and the caller was not seen in the last 55 s.
        """
        return await self._identify(self._presented(request), scope, or_scope)

    async def recognize(self, request: Request) -> Principal | None:
        """The caller, whatever its scopes; None if credentials are required and there is none, or only an old cookie.

        Raises like ``identify``.
        """
        return await self._recognize(self._presented(request))

    async def sign_in(self, key: str) -> str:
        """The id of this API key, for a session. Raises ``UNAUTHORIZED``."""
        caller, _ = await self._by_key(key)
        assert caller.key_id
        return caller.key_id

    async def named(self, caller: Principal) -> StoredKey | StoredUser | None:
        """The row of what identified a caller; None for one without credentials, and for one that was deleted."""
        if caller.key_id is not None:
            return await self._keys.get(caller.key_id)
        return await self._users.get(caller.user_id) if caller.user_id else None

    def standing(self, request: Request, scope: Scope, caller: Principal) -> Standing:
        """A check for the duration of a call: whether its ``caller`` still has access."""
        # Only the credentials: the request itself would keep its body in memory for as long.
        again = partial(self._identify, self._presented(request), scope)
        return Standing(caller, again, self._timings)

    def forget_key(self, id: str) -> None:
        """Read this key again, because it was revoked. Other gateways notice within 20 s."""
        self._keys.forget(id)

    def forget_user(self, id: UUID) -> None:
        """Read this user and their keys again, because they changed. Other gateways notice within 20 s."""
        self._users.forget(id)
        self._keys.forget_where(lambda key: key.resource.user_id == id)

    def forget_owner(self, owner: str, user_id: UUID | None) -> None:
        """Read the credentials of this owner again, because they were taken away. Other gateways notice within 20 s."""
        if user_id is not None:
            self.forget_user(user_id)
        self._keys.forget_where(lambda key: key.resource.user_id is None and f"key:{key.resource.name}" == owner)

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

    def _presented(self, request: Request) -> _Presented:
        """What a call shows. A cookie counts only where no ``Authorization`` is sent.

        Raises ``CROSS_ORIGIN``, and ``INVALID_REQUEST`` for an invalid X-User-ID.
        """
        # One pass, since every call comes here.
        headers: dict[bytes, list[bytes]] = {}
        for header in request.scope["headers"]:
            if header[0] in _READ:
                headers.setdefault(header[0], []).append(header[1])
        if not headers:
            return None, None, None
        name = _user_header(headers.get(b"x-user-id", []))
        values = headers.get(b"authorization")
        if values is None:
            return None, session_cookie(request, headers.get(b"cookie", [])), name
        scheme, _, text = b", ".join(values).decode("latin-1").strip().partition(" ")
        text = text.strip()
        ours = scheme.lower() == "bearer" and (text.startswith(KEY_PREFIX) or self._tokens.issued(text))
        return text if ours else "", None, name

    async def _identify(self, presented: _Presented, scope: Scope, or_scope: Scope | None = None) -> Principal:
        caller = await self._recognize(presented)
        if caller is None:
            sent = (
                "what `Authorization` has is neither a key nor a token of this system; " if presented[0] == "" else ""
            )
            detail = f"{sent}send `Authorization: Bearer` with an API key or an access token, or sign in"
            raise OrchestraError(ErrorCode.UNAUTHORIZED, detail)
        if scope not in caller.scopes and or_scope not in caller.scopes:
            raise OrchestraError(ErrorCode.FORBIDDEN, f"this needs the scope `{scope}`")
        return caller

    async def _recognize(self, presented: _Presented) -> Principal | None:
        credentials, cookie, name = presented
        found: _Known | None = None
        if credentials:
            by_key = credentials.startswith(KEY_PREFIX)
            found = await (self._by_key(credentials) if by_key else self._by_token(credentials))
        elif cookie is not None:
            found = await self._by_cookie(cookie)
        if found is not None:
            return _in_the_name_of(name, *found)
        return None if self._asks else nameless(name or "")

    async def _by_key(self, text: str) -> _Known:
        id, secret_hash = read_key(text) or ("", _NO_HASH)
        key = await self._keys.get(id) if id else None
        genuine = hmac.compare_digest(secret_hash, key.secret_hash if key else _NO_HASH)
        found = self._of_key(key) if key is not None and genuine else None
        if found is None:
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        return found

    async def _by_token(self, text: str) -> _Known:
        session = self._tokens.read(text)
        found = await self._of_session(session) if session else None
        if found is None:
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        return found

    async def _by_cookie(self, text: str) -> _Known | None:
        """None for a cookie that is not valid: browsers send it until it expires."""
        web = self._tokens.read_session(text)
        if web is None:
            return None
        if isinstance(web.who, Session):
            found = await self._of_session(web.who)
        else:
            key = await self._keys.get(web.who)
            found = self._of_key(key) if key is not None else None
        return found and (replace(found[0], web=web), found[1])

    def _of_key(self, key: StoredKey) -> _Known | None:
        id, now = key.resource.id, datetime.now(UTC)
        if not _is_good(key, now):
            return None
        self._used[id] = now
        user_id, scopes = key.resource.user_id, _all_implied(key.resource.scopes)
        if user_id is None or key.role is None:
            return Principal(key.tenant, f"key:{key.resource.name}", scopes, key_id=id), None
        scopes &= OF_ROLE[key.role] | GRANTED.intersection(key.resource.scopes)
        return Principal(key.tenant, str(user_id), scopes, user_id=user_id, key_id=id), key.username

    async def _of_session(self, session: Session) -> _Known | None:
        user = await self._users.get(session.user_id)
        if user and user.password_set_at < session.password_set_at:
            # A new password, set and used on another gateway a moment ago.
            self._users.forget(session.user_id)
            user = await self._users.get(session.user_id)
        if not user or user.password_set_at != session.password_set_at:
            return None
        id, scopes = user.resource.id, OF_ROLE[user.resource.role]
        caller = Principal(user.tenant, str(id), scopes, session=session, user_id=id)
        return caller, user.resource.username


def _is_good(key: StoredKey, now: datetime) -> bool:
    expires_at = key.resource.expires_at
    return key.resource.revoked_at is None and (expires_at is None or expires_at > now)


def _all_implied(scopes: list[Scope]) -> frozenset[Scope]:
    return frozenset[Scope]().union(*(_IMPLIED[scope] for scope in scopes))


def _user_header(values: Sequence[bytes]) -> str | None:
    """The name in X-User-ID; None where there is none. Raises ``INVALID_REQUEST``."""
    if not any(value.strip() for value in values):
        return None
    try:
        name = values[0].decode("utf-8").strip()
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

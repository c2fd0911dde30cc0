"""The cookie of a browser's session: how it is set and found, and from whose pages it counts."""

from collections.abc import Sequence
from datetime import datetime

from fastapi import Request
from pydantic import SecretStr

from orchestra.http.client_address import forwarded_https
from schemas.errors import ErrorCode, OrchestraError

# Browsers accept a name with this prefix only over https, for this very host, so no neighbour can set it.
OVER_HTTPS, OVER_HTTP = "__Host-orchestra", "orchestra"
# Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# What browsers send with the calls of the gateway's own pages, and with those that the user starts themselves.
_OWN = frozenset({"same-origin", "none"})
_NOT_ANYMORE = "; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"


def set_cookie(request: Request, token: SecretStr, now: datetime, until: datetime) -> str:
    """The ``Set-Cookie`` that answers a call with this token."""
    seconds = int((until - now).total_seconds())
    flags = f"{token.get_secret_value()}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return f"{OVER_HTTPS}={flags}; Secure" if _over_https(request) else f"{OVER_HTTP}={flags}"


def unset_cookies() -> list[str]:
    """Each ``Set-Cookie`` that ends a session in a browser."""
    return [f"{OVER_HTTPS}={_NOT_ANYMORE}; Secure", f"{OVER_HTTP}={_NOT_ANYMORE}"]


def session_cookie(request: Request, cookies: Sequence[bytes]) -> str | None:
    """The token in a call's ``Cookie``; None without one, and for what a page of another origin reads.

    Raises ``CROSS_ORIGIN`` for any other call than one of the gateway's own pages.
    """
    token = _found(request, cookies) if cookies else None
    if token is None:
        return None
    if request.method in SAFE:
        return None if _from_own_page(request) is False else token
    check_own_page(request)
    return token


def check_own_page(request: Request) -> None:
    """Raises ``CROSS_ORIGIN`` unless a page of this gateway, or the user, made the call.

    The rule is that of Go's ``CrossOriginProtection``, except that a call without both headers is refused: a program
    can send ``Authorization``.
    """
    own = _from_own_page(request)
    if own is None:
        detail = "send `Sec-Fetch-Site` or `Origin`, as browsers do; programs send `Authorization` instead of a cookie"
        raise OrchestraError(ErrorCode.CROSS_ORIGIN, detail)
    if not own:
        raise OrchestraError(ErrorCode.CROSS_ORIGIN)


def _from_own_page(request: Request) -> bool | None:
    """Whether a page of this gateway made the call; None if the call does not show it."""
    if sites := request.headers.getlist("sec-fetch-site"):
        return _OWN.issuperset(sites)
    if origins := request.headers.getlist("origin"):
        scheme, _, host = origins[0].partition("://")
        return len(origins) == 1 and scheme in ("http", "https") and request.headers.getlist("host") == [host]
    return None


def _found(request: Request, cookies: Sequence[bytes]) -> str | None:
    found: dict[str, str] = {}
    for each in b";".join(cookies).decode("latin-1").split(";"):
        name, _, value = each.partition("=")
        found.setdefault(name.strip(), value.strip())
    # Over https a page of a neighbouring host could have set the other one.
    return found.get(OVER_HTTPS) or (None if _over_https(request) else found.get(OVER_HTTP)) or None


def _over_https(request: Request) -> bool:
    """Whether the browser called by https: its page says so, or a trusted proxy."""
    return request.headers.get("origin", "").startswith("https://") or forwarded_https(request.scope)

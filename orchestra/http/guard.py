"""The open-mode guard: a service that asks for no credentials answers no web page of somebody else's."""

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.errors import ErrorCode, OrchestraError

_Headers = Iterable[tuple[bytes, bytes]]
_LOOKED_AT = frozenset({b"host", b"origin", b"sec-fetch-site"})


class OpenModeGuard:
    """Refuses calls under a foreign host name (DNS rebinding) and calls that a foreign page made.

    Pages of ``origins`` are not foreign; with ``plain_names`` nor is a name without a dot, as containers and machines
    nearby have, and no page from elsewhere. ``answer`` makes the refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        answer: Callable[[OrchestraError], Response],
        origins: frozenset[str] = frozenset(),
        *,
        plain_names: bool = False,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._answer = answer
        self._origins = origins
        self._plain_names = plain_names
        self._passed: list[tuple[bytes, bytes]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, or answer 403."""
        if scope["type"] == "http":
            looked_at = [header for header in scope["headers"] if header[0] in _LOOKED_AT]
            # Nearly every call says the same as the one before it.
            if looked_at != self._passed:
                if reason := refusal(looked_at, self._hosts, self._origins, plain_names=self._plain_names):
                    answer = self._answer(OrchestraError(ErrorCode.FORBIDDEN, reason))
                    await answer(scope, receive, send)
                    return
                self._passed = looked_at
        await self._app(scope, receive, send)


def refusal(
    headers: _Headers, hosts: frozenset[str], origins: frozenset[str] = frozenset(), *, plain_names: bool = False
) -> str | None:
    """Why these headers are refused, or None."""
    named = [value.decode("latin-1") for name, value in headers if name == b"host"]
    host = host_name(f"//{named[0]}") if len(named) == 1 else None
    if host is None or not (host in hosts or (plain_names and not {".", ":"} & set(host))):
        return "the Host is neither local nor one of ALLOWED_HOSTS"
    foreign, listed = False, False
    for name, value in headers:
        text = value.decode("latin-1")
        if name == b"origin" and text in origins:
            listed = True
        elif name == b"origin" and host_name(text) not in hosts:
            return "the Origin is neither local nor one of ALLOWED_HOSTS or CORS_ORIGINS"
        elif name == b"sec-fetch-site" and text.strip().lower() == "cross-site":
            foreign = True
    return "calls from pages of other sites are refused" if foreign and not listed else None


def host_name(url: str) -> str | None:
    """The host of a URL in lower case, without port and brackets; None where there is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # Raises when it is none.
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname

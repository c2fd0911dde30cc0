"""The open-mode guard: a service without credentials answers no web page except its own.

A page on another port is foreign too: any program on this machine may serve one.
"""

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.errors import ErrorCode, OrchestraError

_Headers = Iterable[tuple[bytes, bytes]]
_LOOKED_AT = frozenset({b"host", b"origin", b"sec-fetch-site"})
# What browsers send for calls made by the service's own pages, and for calls made by no page.
_NOT_FOREIGN = frozenset({"same-origin", "none"})
# What they send when a user navigates to a page, outside a frame of another page.
_GOES_THERE = frozenset({(b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document")})
# Orchestrators and Prometheus call the processes of a service by their addresses. A page whose name was rebound (DNS
# rebinding) calls by that name, never by an address.
_BY_ADDRESS = frozenset({"/healthz", "/readyz", "/metrics"})


class OpenModeGuard:
    """Refuses calls under a foreign host name (DNS rebinding) and calls made by a page of another origin.

    Pages of ``origins`` may call. With ``plain_names`` a name without a dot, as containers and nearby machines have, is
    not foreign. Probes and metrics are also found by an address. A link from another port of this machine may be
    followed. ``answer`` builds the refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        answer: Callable[[OrchestraError, Scope], Response],
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
        """Pass the call on, or answer with 403."""
        if scope["type"] == "http":
            looked_at = [header for header in scope["headers"] if header[0] in _LOOKED_AT]
            # Nearly every call has the same headers as the one before it.
            if looked_at != self._passed:
                link = scope["method"] == "GET" and _GOES_THERE.issubset(scope["headers"])
                by_address = scope["path"] in _BY_ADDRESS
                if reason := refusal(
                    looked_at, self._hosts, self._origins,
                    plain_names=self._plain_names, by_address=by_address, link=link,
                ):  # fmt: skip
                    answer = self._answer(OrchestraError(ErrorCode.FORBIDDEN, reason), scope)
                    await answer(scope, receive, send)
                    return
                if not link and not by_address:
                    self._passed = looked_at
        await self._app(scope, receive, send)


def refusal(
    headers: _Headers,
    hosts: frozenset[str],
    origins: frozenset[str] = frozenset(),
    *,
    plain_names: bool = False,
    by_address: bool = False,
    link: bool = False,
) -> str | None:
    """Why these headers are refused, or None. ``link``: the user navigates there, with a GET.

    ``by_address``: any IP address may be called.
    """
    named = [value.decode("latin-1") for name, value in headers if name == b"host"]
    host = host_name(f"//{named[0]}") if len(named) == 1 else None
    plain = plain_names and host is not None and not {".", ":"} & set(host)
    if host is None or not (host in hosts or plain or (by_address and _is_address(host))):
        return "the Host is neither local nor one of ALLOWED_HOSTS"
    own = f"http://{named[0]}"  # The services themselves do not use TLS.
    foreign, listed = False, False
    for name, value in headers:
        text = value.decode("latin-1")
        if name == b"origin" and text in origins:
            listed = True
        elif name == b"origin" and text != own:
            return "the Origin is neither the one that was called nor one of CORS_ORIGINS"
        elif name == b"sec-fetch-site":
            site = text.strip().lower()
            foreign |= site not in _NOT_FOREIGN and not (link and site == "same-site")
    return "calls from pages of other origins are refused" if foreign and not listed else None


def host_name(url: str) -> str | None:
    """The host of a URL in lower case, without port and brackets; None if it has none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # Raises if it is invalid.
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

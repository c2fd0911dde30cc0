"""Promises of gateway/people/cookies.py: only pages of this gateway use the session of a browser."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from itertools import product

import pytest
from fastapi import Request
from pydantic import SecretStr

from gateway.people.cookies import OVER_HTTP, OVER_HTTPS, check_own_page, session_cookie, set_cookie, unset_cookies
from orchestra.http.client_address import CONNECTION, Connection, Proxies
from schemas.errors import ErrorCode, OrchestraError

Sent = Sequence[tuple[str, str]]
HOST, OTHER = "gateway.example:8080", "gateway.example:3000"
OWN, FOREIGN, UNKNOWN = "own", "foreign", "unknown"
# What a browser may send with a call: of which page it then is.
CALLS: list[tuple[Sent, str]] = [
    ([("sec-fetch-site", "same-origin"), ("origin", f"http://{HOST}")], OWN),
    ([("sec-fetch-site", "same-origin")], OWN),
    # As a page with `no-referrer` sends it, and as it is behind a proxy that changes the Host.
    ([("sec-fetch-site", "same-origin"), ("origin", "null")], OWN),
    ([("sec-fetch-site", "same-origin"), ("origin", "https://public.example")], OWN),
    ([("sec-fetch-site", "none")], OWN),
    ([("origin", f"http://{HOST}")], OWN),
    ([("origin", f"https://{HOST}")], OWN),
    ([("sec-fetch-site", "same-site"), ("origin", f"http://{OTHER}")], FOREIGN),
    ([("sec-fetch-site", "same-site")], FOREIGN),
    ([("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")], FOREIGN),
    ([("sec-fetch-site", "cross-site"), ("origin", f"http://{HOST}")], FOREIGN),
    ([("sec-fetch-site", "cross-site")], FOREIGN),
    ([("sec-fetch-site", "a-new-kind")], FOREIGN),
    ([("sec-fetch-site", "")], FOREIGN),
    ([("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], FOREIGN),
    ([("origin", f"http://{OTHER}")], FOREIGN),
    ([("origin", "http://gateway.example")], FOREIGN),
    ([("origin", "https://evil.example")], FOREIGN),
    ([("origin", f"http://{HOST}.evil.example")], FOREIGN),
    ([("origin", f"http://evil.example@{HOST}")], FOREIGN),
    ([("origin", f"chrome-extension://{HOST}")], FOREIGN),
    ([("origin", "null")], FOREIGN),
    ([("origin", "")], FOREIGN),
    ([("origin", f"http://{HOST}"), ("origin", f"http://{HOST}")], FOREIGN),
    ([], UNKNOWN),
]
SAFE, UNSAFE = ("GET", "HEAD", "OPTIONS"), ("POST", "PUT", "PATCH", "DELETE", "TRACE", "get")
NOW = datetime.now(UTC)
BOTH = "orchestra=token; __Host-orchestra=token"


def call(method: str, sent: Sent, cookie: str | None = BOTH, proxy: str | None = None) -> Request:
    """A call with these headers; with ``proxy`` from a trusted proxy, which reports this scheme."""
    headers = [("host", HOST), *sent, *([("cookie", cookie)] if cookie is not None else [])]
    scope = {"type": "http", "method": method, "client": ("127.0.0.1", 1)}
    if proxy is not None:
        headers.append(("x-forwarded-proto", proxy))
        scope[CONNECTION] = Connection(Proxies(["127.0.0.1"]))
    return Request({**scope, "headers": [(name.encode(), value.encode()) for name, value in headers]})


def used(request: Request) -> str | None:
    """The token that this call uses."""
    return session_cookie(request, [value for name, value in request.scope["headers"] if name == b"cookie"])


def refused(request: Request) -> bool:
    with pytest.raises(OrchestraError) as caught:
        used(request)
    return caught.value.code is ErrorCode.CROSS_ORIGIN


@pytest.mark.parametrize(("sent", "page"), CALLS, ids=str)
def test_whose_page_uses_a_session(sent: Sent, page: str) -> None:
    """A session changes something only for pages of the gateway, and others do not read with it either."""
    for method in SAFE:
        assert (None if page == FOREIGN else "token") == used(call(method, sent))
    for method in UNSAFE:
        if page == OWN:
            assert used(call(method, sent)) == "token"
        else:
            assert refused(call(method, sent))


@pytest.mark.parametrize(("sent", "page"), CALLS, ids=str)
def test_whose_page_signs_in(sent: Sent, page: str) -> None:
    """A page of another origin cannot sign a browser in or out, and a program is not taken for one."""
    if page == OWN:
        check_own_page(call("POST", sent, None))
    else:
        with pytest.raises(OrchestraError):
            check_own_page(call("POST", sent, None))


@pytest.mark.parametrize(
    "cookie", [None, "", "other=1; orchestra2=3", "orchestra", "orchestra=", "__Host-orchestra=", "=token", ";;"]
)
def test_without_a_session_nothing_is_refused(cookie: str | None) -> None:
    """A call without the cookie has no session, whatever page made it, and is judged elsewhere."""
    for (sent, _), method in product(CALLS, ("GET", "POST")):
        assert used(call(method, sent, cookie)) is None


@pytest.mark.parametrize(
    ("cookie", "plain", "over_https"),
    [
        ("orchestra=a", "a", None),
        ("__Host-orchestra=b", "b", "b"),
        ("orchestra=a; __Host-orchestra=b", "b", "b"),
        ("x=1;orchestra=a;y=2", "a", None),
        ("orchestra=a; orchestra=c", "a", None),
        ("Orchestra=a", None, None),
        ("__Host-orchestra=; orchestra=a", "a", None),
    ],
)
def test_which_cookie_counts(cookie: str, plain: str | None, over_https: str | None) -> None:
    """Over https only the cookie counts that no neighbouring host can set."""
    assert plain == used(call("GET", [], cookie))
    assert over_https == used(call("POST", [("origin", f"https://{HOST}")], cookie))
    assert over_https == used(call("GET", [], cookie, "https"))
    assert plain == used(call("GET", [], cookie, "http"))


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (call("POST", [("origin", f"http://{HOST}")]), OVER_HTTP),
        (call("POST", [("sec-fetch-site", "same-origin")]), OVER_HTTP),
        (call("POST", [("origin", f"https://{HOST}")]), OVER_HTTPS),
        (call("POST", [], proxy="https"), OVER_HTTPS),
        (call("POST", [], proxy="http"), OVER_HTTP),
        # From an address that is no trusted proxy.
        (call("POST", [("x-forwarded-proto", "https")]), OVER_HTTP),
    ],
)
def test_flags(request_: Request, name: str) -> None:
    """Scripts cannot read the cookie, other sites do not send it, and one that was set over https stays there."""
    header = set_cookie(request_, SecretStr("token"), NOW, NOW + timedelta(minutes=5))
    [(set_name, cookie)] = SimpleCookie(header).items()

    assert (name, "token") == (set_name, cookie.value)
    flags = {flag: value for flag, value in cookie.items() if value}
    secure = {"secure": True} if name == OVER_HTTPS else {}
    assert {"path": "/", "max-age": "300", "httponly": True, "samesite": "Strict", **secure} == flags


def test_both_cookies_are_unset() -> None:
    """Signing out removes the cookie under either name, with the flags without which a browser ignores it."""
    for header, name in zip(unset_cookies(), (OVER_HTTPS, OVER_HTTP), strict=True):
        [(found, cookie)] = SimpleCookie(header).items()
        assert (name, "", "0", "/", name == OVER_HTTPS) == (
            found, cookie.value, cookie["max-age"], cookie["path"], bool(cookie["secure"])
        )  # fmt: skip

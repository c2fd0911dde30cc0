from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from orchestra.http.guard import OpenModeGuard, host_name, refusal

HOSTS = frozenset({"127.0.0.1", "localhost", "::1", "orchestra.example"})
LOCAL = (b"host", b"localhost:8080")


async def nobody_reads() -> Message:
    raise AssertionError("the body is never read")


async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
    await Response(status_code=200)({"type": "http"}, nobody_reads, send)


GUARD = OpenModeGuard(app, HOSTS, lambda _error, _scope: Response(status_code=403))


async def guarded(
    guard: OpenModeGuard, method: str, headers: Iterable[tuple[bytes, bytes]], path: str = "/v1/messages"
) -> int:
    """The status of a call with these headers behind the guard."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"accept", b"*/*"), *headers]}
    await guard(scope, nobody_reads, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LocalHost:1",
        "127.0.0.1",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:8080",
        "orchestra.example",
    ],
)
def test_local_hosts(host: str) -> None:
    """The local names and ALLOWED_HOSTS are answered, on any port."""
    assert refusal([(b"host", host.encode())], HOSTS) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":8080",
        "evil.example",
        "localhost.evil.example",
        "evil.example/localhost",
        "localhost/evil",
        "localhost@evil.example",
        "evil@localhost",
        "localhost:80:80",
        "localhost:port",
        "localhost?x",
        "localhost#x",
        "localhost,evil.example",
        "localhost evil.example",
        "127.0.0.1.nip.example",
        "127.1",
        "2130706433",
        "0.0.0.0",
        "[::2]",
        "[::1",
        "::1",
        "sub.orchestra.example",
        "orchestra.example.",
    ],
)
def test_foreign_hosts(host: str) -> None:
    """Any other name is refused, as a page that rebinds its name to this machine would send it."""
    assert refusal([(b"host", host.encode())], HOSTS) is not None


def test_number_of_hosts() -> None:
    """A call says exactly one host."""
    assert refusal([], HOSTS) is not None
    assert refusal([LOCAL, (b"host", b"evil.example")], HOSTS) is not None


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("origin", "http://localhost:8080", False),
        ("origin", "http://localhost:3000", True),
        ("origin", "http://localhost", True),
        ("origin", "https://localhost:8080", True),
        ("origin", "http://127.0.0.1:8080", True),
        ("origin", "http://[::1]:8080", True),
        ("origin", "https://orchestra.example", True),
        ("origin", "http://evil.example", True),
        ("origin", "https://localhost.evil.example", True),
        ("origin", "http://localhost@evil.example", True),
        ("origin", "null", True),
        ("origin", "", True),
        ("origin", "file://", True),
        ("sec-fetch-site", "cross-site", True),
        ("sec-fetch-site", " Cross-Site ", True),
        ("sec-fetch-site", "same-origin", False),
        ("sec-fetch-site", "same-site", True),
        ("sec-fetch-site", "new-kind", True),
        ("sec-fetch-site", "", True),
        ("sec-fetch-site", "none", False),
    ],
)
def test_pages(name: str, value: str, refused: bool) -> None:
    """Calls that a page of another origin makes, be it of another port, are refused; those of no page are not."""
    assert (refusal([LOCAL, (name.encode(), value.encode())], HOSTS) is not None) is refused


@given(st.text(max_size=40))
def test_never_raises(text: str) -> None:
    """Whatever a header holds has a host or none, and it is a foreign one unless it is spelt out."""
    assert (
        host_name(f"//{text}") is None or host_name(f"//{text}") not in HOSTS or any(h in text.lower() for h in HOSTS)
    )


@pytest.mark.parametrize("first", [0, 1])
def test_listed_origins(first: int) -> None:
    """Pages of a listed origin may call across sites, exactly that origin's, under a name that is known."""
    origins = frozenset({"https://app.example"})

    def of_page(origin: bytes, host: bytes = b"localhost") -> str | None:
        two = [(b"origin", origin), (b"sec-fetch-site", b"cross-site")]
        return refusal([(b"host", host), *(two if first else reversed(two))], HOSTS, origins)

    assert of_page(b"https://app.example") is None
    for other in (b"http://app.example", b"https://app.example:8443", b"https://app.example.", b"https://xapp.example"):
        assert of_page(other) is not None
    assert of_page(b"https://app.example", host=b"evil.example") is not None
    assert refusal([LOCAL, (b"sec-fetch-site", b"cross-site")], HOSTS, origins) is not None
    twice = [LOCAL, (b"origin", b"https://app.example"), (b"origin", b"https://evil.example")]
    assert refusal(twice, HOSTS, origins) is not None
    same = [LOCAL, (b"origin", b"http://localhost:8080"), (b"sec-fetch-site", b"cross-site")]
    assert refusal(same, HOSTS, origins) is not None


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("llm_service:8082", False),
        ("llm", False),
        ("orchestra.example", False),
        ("evil.example", True),
        ("llm.", True),
        ("192.0.2.1", True),
        ("[::2]:8082", True),
        ("", True),
    ],
)
def test_plain_names(host: str, refused: bool) -> None:
    """Where they are let in, a name without a dot is, and nothing more; what pages send is refused all the same."""
    assert refused is (refusal([(b"host", host.encode())], HOSTS, plain_names=True) is not None)
    assert refusal([(b"host", b"llm"), (b"origin", b"http://evil.example")], HOSTS, plain_names=True) is not None


@pytest.mark.parametrize(
    ("method", "changed", "let_in"),
    [
        ("GET", {}, True),
        ("POST", {}, False),
        ("HEAD", {}, False),
        ("PUT", {"sec-fetch-mode": "cors"}, False),
        ("PATCH", {"sec-fetch-mode": "cors"}, False),
        ("DELETE", {"sec-fetch-mode": "cors"}, False),
        ("GET", {"sec-fetch-site": "cross-site"}, False),
        ("GET", {"sec-fetch-mode": "cors"}, False),
        ("GET", {"sec-fetch-mode": "no-cors"}, False),
        ("GET", {"sec-fetch-dest": "iframe"}, False),
        ("GET", {"origin": "http://localhost:9999"}, False),
        ("GET", {"host": "evil.example"}, False),
    ],
)
async def test_links(method: str, changed: dict[str, str], let_in: bool) -> None:
    """A browser that follows a link of another local page arrives, but that page cannot frame, send to or read ours."""
    link = {"host": "localhost:8080", "sec-fetch-site": "same-site", "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document", **changed}  # fmt: skip
    headers = [(name.encode(), value.encode()) for name, value in link.items()]

    # Whatever came before it.
    for before in ("GET", method):
        await guarded(GUARD, before, [LOCAL])
        assert (200 if let_in else 403) == await guarded(GUARD, method, headers)
    assert 403 == await guarded(GUARD, "POST", headers)


async def test_every_call_is_judged_by_itself() -> None:
    """What passed before, or did not, lets no other call pass and keeps none out."""

    async def status(*headers: tuple[bytes, bytes]) -> int:
        return await guarded(GUARD, "POST", headers)

    foreign, local_page = (b"host", b"evil.example"), (b"origin", b"http://localhost:8080")
    cross = (b"sec-fetch-site", b"cross-site")
    refused = [(), (foreign,), (LOCAL, foreign), (LOCAL, LOCAL), (LOCAL, cross), (LOCAL, local_page, cross)]
    for headers in refused:
        assert await status(*headers) == 403
        for passed in ((LOCAL,), (LOCAL, local_page)):
            assert (200, 200, 403) == (await status(*passed), await status(*passed), await status(*headers))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("host", ["192.0.2.1:8080", "[2001:db8::1]:8080"])
async def test_probes_and_scrapers_call_by_address(path: str, host: str) -> None:
    """Health and metrics are found by any address, by no foreign name and for no page, and nothing else is."""
    called = (b"host", host.encode())

    assert 200 == await guarded(GUARD, "GET", [called], path)
    assert 403 == await guarded(GUARD, "GET", [called])
    assert 403 == await guarded(GUARD, "GET", [(b"host", b"evil.example")], path)
    assert 403 == await guarded(GUARD, "GET", [called, (b"origin", b"http://evil.example")], path)
    assert 403 == await guarded(GUARD, "GET", [called, (b"sec-fetch-site", b"cross-site")], path)

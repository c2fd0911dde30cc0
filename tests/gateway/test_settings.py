from typing import Any

import pytest
from pydantic import ValidationError

from gateway.quotas import quota_of_owner, quota_of_tenant
from gateway.settings import PUBLISHED_SECRET, GatewaySettings

SECRET = {"orchestra_secret": "x" * 32}


def make(**settings: Any) -> GatewaySettings:
    return GatewaySettings.model_validate({**SECRET, **settings})


def test_hosts() -> None:
    """The hosts by which the gateway may be called are the local ones and those of ALLOWED_HOSTS."""
    local = {"127.0.0.1", "localhost", "::1"}
    assert make().hosts == local
    assert make(allowed_hosts=" Orchestra.Example , [fe80::1],,").hosts == local | {"orchestra.example", "fe80::1"}


@pytest.mark.parametrize(
    "settings",
    [{"host": "0.0.0.0"}, {"host": "example.org", "open_mode": False}, {"open_mode": False}, {"host": "127.0.0.2"}],
)
def test_not_open_by_accident(settings: dict[str, Any]) -> None:
    """A gateway on a public address is open only if OPEN_MODE says so."""
    assert make(**settings).asks_credentials


@pytest.mark.parametrize("settings", [{}, {"host": "::1"}, {"host": "0.0.0.0", "open_mode": True}])
def test_open(settings: dict[str, Any]) -> None:
    """On loopback, or with OPEN_MODE, it is open."""
    assert not make(**settings).asks_credentials


@pytest.mark.parametrize("name", ["orchestra_secret", "orchestra_secret_old"])
def test_a_published_secret_protects_nothing(name: str) -> None:
    """Where credentials are required, the secret that everyone knows is refused, also as the old one."""
    assert make(**{name: PUBLISHED_SECRET}).secrets
    with pytest.raises(ValidationError, match="publishes"):
        make(**{name: PUBLISHED_SECRET, "open_mode": False})


@pytest.mark.parametrize(
    "listed",
    [
        "https://app.example",
        "http://localhost:3000",
        " https://a.example , http://[::1]:8080,,",
        "capacitor://localhost",
    ],
)
def test_origins(listed: str) -> None:
    """Pages of the listed origins may call, each as a browser would send it; without the setting none may."""
    assert make(cors_origins=listed).origins == {each.strip() for each in listed.split(",")} - {""}
    assert make().origins == frozenset()


@pytest.mark.parametrize(
    "listed",
    [
        "*", "https://*.example", "app.example", "//app.example", "https://app.example/", "https://app.example/path",
        "https://app.example?x", "https://App.example", "HTTPS://app.example", "https://user@app.example", "null",
        "https://app.example:443", "http://app.example:80", "https://app.example:x", "https://", "file://",
        "https://app.example:99999", "http://app.example:0", "https://app.example:080", "https://app.example:",
        "http://1.2.3.999", "http://1.2.3", "http://[::g]", "http://[0:0::1]", "https://a..b", "https://.",
        "capacitor://localhost:99999", "capacitor://localhost/", "https://xn--a",
        "https://good.example,bad", "https://bad.example https://good.example", "https://bücher.example",
    ],
)  # fmt: skip
def test_what_is_no_origin(listed: str) -> None:
    """What no browser would send as an origin is refused, so that no list allows less, or more, than it seems to."""
    with pytest.raises(ValidationError, match="as browsers send them"):
        make(cors_origins=listed)


@pytest.mark.parametrize(
    "listed", ["https://app.example", "app.example:8080", "*.example", "app.example/x", "[::g]", "a b", "ok,::1:x"]
)
def test_what_is_no_host(listed: str) -> None:
    """A name that no call could have as its host is refused, for it would allow nothing without a word."""
    with pytest.raises(ValidationError, match="host names or addresses"):
        make(allowed_hosts=listed)


@pytest.mark.parametrize(
    ("settings", "most"),
    [({}, 9), ({"open_mode": False}, 5), ({"max_priority": 3}, 3), ({"open_mode": False, "max_priority": 9}, 9)],
)
def test_most_priority(settings: dict[str, Any], most: int) -> None:
    """In open mode any priority is allowed; otherwise none above the default."""
    assert make(**settings).priority_limit == most


def test_quotas() -> None:
    """A tenant may have nine tenths of the requests at which all intake pauses."""
    made = make(max_open_requests=1000, max_open_by_owner=50, max_stored_mib_by_owner=2)
    assert (quota_of_owner(made).open_turns, quota_of_owner(made).stored_bytes) == (50, 2 * 2**20)
    assert quota_of_tenant(made).open_turns == 900

"""Promises of orchestra/http/client_address.py: whose word on a caller's address counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.http.client_address import (
    CONNECTION,
    Connection,
    Proxies,
    client_address,
    forwarded_https,
    network_of,
)


def scope(peer: str | None, *forwarded: str, trusted: tuple[str, ...] = ()) -> dict[str, object]:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    client = None if peer is None else (peer, 50000)
    return {"client": client, "headers": headers, CONNECTION: Connection(Proxies(trusted))}


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("192.0.2.1", (), (), "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), (), "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), ("203.0.113.0/24",), "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), ("192.0.2.1",), "198.51.100.7"),
        ("192.0.2.1", ("10.9.9.9, 198.51.100.7",), ("192.0.2.1",), "198.51.100.7"),
        ("192.0.2.1", ("10.9.9.9", "198.51.100.7"), ("192.0.2.1",), "198.51.100.7"),
        ("192.0.2.1", ("198.51.100.7, 192.0.2.2",), ("192.0.2.0/24",), "198.51.100.7"),
        ("192.0.2.1", ("198.51.100.7 , 192.0.2.2 ",), ("192.0.2.0/24",), "198.51.100.7"),
        ("192.0.2.1", ("192.0.2.3, 192.0.2.2",), ("192.0.2.0/24",), "192.0.2.3"),
        ("192.0.2.1", ("198.51.100.7, unknown",), ("192.0.2.1",), "192.0.2.1"),
        ("192.0.2.1", ("",), ("192.0.2.1",), "192.0.2.1"),
        ("::ffff:192.0.2.1", ("2001:DB8::7",), ("192.0.2.1",), "2001:db8::7"),
        (None, ("198.51.100.7",), ("192.0.2.1",), ""),
    ],
)
def test_whose_word_counts(
    peer: str | None, forwarded: tuple[str, ...], trusted: tuple[str, ...], expected: str
) -> None:
    """The peer's own address, or what the outermost trusted proxy saw; never what a caller says of itself."""
    assert expected == client_address(scope(peer, *forwarded, trusted=trusted))


def test_a_scope_of_another_server_trusts_nobody() -> None:
    """Without a connection of ours in it the peer is the caller."""
    assert "192.0.2.1" == client_address({"client": ("192.0.2.1", 1), "headers": [(b"x-forwarded-for", b"10.0.0.1")]})


@given(st.lists(st.text(alphabet=st.characters(max_codepoint=255)), max_size=3))
def test_never_raises(values: list[str]) -> None:
    """Whatever the header holds, the caller has some address."""
    assert client_address(scope("192.0.2.1", *values, trusted=("192.0.2.1",)))


def test_one_machine_of_the_newer_kind_counts_once() -> None:
    """All IPv6 addresses of one machine's network count as one; IPv4 addresses are distinct."""
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::9") != network_of("2001:db8:1:3::1")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("::ffff:192.0.2.1") != network_of("::ffff:192.0.2.2")


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0-10.0.0.9"])
def test_what_is_no_network_is_refused(text: str) -> None:
    """A setting that could never match anything is an error."""
    with pytest.raises(ValueError, match=r"does not appear|has host bits"):
        Proxies([text])


@pytest.mark.parametrize(
    ("peer", "proto", "trusted", "expected"),
    [
        ("192.0.2.1", ("https",), ("192.0.2.1",), True),
        ("192.0.2.1", (" HTTPS , http",), ("192.0.2.0/24",), True),
        ("192.0.2.1", ("https", "http"), ("192.0.2.1",), True),
        ("192.0.2.1", ("http",), ("192.0.2.1",), False),
        ("192.0.2.1", ("http, https",), ("192.0.2.1",), False),
        ("192.0.2.1", ("",), ("192.0.2.1",), False),
        ("192.0.2.1", (), ("192.0.2.1",), False),
        ("192.0.2.1", ("https",), (), False),
        ("192.0.2.1", ("https",), ("198.51.100.7",), False),
        (None, ("https",), ("192.0.2.1",), False),
    ],
)
def test_whose_word_on_https_counts(
    peer: str | None, proto: tuple[str, ...], trusted: tuple[str, ...], expected: bool
) -> None:
    """Only a trusted proxy says that its client called by https."""
    given = scope(peer, trusted=trusted)
    given["headers"] = [(b"x-forwarded-proto", value.encode()) for value in proto]
    assert expected is forwarded_https(given)

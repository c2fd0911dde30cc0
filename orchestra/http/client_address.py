"""The address of a client: its peer address, or what a trusted proxy reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

# Key of a call's scope that holds its connection.
CONNECTION = "orchestra.connection"

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network


class Proxies:
    """The proxies whose ``X-Forwarded-For`` is trusted."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        """Raises ``ValueError`` for a text that is neither an address nor a network."""
        self._networks: list[_Network] = [ip_network(each) for each in networks]

    def __contains__(self, address: str) -> bool:
        """True for the address of a trusted proxy."""
        read = _read(address) if self._networks else None
        return read is not None and any(read in network for network in self._networks)


@dataclass(slots=True)
class Connection:
    """State shared by the calls of one connection. ``known``: one of them showed the service's token."""

    proxies: Proxies
    known: bool = False


_UNBOUND = Connection(Proxies())


def client_address(scope: Mapping[str, Any]) -> str:
    """The address of the client, as text; empty if unknown.

    Behind trusted proxies it is the address that the outermost one saw. Earlier entries of the header are ignored.
    """
    address: str = scope["client"][0] if scope.get("client") else ""
    proxies = scope.get(CONNECTION, _UNBOUND).proxies
    if address not in proxies:
        return address
    named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
    while named:
        named, _, last = named.rpartition(",")
        read = _read(last.strip())
        if read is None:
            break
        address = str(read)
        if address not in proxies:
            break
    return address


def forwarded_https(scope: Mapping[str, Any]) -> bool:
    """True if a trusted proxy reports, in ``X-Forwarded-Proto``, that the client called by https."""
    if not scope.get("client") or scope["client"][0] not in scope.get(CONNECTION, _UNBOUND).proxies:
        return False
    named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-proto")
    return named.partition(b",")[0].strip().lower() == b"https"


def showed_token(scope: Mapping[str, Any]) -> None:
    """Mark the connection as one that showed the service's token: it no longer counts as half-open."""
    if connection := scope.get(CONNECTION):
        connection.known = True


def network_of(address: str) -> str:
    """The address; for IPv6 the /64 network, which one machine has for itself."""
    read = _read(address)
    if isinstance(read, IPv6Address):
        return str(IPv6Network((int(read), 64), strict=False))
    return str(read) if read else address


def _read(text: str) -> _Address | None:
    try:
        read = ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 addresses as mapped IPv6 addresses.
    return (read.ipv4_mapped or read) if isinstance(read, IPv6Address) else read

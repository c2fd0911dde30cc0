"""Addresses in settings and options: those that can never be valid are refused before they are used."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

# A DNS name in lower case, or an IPv4 address.
HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


def split_url(text: str) -> SplitResult | None:
    """The parts of a URL, or of an address after ``//``; None if its host or port is invalid."""
    try:
        parts = urlsplit(text)
        # Encoded as a resolver does: an empty label, or one of more than 63 letters, raises there.
        (parts.hostname or "").encode("idna")
        # The port is parsed lazily, so an error shows only here.
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def is_http_url(text: str) -> bool:
    """True for an http or https URL with a host."""
    parts = split_url(text)
    return parts is not None and parts.scheme in {"http", "https"} and bool(parts.hostname)


def is_host_and_port(text: str) -> bool:
    """True for ``host:port`` or a host alone. An IPv6 address without a port may omit the brackets."""
    parts = split_url(f"//{text}")
    named = parts is not None and parts.netloc == text and bool(parts.hostname)
    return is_ipv6(text) or (named and "@" not in text and not text.endswith(":"))


def is_ipv6(text: str) -> bool:
    """True for an IPv6 address without brackets."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True

"""Readiness checks of parts."""

import math
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx


def answers(url: str) -> Callable[[], Awaitable[bool]]:
    """A readiness check: ``GET url`` returns 200."""
    # Plain HTTP: loading all certificate authorities each time would cost more than the check.
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def check() -> bool:
        # Loopback only: a proxy from the environment would answer instead of the part.
        async with httpx.AsyncClient(trust_env=False, verify=no_tls, timeout=3) as client:
            try:
                return (await client.get(url)).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

    return check


def exists(path: Path, seconds: float = math.inf) -> Callable[[], Awaitable[bool]]:
    """A readiness check: the part has created this file, or touched it, within the last ``seconds``."""

    async def check() -> bool:
        try:
            return time.time() - path.stat().st_mtime < seconds
        except FileNotFoundError:
            return False

    return check

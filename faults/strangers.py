"""Strangers at a gateway: connections that never send a request, heads that are long or costly to parse."""

import asyncio
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit
from uuid import uuid4

from faults.injected import Injected
from orchestra.http.server import MAX_HALF_OPEN, MAX_HEAD_BYTES, MAX_HEAD_LINES

REFUSED = "connection_refused"
# More than may be half-open, so that some are refused because of their number and some because of their age.
_HALF_OPEN = MAX_HALF_OPEN + 44
_HEADS_AT_ONCE = 2
_PAUSE_SECONDS = 0.05
_GET = "GET /v1/requests/{id} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
_REFUSALS = frozenset({408, 429, 431})
# Each fills a head: parsing it in quadratic time would take minutes.
_UNITS = ('"\\', ",", '"",', 'a;"\\",', "a=", "wait=9", "\\", ' "', "=;")


def _half_open(_key: str) -> bytes:
    head = _GET.format(id=uuid4())
    return head[: random.randrange(1, len(head))].encode()


def _long(_key: str) -> bytes:
    return f"{_GET.format(id=uuid4())}X-Long: {'a' * MAX_HEAD_BYTES}\r\n\r\n".encode()


def _many_lines(_key: str) -> bytes:
    return (_GET.format(id=uuid4()) + "X-Line: 1\r\n" * MAX_HEAD_LINES + "\r\n").encode()


def _prefer(key: str) -> bytes:
    unit = random.choice(_UNITS)
    value = unit * ((MAX_HEAD_BYTES - 1024) // len(unit))
    return f"{_GET.format(id=uuid4())}Authorization: Bearer {key}\r\nPrefer: {value}\r\n\r\n".encode()


HEADS: Mapping[str, Callable[[str], bytes]] = MappingProxyType(
    {"half-open": _half_open, "long head": _long, "many lines": _many_lines, "costly Prefer": _prefer}
)


async def besiege(url: str, key: str, done: Injected) -> None:
    """Connect again and again, hundreds at a time, until cancelled. ``done`` counts connections by outcome.

    ``key``: a valid one, for heads that are read to their end.
    """
    async with asyncio.TaskGroup() as tasks:
        for kind in HEADS:
            for _ in range(_HALF_OPEN if kind == "half-open" else _HEADS_AT_ONCE):
                tasks.create_task(_again_and_again(url, kind, key, done))


async def _again_and_again(url: str, kind: str, key: str, done: Injected) -> None:
    while True:
        status = await _call(url, HEADS[kind](key))
        done.note()
        done.counts[f"{kind}: {status or 'closed'}"] += 1
        done.counts[REFUSED] += status in _REFUSALS
        await asyncio.sleep(_PAUSE_SECONDS)


async def _call(url: str, head: bytes) -> int:
    """Send this and wait for the answer: its status, 0 if the connection was closed without one."""
    where = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
    except OSError:
        return 0
    try:
        writer.write(head)
        return int((await reader.readuntil(b"\r\n")).split()[1])
    except (OSError, asyncio.IncompleteReadError):
        return 0
    finally:
        writer.close()

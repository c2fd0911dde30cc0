"""Attacks beside which others must be answered, in a separate process: ``python -m benchmarks.neighbours.attacks``.

It reads the fields of ``Target`` from stdin, prints a line when it begins, and goes on until it is ended.
"""

import asyncio
import itertools
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.load import tell
from faults.bombs import MAX_BYTES, bomb
from orchestra.process import allow_many_connections
from schemas.topics import MAX_MESSAGE_BYTES, REQUESTS

MIB = 1 << 20
_LONG_HEADER, _HALF_OPEN, _LISTS = 150 * MIB, 2000, 24
# Not the address of the neighbours: connections are limited by address.
_FROM = ("127.0.0.2", 0)
# After a connection that was closed or answered, and after a bomb; after one of many connections that was refused.
_PAUSE_SECONDS, _MANY_PAUSE_SECONDS = 0.05, 1.0
# Each fills what it is in: reading it in quadratic time would take minutes.
_UNITS = ('"\\', ",", '"",', 'a;"\\",', "a=", "wait=9", "\\", ' "', "=;", "[", '{"a":', "%41", "9", " ")
_HEADERS = (
    "Accept", "Authorization", "Cookie", "Idempotency-Key", "Last-Event-ID", "Prefer", "Range", "traceparent",
)  # fmt: skip
_COSTLY_BYTES, _COSTLY_AT_ONCE = 63 * 1024, 4


@dataclass(frozen=True)
class Target:
    """What is attacked, by a caller with this key."""

    attack: str
    urls: list[str]
    bootstrap: str
    key: str


async def long_header(target: Target) -> None:
    """At each gateway, a header of 150 MiB."""
    piece = b"a" * MIB
    _begin()

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ")
        for _ in range(_LONG_HEADER // MIB):
            writer.write(piece)
            await writer.drain()

    await asyncio.gather(*(_connections(url, 1, send) for url in target.urls))


async def half_open(target: Target) -> None:
    """At each gateway, as many connections that never finish their head."""
    _begin()

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127")

    await asyncio.gather(
        *(_connections(url, _HALF_OPEN // len(target.urls), send, _MANY_PAUSE_SECONDS) for url in target.urls)
    )


async def costly_input(target: Target) -> None:
    """Headers and bodies of 64 KiB that are costly to parse."""
    _begin()

    async def send(writer: asyncio.StreamWriter) -> None:
        unit = random.choice(_UNITS)
        value = unit * (_COSTLY_BYTES // len(unit))
        header, body = random.choice([(random.choice(_HEADERS), ""), ("X-None", value)])
        head = f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        key = "" if header == "Authorization" else f"Authorization: Bearer {target.key}\r\n"
        writer.write(f"{head}{key}{header}: {'' if body else value}\r\n\r\n{body}".encode())

    await asyncio.gather(*(_connections(url, _COSTLY_AT_ONCE, send) for url in target.urls))


async def bombs(target: Target) -> None:
    """Records of each codec that unpack to as much as fits into one, up to 800 MiB."""
    async with AIOKafkaProducer(bootstrap_servers=target.bootstrap, max_request_size=MAX_MESSAGE_BYTES) as producer:
        for codec, size in MAX_BYTES.items():  # Built beforehand: that takes seconds.
            bomb(codec, size)
        _begin()
        for codec in itertools.cycle(MAX_BYTES):
            partition = random.randrange(REQUESTS.partitions)
            await (await producer.send_batch(bomb(codec, MAX_BYTES[codec]), REQUESTS.name, partition=partition))
            await asyncio.sleep(_PAUSE_SECONDS)


async def lists(target: Target) -> None:
    """24 list calls at a time, for what matches nothing."""
    headers, path = {"Authorization": f"Bearer {target.key}"}, "/v1/requests?attempts_min=1000&limit=100"

    async def call(session: aiohttp.ClientSession, url: str) -> None:
        while True:
            async with session.get(f"{url}{path}", headers=headers) as response:
                await response.read()

    async with aiohttp.ClientSession() as session:
        _begin()
        await asyncio.gather(*(call(session, url) for _, url in zip(range(_LISTS), itertools.cycle(target.urls))))


ATTACKS: Mapping[str, Callable[[Target], Coroutine[Any, Any, None]]] = MappingProxyType(
    {each.__name__.replace("_", " "): each for each in (long_header, half_open, costly_input, bombs, lists)}
)


def _begin() -> None:
    tell({"phase": "attacking"})


async def _connections(
    url: str, count: int, send: Callable[[asyncio.StreamWriter], Awaitable[None]], pause: float = _PAUSE_SECONDS
) -> None:
    """Keep this many connections that send this; one that the server closes or answers is made again after a pause."""
    await asyncio.gather(*(_again_and_again(url, send, pause) for _ in range(count)))


async def _again_and_again(url: str, send: Callable[[asyncio.StreamWriter], Awaitable[None]], pause: float) -> None:
    where = urlsplit(url)
    while True:
        await asyncio.sleep(pause)
        try:
            reader, writer = await asyncio.open_connection(where.hostname, where.port, local_addr=_FROM)
        except OSError:
            continue
        try:
            await send(writer)
            await reader.read(1)
        except OSError:
            pass
        finally:
            writer.close()


def main() -> None:
    """Attack the target on stdin."""
    target = Target(**orjson.loads(sys.stdin.buffer.read()))
    allow_many_connections()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ATTACKS[target.attack](target))


if __name__ == "__main__":
    main()

"""What every home of files promises, to be checked with each of them."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from orchestra.files import marker
from orchestra.files.home import BlobMissingError, FileHome, FilesUnavailableError, Stored, new_key

SECRETS = [b"s" * 32]
MIB = 1024 * 1024


class StoppedError(Exception):
    """What a source of chunks raises."""


async def chunks_of(data: bytes, *, then: Exception | None = None) -> AsyncIterator[bytes]:
    """The data in chunks as an upload has them; then an error."""
    for at in range(0, len(data), MIB):
        yield data[at : at + MIB]
    if then:
        raise then


async def read(home: FileHome, key: str, start: int = 0, stop: int | None = None) -> bytes:
    """A blob, or a part of it; no chunk is longer than promised."""
    found = [chunk async for chunk in home.get(key, start, stop)]
    assert all(0 < len(chunk) <= MIB for chunk in found)
    return b"".join(found)


async def keys_of(home: FileHome) -> set[str]:
    """The keys of all blobs."""
    return {blob.key async for batch in home.blobs() for blob in batch}


async def check_round_trip(home: FileHome, size: int) -> None:
    """What is put can be read, whole and in parts, and is gone when it is deleted, however often."""
    data, key = os.urandom(size), new_key()

    stored = await home.put(key, chunks_of(data))

    assert Stored(size, hashlib.sha256(data).hexdigest()) == stored
    assert data == await read(home, key)
    for start, stop in ((0, 1), (size - 1, size), (size // 3, size // 2), (size // 2, None)):
        assert data[start:stop] == await read(home, key, start, stop)
    assert {key} == await keys_of(home)
    for _ in range(2):
        await home.delete([key, new_key()])
    assert set() == await keys_of(home)
    with pytest.raises(BlobMissingError):
        await read(home, key)


async def check_broken_put(home: FileHome) -> None:
    """A source that fails leaves nothing, and its own error comes through."""
    key = new_key()
    with pytest.raises(StoppedError):
        await home.put(key, chunks_of(os.urandom(12 * MIB), then=StoppedError()))

    assert set() == await keys_of(home)
    with pytest.raises(BlobMissingError):
        await read(home, key, 0, 1)


async def check_cancelled_put(home: FileHome) -> None:
    """A put that is cancelled while it waits for its source, as when a gateway stops, leaves nothing."""
    waiting = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in chunks_of(os.urandom(12 * MIB)):
            yield chunk
        waiting.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(home.put(new_key(), chunks()))
    await waiting.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting

    assert set() == await keys_of(home)


async def check_marker(home: FileHome) -> None:
    """A home belongs to the deployment that marked it first, also after a change of secret, and is no blob."""
    old, new = SECRETS[0], b"n" * 32
    with pytest.raises(FilesUnavailableError):
        await home.check()

    await marker.claim(home, [old])
    await home.check()
    assert await marker.belongs(home, [old])
    with pytest.raises(marker.ForeignHomeError):
        await marker.claim(home, [new])
    await marker.claim(home, [new, old])

    assert await marker.belongs(home, [new])
    assert not await marker.belongs(home, [old])
    assert set() == await keys_of(home)


async def check_away(home: FileHome) -> None:
    """Each call of a home that is away says so."""
    for call in (
        home.check(),
        home.read_marker(),
        home.put(new_key(), chunks_of(b"x")),
        anext(home.get(new_key(), 0, 1)),
        home.delete([new_key()]),
        anext(home.blobs()),
    ):
        with pytest.raises(FilesUnavailableError):
            await call
        with suppress(AttributeError):
            call.close()

import gzip
import zlib
from itertools import pairwise
from unittest.mock import AsyncMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.providers.connection import Read, readable
from schemas.errors import ErrorCode, OrchestraError


def _read(encoding: str, *chunks: bytes) -> Read:
    """What is read of an answer that comes in these chunks."""
    return readable({"content-encoding": encoding}, AsyncMock(side_effect=[*chunks, b"", b""]))


async def _all(read: Read) -> list[bytes]:
    found = []
    while chunk := await read():
        found.append(chunk)
    return found


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "identity"}, {"content-encoding": ""}])
async def test_what_is_not_packed_is_read_as_it_comes(headers: dict[str, str]) -> None:
    """A body that is not compressed is read directly."""
    read = AsyncMock()

    assert readable(headers, read) is read


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.lists(st.integers(0, 300)))
async def test_a_packed_answer_is_unpacked_however_it_is_cut(texts: list[bytes], cuts: list[int]) -> None:
    """Also where it is several packed texts, one behind another."""
    packed = b"".join(map(gzip.compress, texts))
    places = [0, *sorted(cuts), len(packed)]
    chunks = [chunk for start, end in pairwise(places) if (chunk := packed[start:end])]

    assert b"".join(await _all(_read("gzip", *chunks))) == b"".join(texts)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "deflate"])
async def test_little_is_unpacked_at_a_time(encoding: str) -> None:
    """A reader can stop early, however much a small answer unpacks to."""
    bomb = (zlib.compress if encoding == "deflate" else gzip.compress)(b"x" * 10_000_000)

    sizes = [len(chunk) for chunk in await _all(_read(encoding, bomb))]

    assert sum(sizes) == 10_000_000
    assert max(sizes) <= 64 * 1024


@pytest.mark.parametrize(("encoding", "body"), [("br", b"x"), ("gzip, br", b"x"), ("gzip", b"xx"), ("deflate", b"xx")])
async def test_what_cannot_be_unpacked_is_refused(encoding: str, body: bytes) -> None:
    """By its name in the closed list."""
    with pytest.raises(OrchestraError) as refused:
        await _all(_read(encoding, body))

    assert refused.value.code == ErrorCode.BAD_UPSTREAM


async def test_what_came_of_a_packed_answer_that_broke_off_is_read() -> None:
    """The end mark of an answer itself shows whether the answer is whole."""
    pack = zlib.compressobj(wbits=31)
    begun = pack.compress(b"begun") + pack.flush(zlib.Z_SYNC_FLUSH)

    assert await _all(_read("gzip", begun)) == [b"begun"]

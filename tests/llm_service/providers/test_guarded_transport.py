import asyncio

import httpx
import pytest

from llm_service.providers.connection import UpstreamLimits
from llm_service.providers.guarded_transport import GuardedTransport
from schemas.errors import ErrorCode, OrchestraError


async def test_an_answer_that_was_packed_in_an_unknown_way_is_refused() -> None:
    """The library never sees bytes that it would unpack by itself, without a limit."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with httpx.AsyncClient(transport=GuardedTransport(url, UpstreamLimits())) as client:
            with pytest.raises(OrchestraError) as refused:
                await client.get(url)

    assert refused.value.code == ErrorCode.BAD_UPSTREAM

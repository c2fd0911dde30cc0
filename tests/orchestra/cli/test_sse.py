"""Promises of orchestra/cli/sse.py: a gateway's events, however their bytes come."""

from collections.abc import AsyncIterator

import httpx
import pytest

from orchestra.cli.sse import ParsedEvent, read_events


async def read(document: bytes, size: int) -> list[ParsedEvent]:
    """The events of a stream that comes in reads of this size, those without a name left out."""

    async def body() -> AsyncIterator[bytes]:
        for at in range(0, len(document), size):
            yield document[at : at + size]

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, content=body()))
    ) as client:
        response = await client.get("http://gateway")
        return [event async for event in read_events(response) if event.name]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029b", "a\x85b", "\N{FOX FACE}"])
async def test_any_text_comes_through(text: str, size: int) -> None:
    """Separators of lines and paragraphs in a reply end no line of the stream."""
    document = f'id: 1.3\nevent: delta\ndata: {{"text":"{text}"}}\n\n'.encode()

    assert [ParsedEvent("delta", {"text": text}, "1.3")] == await read(document, size)


async def test_a_comment_is_a_sign_of_life() -> None:
    """What only keeps a stream open is an event without a name."""
    response = httpx.Response(200, content=b": still here\n\n")

    assert [ParsedEvent("", {}, None)] == [event async for event in read_events(response)]


async def test_data_that_is_not_json_is_a_value_error() -> None:
    """A stream that is not a gateway's is distinguished from one that broke."""
    with pytest.raises(ValueError, match="Expecting value"):
        await read(b"data: nonsense\n\n", 1000)

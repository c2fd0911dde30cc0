"""Reads a gateway's events from an HTTP response."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from orchestra.http.event_stream import EventStream

# A reply has at most 4 Mi characters, and each takes up to six bytes as JSON.
_MAX_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class ParsedEvent:
    """One event; ``id`` is None until the stream has sent one."""

    name: str
    data: dict[str, Any]
    id: str | None


async def read_events(response: httpx.Response) -> AsyncIterator[ParsedEvent]:
    """The events of an open stream as they arrive. Bytes that end no event, such as comments, yield one without a name.

    Raises ``ValueError`` for data that is not JSON and for an event that is too long.
    """
    stream = EventStream(_MAX_BYTES)
    async for chunk in response.aiter_bytes():
        events = stream.feed(chunk)
        for event in events:
            yield ParsedEvent(event.name, json.loads(event.data), event.id or None)
        if not events:
            yield ParsedEvent("", {}, None)

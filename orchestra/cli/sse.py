"""A gateway's events out of an HTTP answer."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from orchestra.http.event_stream import EventStream

# A reply has at most 4 Mi characters, and JSON may take six bytes for each.
_MOST_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Event:
    """One event; ``id`` is None while the stream has named none."""

    name: str
    data: dict[str, Any]
    id: str | None


async def read_events(response: httpx.Response) -> AsyncIterator[Event]:
    """The events of an open stream, as they come. Bytes that finish none, as comments do, are one without a name.

    Raises ``ValueError`` for data that is not JSON, and for an event that is too long.
    """
    stream = EventStream(_MOST_BYTES)
    async for chunk in response.aiter_bytes():
        events = stream.feed(chunk)
        for event in events:
            yield Event(event.name, json.loads(event.data), event.id or None)
        if not events:
            yield Event("", {}, None)

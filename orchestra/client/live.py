"""What happens now, one frame a second, over as many connections as it takes."""

import json
from collections.abc import Collection
from typing import Any
from uuid import UUID

from orchestra.client.caller import Call, Caller
from orchestra.client.stream import SILENCE_SECONDS, Events
from orchestra.http.event_stream import SseEvent
from schemas.api.live import Changed, LiveFrame, OwnFrame
from schemas.reading import read_value

Frame = LiveFrame | OwnFrame | Changed
"""A frame of an operator, one of any other caller, or the requests that changed."""


class AsyncLive(Events[Frame]):
    """Frames without an end. If a connection breaks, they go on over another one; those in between are lost.

    Iterating raises ``ClientError``, and ``UnreachableError`` if no gateway could be reached for too long. Use it as a
    context manager, which releases the connection.
    """

    def __init__(self, caller: Caller, ids: Collection[UUID | str]) -> None:
        super().__init__(caller, caller.patience(caller.reconnect_seconds), None)
        self._params = {"ids": ",".join(map(str, ids))} if ids else {}

    def _call(self) -> Call:
        return Call("GET", "/v1/live", params=self._params, read_seconds=SILENCE_SECONDS)

    def _fed(self, chunk: bytes | None) -> list[SseEvent]:
        self._patience.heard()
        return super()._fed(chunk)

    def _read(self, raw: SseEvent) -> Frame | None:
        data = json.loads(raw.data)
        match raw.name, data:
            case "frame", {"workers": _}:
                return read_value(LiveFrame, data)
            case "frame", _:
                return read_value(OwnFrame, data)
            case "changed", _:
                return read_value(Changed, data)
        return None

    def _take(self, event: Any) -> Frame | None:
        self._patience.progressed()
        frame: Frame = event
        return frame

"""A network that follows a script, for clients of httpx, blocking or not: no socket, no time."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from orchestra.client import AsyncClient, Client

CHUNK = 7


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that arrives in small chunks. ``after``: bytes after which its connection breaks."""

    def __init__(self, body: bytes, after: int | None = None) -> None:
        self._body = body
        self._after = after

    def __iter__(self) -> Iterator[bytes]:
        body = self._body[: self._after]
        yield from (body[start : start + CHUNK] for start in range(0, len(body), CHUNK))
        if self._after is not None and self._after < len(self._body):
            raise httpx.ReadError("cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


Reply = httpx.Response | Exception
Handler = Callable[[httpx.Request], Reply]


@dataclass
class Network:
    """Answers calls by a handler, or one after the other by a list, and remembers them."""

    script: Handler | list[Reply]
    calls: list[httpx.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        self.bodies.append(request.content)
        reply = self.script.pop(0) if isinstance(self.script, list) else self.script(request)
        if isinstance(reply, Exception):
            raise reply
        return reply

    @property
    def lines(self) -> list[str]:
        """Method, host and path of each call."""
        return [f"{call.method} {call.url.host}{call.url.path}" for call in self.calls]

    def client(self, base_url: Any = "http://one", **more: Any) -> AsyncClient:
        """A client on this network."""
        return AsyncClient(base_url, http_client=httpx.AsyncClient(transport=httpx.MockTransport(self)), **more)

    def blocking(self, base_url: Any = "http://one", **more: Any) -> Client:
        """One that blocks."""
        return Client(base_url, http_client=httpx.Client(transport=httpx.MockTransport(self)), **more)


def ok(body: Any, status: int = 200, **headers: str) -> httpx.Response:
    """A response with this JSON."""
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


def problem(status: int, code: str, *, retry_after: int | None = None, **more: Any) -> httpx.Response:
    """A problem document."""
    headers = {"content-type": "application/problem+json"}
    headers |= {} if retry_after is None else {"retry-after": str(retry_after)}
    body = {"status": status, "code": code, "title": "A title", "detail": "a detail", **more}
    return httpx.Response(status, content=json.dumps(body), headers=headers)


def events(text: str, cut: int | None = None, **headers: str) -> httpx.Response:
    """A stream of these events, which breaks after ``cut`` bytes."""
    headers = {"content-type": "text/event-stream", **headers}
    return httpx.Response(200, stream=Cut(text.encode(), cut), headers=headers)


@dataclass
class Clock:
    """The time of clients, which only pauses move."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def install(self, monkeypatch: Any) -> "Clock":
        """Have both wires use it."""

        async def sleep(_: object, seconds: float) -> None:
            self.pauses.append(seconds)
            self.now += seconds

        for wire in ("AsyncWire", "BlockingWire"):
            monkeypatch.setattr(f"orchestra.client.wire.{wire}.sleep", sleep)
            monkeypatch.setattr(f"orchestra.client.wire.{wire}.clock", lambda _: self.now)
        return self

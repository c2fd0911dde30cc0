"""HTTP calls over pooled aiohttp connections, which are reused only as far as each server tolerates it.

The hot calls use aiohttp directly: httpx's requests and responses around it double the cost (docs/decisions/0017).
"""

import select
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, partial
from time import monotonic
from typing import Any

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.payload import Payload
from httpx_aiohttp import AiohttpTransport

# If a server had already closed a kept connection, the call fails within a packet's travel time.
_CLOSED_WITHIN_SECONDS = 1.0
_LARGE_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """How long idle connections are kept, and how long one must rest before it is reused, in seconds."""

    seconds: float
    rest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds: for connecting, and for silence."""

    connect_seconds: float
    silence_seconds: float


class Address:
    """The target of calls, with the headers they all carry. ``base_url``: prefix of the calls' paths."""

    def __init__(self, base_url: str, headers: Mapping[str, str], timeouts: Timeouts, keep_alive: KeepAlive) -> None:
        self.base_url = base_url.rstrip("/")
        # The body is read as it arrives, so it must not be compressed on the way.
        self.headers = {"accept-encoding": "identity", **headers}
        self._timeouts = timeouts
        self._keep_alive = keep_alive

    def call(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Make one call: an asynchronous context of its response, not read yet. Leaving early closes the call.

        ``headers`` are added to those that all calls carry.

        Raises ``aiohttp.ClientError``; one that is also a ``TimeoutError`` after a timeout.
        """
        data = _Large(content) if content and len(content) > _LARGE_BYTES else content
        return self._session.request(method, self.base_url + path, data=data, headers=headers, allow_redirects=False)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        return _session(
            self.base_url,
            self._keep_alive,
            headers=self.headers,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._timeouts.connect_seconds, sock_read=self._timeouts.silence_seconds
            ),
        )


def transport(base_url: str, keep_alive: KeepAlive) -> AiohttpTransport:
    """The same connections for callers that use httpx."""
    return AiohttpTransport(client=lambda: _session(base_url, keep_alive))


def _session(base_url: str, keep_alive: KeepAlive, **more: Any) -> aiohttp.ClientSession:
    """A session without a limit on connections. Needs a running event loop."""
    context = None
    if base_url.startswith("https:"):
        context = httpx.create_ssl_context()
        context.load_default_certs()  # The LLM service may have a certificate of a private CA.
    connector = _Connector(keep_alive.rest_seconds, limit=0, keepalive_timeout=keep_alive.seconds, ssl=context or True)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), middlewares=[_past_a_closed_connection], **more
    )


class _Large(Payload):
    """A body that is written in pieces, so that it does not block the event loop, and without a copy."""

    _autoclose = True

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._size = len(content)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text."""
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all of it, as fast as it is read."""
        view = memoryview(self._value)
        for at in range(0, len(view), _PIECE_BYTES):
            await writer.write(view[at : at + _PIECE_BYTES])


class _Protocol(ResponseHandler):
    """Records whether, and when, anything has arrived since the connection was taken for a call."""

    heard = False
    taken = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail the call, and also a reader in the middle of a response, which aiohttp would leave waiting."""
        super().set_exception(exc, exc_cause or exc)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            known = isinstance(exc, aiohttp.ClientError)
            payload.set_exception(exc if known else aiohttp.ClientPayloadError("the answer cannot be read"), exc)

    @property
    def unread(self) -> bool:
        """Whether the server cannot have seen the request, because it had closed the connection before."""
        return not self.heard and monotonic() - self.taken < _CLOSED_WITHIN_SECONDS


_NEW = object()
# The current call's connection, if it was used before. ``_NEW``: the next attempt must use a new one.
_kept: ContextVar[object] = ContextVar("kept", default=None)


async def _past_a_closed_connection(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send the request; if the server had already closed the kept connection, send it again on a new one.

    This is safe: a server that has read a request answers it, or closes the connection later than this.
    """
    try:
        return await send(request)
    except (aiohttp.ClientConnectionError, ConnectionError) as error:
        kept = _kept.get()
        if isinstance(error, TimeoutError) or not isinstance(kept, _Protocol) or not kept.unread:
            raise
        _kept.set(_NEW)
        return await send(request)


class _Connector(aiohttp.TCPConnector):
    """Reuses a connection only if its server had time to close it after the last response, and has not.

    Some servers, such as llama.cpp's, promise to keep a connection but close it after every stream.
    """

    def __init__(self, rest_seconds: float, **more: Any) -> None:
        super().__init__(**more)
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]  # one of its kind
        self._rest_seconds = rest_seconds

    async def _get(self, key: Any, traces: Any) -> Any:
        wants_new = _kept.get() is _NEW
        _kept.set(None)
        if wants_new:
            return None
        kept = self._conns.get(key)  # The one that has rested longest comes first.
        while kept and _has_news(kept[0][0].transport):
            kept.popleft()[0].close()
        if kept and monotonic() - kept[0][1] < self._rest_seconds:
            return None
        connection = await super()._get(key, traces)
        if connection is not None:
            protocol: Any = connection.protocol
            protocol.heard, protocol.taken = False, monotonic()
            _kept.set(protocol)
        return connection


def _has_news(transport: Any) -> bool:
    """True for a connection that is closed, or on which bytes arrived without a request."""
    if transport is None or transport.is_closing():
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))

"""The two clients: one for asyncio, one that blocks."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from orchestra.addresses import is_http_url
from orchestra.client import blocking
from orchestra.client.agents import AsyncAgents
from orchestra.client.caller import Caller, OnRetry
from orchestra.client.closing import AsyncClosing, Closing
from orchestra.client.conversations import AsyncConversations
from orchestra.client.files import AsyncFiles
from orchestra.client.messages import AsyncMessages
from orchestra.client.operating import AsyncAudit, AsyncModels, AsyncQueue, AsyncStats, AsyncTopics, AsyncWorkers
from orchestra.client.requests import AsyncRequests
from orchestra.client.tasks import AsyncTasks
from orchestra.client.wire import AsyncWire, BlockingWire, Wire

URL_VARIABLE = "ORCHESTRA_GATEWAY"
KEY_VARIABLE = "ORCHESTRA_API_KEY"
_DEFAULT_URL = "http://127.0.0.1:8080"
RETRY_SECONDS = 60.0
RECONNECT_SECONDS = 300.0


class AsyncClient(AsyncClosing):
    """A client of gateways, for asyncio. Use it as a context manager, or call ``close``.

    ``base_url``: of the gateway; if there are several, calls go to another one when one fails. Default: environment
    variable ``ORCHESTRA_GATEWAY`` (several are separated by commas), else ``http://127.0.0.1:8080``. ``api_key``:
    default ``ORCHESTRA_API_KEY``, else no key; an empty text is no key.

    ``retry_seconds``: how long a call is repeated that failed for a reason that may pass, such as a gateway that
    restarts, 429 or 503; ``Retry-After`` is obeyed. 0: never. ``reconnect_seconds``: how long all gateways may be
    unreachable while an accepted request is waited for or streamed. ``on_retry``: called before each pause with the
    error and the seconds of the pause; it may raise the error, or another one, to give up.

    ``http_client``: to be used for all calls and not closed, for example with a proxy or own certificates. Without it
    there are no proxies, not even those of the environment. Raises ``ValueError`` for a URL or a key that cannot be
    sent.
    """

    def __init__(
        self,
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        *,
        retry_seconds: float = RETRY_SECONDS,
        reconnect_seconds: float = RECONNECT_SECONDS,
        on_retry: OnRetry | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        wire = AsyncWire(http_client)
        caller = _caller(wire, base_url, api_key, retry_seconds, reconnect_seconds, on_retry)
        self._wire = wire
        self._caller = caller
        self.requests = AsyncRequests(caller)
        self.messages = AsyncMessages(caller, self.requests)
        self.conversations = AsyncConversations(caller)
        self.tasks = AsyncTasks(caller, self.requests)
        self.files = AsyncFiles(caller)
        self.agents = AsyncAgents(caller)
        self.queue = AsyncQueue(caller)
        self.models = AsyncModels(caller)
        self.workers = AsyncWorkers(caller)
        self.topics = AsyncTopics(caller)
        self.stats = AsyncStats(caller)
        self.audit = AsyncAudit(caller)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Make a call that has no method of its own here, and return its answer: parsed JSON, or None without a body.

        ``path``: such as ``/v1/stats``. A POST is not repeated if it may have been received. Raises ``ClientError``.
        """
        return await self._caller.json(method, path, params, body)

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()


class Client(Closing):
    """A client of gateways that blocks; several threads may share it. Its arguments are those of `AsyncClient`.

    It runs the same code as `AsyncClient`. Use it as a context manager, or call ``close``.
    """

    def __init__(
        self,
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        *,
        retry_seconds: float = RETRY_SECONDS,
        reconnect_seconds: float = RECONNECT_SECONDS,
        on_retry: OnRetry | None = None,
        http_client: httpx.Client | None = None,
    ) -> None:
        wire = BlockingWire(http_client)
        caller = _caller(wire, base_url, api_key, retry_seconds, reconnect_seconds, on_retry)
        requests = AsyncRequests(caller)
        self._wire = wire
        self._caller = caller
        self.requests = blocking.Requests(requests)
        self.messages = blocking.Messages(AsyncMessages(caller, requests))
        self.conversations = blocking.Conversations(AsyncConversations(caller))
        self.tasks = blocking.Tasks(AsyncTasks(caller, requests))
        self.files = blocking.Files(AsyncFiles(caller))
        self.agents = blocking.Agents(AsyncAgents(caller))
        self.queue = blocking.Queue(AsyncQueue(caller))
        self.models = blocking.Models(AsyncModels(caller))
        self.workers = blocking.Workers(AsyncWorkers(caller))
        self.topics = blocking.Topics(AsyncTopics(caller))
        self.stats = blocking.Stats(AsyncStats(caller))
        self.audit = blocking.Audit(AsyncAudit(caller))

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Make a call that has no method of its own here, and return its answer: parsed JSON, or None without a body.

        ``path``: such as ``/v1/stats``. A POST is not repeated if it may have been received. Raises ``ClientError``.
        """
        return blocking.run(self._caller.json(method, path, params, body))

    def close(self) -> None:
        """Close the connections."""
        blocking.run(self._wire.close())


def _caller(
    wire: Wire,
    base_url: str | Sequence[str] | None,
    api_key: str | None,
    retry_seconds: float,
    reconnect_seconds: float,
    on_retry: OnRetry | None,
) -> Caller:
    key = os.environ.get(KEY_VARIABLE) if api_key is None else api_key
    if key and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise ValueError("the API key must be printable ASCII, without spaces around it")
    return Caller(wire, _urls(base_url), key, retry_seconds, reconnect_seconds, on_retry)


def _urls(base_url: str | Sequence[str] | None) -> Sequence[str]:
    given = os.environ.get(URL_VARIABLE) or _DEFAULT_URL if base_url is None else base_url
    urls = [url.strip().rstrip("/") for url in (given.split(",") if isinstance(given, str) else given)]
    if not urls or not all(map(_is_base, urls)):
        raise ValueError("a base URL of a gateway is one such as http://127.0.0.1:8080")
    return urls


def _is_base(url: str) -> bool:
    try:
        read = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return False
    return is_http_url(url) and not (read.query or read.fragment)

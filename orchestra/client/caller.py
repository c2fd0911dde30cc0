"""Makes calls to a gateway, and repeats failed ones for a limited time, at another gateway if there is one."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from orchestra.client.closing import AsyncClosing
from orchestra.client.errors import ClientError, RequestFailedError, UnreachableError, error_of
from orchestra.client.wire import CONNECT_SECONDS, Wire, WireResponse
from schemas.errors import ErrorCode
from schemas.reading import read_json

# Longest silence of a gateway that is busy with an ordinary call.
READ_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
# What a restarting gateway, or a proxy in front of it, responds: another gateway may do better.
_ELSEWHERE = frozenset({500, 502, 503, 504})
# A caller with `on_busy: reject` wants to know at once that the conversation is busy.
_NOT_AGAIN = frozenset({ErrorCode.CONVERSATION_BUSY})
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

Model = TypeVar("Model", bound=BaseModel)
OnRetry = Callable[[ClientError, float], None]


@dataclass(frozen=True)
class Call:
    """What to send. ``content``: JSON. ``form``: makes the fields of a form; called for each try.

    ``repeatable``: whether a call that may have been received can be sent again. ``is_deletion``: what is gone after
    such a repeat is deleted. ``about``: attributes of errors of this call.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    form: Callable[[], Mapping[str, Any]] | None = None
    read_seconds: float = READ_SECONDS
    repeatable: bool = True
    is_deletion: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A response to a call that succeeded."""

    url: str
    status: int
    headers: httpx.Headers
    body: bytes

    def read(self, model: type[Model]) -> Model:
        """The body as this model. Raises ``ClientError``."""
        try:
            return read_json(model, self.body)
        except ValidationError:
            raise no_gateway(self.url) from None


def no_gateway(url: str) -> ClientError:
    """The error for a response that no gateway gives."""
    return ClientError(f"{url} did not answer like a gateway")


class Patience:
    """How long to go on without a usable response, and the pauses in between."""

    def __init__(self, wire: Wire, seconds: float, on_retry: OnRetry | None, spares: int) -> None:
        self._wire = wire
        self._seconds = seconds
        self._on_retry = on_retry
        # Other gateways that can be tried without a pause.
        self._spares = spares
        self._since = wire.clock()
        self._tries = 0

    def heard(self, seconds: float | None = None) -> None:
        """Note that a gateway responded: the time starts again. ``seconds``, if given, is its new limit."""
        self._since = self._wire.clock()
        self._seconds = self._seconds if seconds is None else seconds

    def progressed(self) -> None:
        """Note that the response was of use: after the next failure the pauses are short again."""
        self._tries = 0

    async def after(self, error: ClientError) -> None:
        """Wait until it is time for the next try. Raises ``error`` if none can help, or if it would come too late."""
        # A request that has ended would end the same: its key makes a repeat the same request.
        if not error.retryable or error.code in _NOT_AGAIN or isinstance(error, RequestFailedError):
            raise error
        pause = error.retry_after
        if pause is None:
            longest = min(_FIRST_PAUSE_SECONDS * 2 ** max(self._tries - self._spares, 0), _LONGEST_PAUSE_SECONDS)
            pause = 0.0 if self._tries < self._spares else longest * random.uniform(0.5, 1)
        if self._wire.clock() + pause - self._since > self._seconds or self._seconds <= 0:
            raise error
        self._tries += 1
        if self._on_retry:
            self._on_retry(error, pause)
        await self._wire.sleep(pause)


class Caller:
    """Calls to any of several gateways. Methods raise ``ClientError``."""

    def __init__(
        self,
        wire: Wire,
        urls: Sequence[str],
        key: str | None,
        retry_seconds: float,
        reconnect_seconds: float,
        on_retry: OnRetry | None,
    ) -> None:
        self.wire = wire
        self.reconnect_seconds = reconnect_seconds
        self._urls = urls
        self._at = 0
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._retry_seconds = retry_seconds
        self._on_retry = on_retry

    @property
    def url(self) -> str:
        """The gateway that the next call goes to."""
        return self._urls[self._at]

    def leave(self, url: str) -> None:
        """Send the next calls to another gateway than this one, if there is another."""
        if url == self.url:
            self._at = (self._at + 1) % len(self._urls)

    def patience(self, seconds: float | None = None) -> Patience:
        """The patience for one call. ``seconds``: how long to repeat it; None: the client's ``retry_seconds``."""
        seconds = self._retry_seconds if seconds is None else seconds
        return Patience(self.wire, seconds, self._on_retry, len(self._urls) - 1)

    async def call(self, call: Call, patience: Patience | None = None) -> Answer:
        """Make a call, again if it fails and a repeat can help."""
        patience = patience or self.patience()
        unsure = False
        while True:
            try:
                answer = await self._once(call)
            except ClientError as error:
                if call.is_deletion and unsure and error.status == httpx.codes.NOT_FOUND:
                    return Answer(self.url, 204, httpx.Headers(), b"")
                unsure = unsure or not _was_not_done(error)
                if unsure and not call.repeatable:
                    raise
                await patience.after(error)
            else:
                patience.heard()
                patience.progressed()
                return answer

    async def json(
        self, method: str, path: str, params: Mapping[str, Any] | None, body: Mapping[str, Any] | None
    ) -> Any:
        """Make a call of any route, and return the JSON of its answer, None without a body."""
        content = None if body is None else json.dumps(body).encode()
        call = Call(method, path, params or {}, content=content, repeatable=method != "POST")
        answer = await self.call(call)
        try:
            return json.loads(answer.body) if answer.body else None
        except ValueError:
            raise no_gateway(answer.url) from None

    async def open(self, call: Call) -> WireResponse:
        """Make a call once, and return its response, which the caller closes, before its body has arrived."""
        url = self.url
        try:
            response = await self.wire.send(self._request(url, call))
            head = response.head
            if head.is_success:
                return response
            try:
                body = await response.read()
            finally:
                await response.close()
        except httpx.RequestError as error:
            raise self.broken(url, error, call) from error
        if head.status_code in _ELSEWHERE:
            self.leave(url)
        if not head.is_error:
            raise no_gateway(url)
        problem = error_of(head.status_code, head.reason_phrase, head.headers.get("retry-after"), body)
        raise _about(problem, call)

    def broken(self, url: str, error: httpx.RequestError, call: Call) -> ClientError:
        """The error of a call whose connection failed."""
        if not isinstance(error, httpx.TransportError):
            return no_gateway(url)
        self.leave(url)
        return _about(UnreachableError(f"{url}: {error or type(error).__name__}", retryable=True), call)

    async def _once(self, call: Call) -> Answer:
        url, response = self.url, await self.open(call)
        head = response.head
        try:
            body = await response.read()
        except httpx.RequestError as error:
            raise self.broken(url, error, call) from error
        finally:
            await response.close()
        return Answer(url, head.status_code, head.headers, body)

    def _request(self, url: str, call: Call) -> httpx.Request:
        headers = {**self._headers, **call.headers}
        more: dict[str, Any] = {"params": call.params} if call.params else {}
        if call.content is not None:
            headers["Content-Type"] = "application/json"
            more["content"] = call.content
        if call.form:
            more |= call.form()
        timeout = httpx.Timeout(call.read_seconds, connect=CONNECT_SECONDS)
        return self.wire.build(call.method, f"{url}{call.path}", headers=headers, timeout=timeout, **more)


class Resuming(AsyncClosing):
    """One body that is read over as many connections as it takes.

    ``_url``: the gateway of the present connection. Other calls may go to another one by now.
    """

    def __init__(self, caller: Caller, patience: Patience) -> None:
        self._caller = caller
        self._patience = patience
        self._response: WireResponse | None = None
        self._url = caller.url

    def _call(self) -> Call:
        """The call that continues the body."""
        raise NotImplementedError

    def _opened(self, response: WireResponse) -> None:
        """Check a new connection. Raises ``ClientError``."""
        raise NotImplementedError

    def _closed(self) -> ClientError | None:
        """The error if a connection closes before the body is complete; None if it is."""
        raise NotImplementedError

    async def _chunk(self) -> bytes | None:
        """The next bytes of the body; None at its end. Raises ``ClientError``."""
        while True:
            call = self._call()
            try:
                if self._response is None:
                    self._url = self._caller.url
                    self._response = await self._caller.open(call)
                    self._opened(self._response)
                chunk = await self._response.chunk()
                if chunk is None and (early := self._closed()):
                    self._caller.leave(self._url)
                    raise early
            except httpx.RequestError as error:
                await self._disconnect()
                await self._patience.after(self._caller.broken(self._url, error, call))
            except ClientError as error:
                await self._disconnect()
                await self._patience.after(error)
            else:
                return chunk

    async def close(self) -> None:
        """Release the connection."""
        await self._disconnect()

    async def _disconnect(self) -> None:
        response, self._response = self._response, None
        if response:
            await response.close()


def _about(error: ClientError, call: Call) -> ClientError:
    for name, value in call.about.items():
        if getattr(error, name) is None:
            setattr(error, name, value)
    return error


def _was_not_done(error: ClientError) -> bool:
    """Whether the call certainly had no effect: it never arrived, or a gateway refused it."""
    if error.code in (None, ErrorCode.INTERNAL, ErrorCode.OUTCOME_UNKNOWN):
        return isinstance(error.__cause__, _NOT_SENT)
    return True

"""The blocking client: each of its methods runs the coroutine of the asynchronous one, which never suspends here.

A coroutine suspends only where something below it does, and that is the wire alone. Over `orchestra.client.wire`'s
blocking wire one step runs it to its end: without an event loop, without a thread, inside a running loop, too.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar
from uuid import UUID

from orchestra.client.agents import AsyncAgents
from orchestra.client.closing import Closing
from orchestra.client.conversations import AsyncConversations
from orchestra.client.errors import RequestFailedError
from orchestra.client.events import ConversationEvent, EndingEvent, Event
from orchestra.client.files import AsyncChunks, AsyncFiles
from orchestra.client.live import AsyncLive, Frame
from orchestra.client.messages import AsyncMessages
from orchestra.client.operating import AsyncAudit, AsyncModels, AsyncQueue, AsyncStats, AsyncTopics, AsyncWorkers
from orchestra.client.requests import AsyncRequests
from orchestra.client.stream import AsyncConversationStream, AsyncStream
from orchestra.client.tasks import AsyncTasks

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Given = TypeVar("Given")
Core = TypeVar("Core")
Item = TypeVar("Item")


def run(awaitable: Awaitable[Result]) -> Result:
    """The result of an awaitable that does not suspend."""
    try:
        next(awaitable.__await__())
    except StopIteration as end:
        result: Result = end.value
        return result
    raise RuntimeError("a call of the blocking client was suspended")


def _through(
    convert: Callable[[Given], Result], method: Callable[Concatenate[Any, Parameters], Given]
) -> Callable[Concatenate[Any, Parameters], Result]:
    """The method of the blocking class: what the method of its core returns, converted."""

    @wraps(method)
    def call(self: Any, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return convert(method(self.core, *args, **kwargs))

    return call


class _Blocking(Generic[Core]):
    """The blocking form of something asynchronous, its ``core``."""

    def __init__(self, core: Core) -> None:
        self.core = core


class Items(Generic[Item]):
    """An iterator over the items of an asynchronous one."""

    def __init__(self, core: AsyncIterator[Item]) -> None:
        self.core = core

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        try:
            return run(anext(self.core))
        except StopAsyncIteration:
            raise StopIteration from None


class Stream(Items[Event], Closing):
    """`AsyncStream`, blocking."""

    core: AsyncStream
    close = _through(run, AsyncStream.close)
    reply = _through(run, AsyncStream.reply)

    @property
    def request_id(self) -> UUID | None:
        """Id of the request, once it is accepted."""
        return self.core.request_id

    @property
    def conversation_id(self) -> UUID | None:
        """Id of the conversation, once it is known."""
        return self.core.conversation_id

    @property
    def last_event_id(self) -> str | None:
        """The position of the stream, from which another stream can resume."""
        return self.core.last_event_id

    @property
    def text(self) -> str:
        """The text of the answer so far."""
        return self.core.text

    @property
    def ending(self) -> EndingEvent | None:
        """The last event, once it has come."""
        return self.core.ending

    @property
    def error(self) -> RequestFailedError | None:
        """Why the request ended without an answer; None if it has not, or has one."""
        return self.core.error


class ConversationStream(Items[ConversationEvent], Closing):
    """`AsyncConversationStream`, blocking."""

    core: AsyncConversationStream
    close = _through(run, AsyncConversationStream.close)

    @property
    def conversation_id(self) -> UUID:
        """Id of the conversation."""
        return self.core.conversation_id

    @property
    def last_event_id(self) -> str | None:
        """The position of the stream, from which another stream can resume."""
        return self.core.last_event_id


class Chunks(Items[bytes], Closing):
    """`AsyncChunks`, blocking."""

    core: AsyncChunks
    close = _through(run, AsyncChunks.close)


class Live(Items[Frame], Closing):
    """`AsyncLive`, blocking."""

    core: AsyncLive
    close = _through(run, AsyncLive.close)


class Messages(_Blocking[AsyncMessages]):
    """`AsyncMessages`, blocking."""

    send = _through(run, AsyncMessages.send)
    submit = _through(run, AsyncMessages.submit)
    submit_all = _through(run, AsyncMessages.submit_all)
    stream = _through(Stream, AsyncMessages.stream)


class Requests(_Blocking[AsyncRequests]):
    """`AsyncRequests`, blocking."""

    get = _through(run, AsyncRequests.get)
    wait = _through(run, AsyncRequests.wait)
    waiting = _through(run, AsyncRequests.waiting)
    stream = _through(Stream, AsyncRequests.stream)
    cancel = _through(run, AsyncRequests.cancel)
    retry = _through(run, AsyncRequests.retry)
    change = _through(run, AsyncRequests.change)
    cancel_all = _through(run, AsyncRequests.cancel_all)
    retry_all = _through(run, AsyncRequests.retry_all)
    change_all = _through(run, AsyncRequests.change_all)
    page = _through(run, AsyncRequests.page)
    list = _through(Items, AsyncRequests.list)


class Conversations(_Blocking[AsyncConversations]):
    """`AsyncConversations`, blocking."""

    create = _through(run, AsyncConversations.create)
    get = _through(run, AsyncConversations.get)
    messages = _through(Items, AsyncConversations.messages)
    stream = _through(ConversationStream, AsyncConversations.stream)
    branch = _through(run, AsyncConversations.branch)
    copy = _through(run, AsyncConversations.copy)
    delete = _through(run, AsyncConversations.delete)
    list = _through(Items, AsyncConversations.list)


class Tasks(_Blocking[AsyncTasks]):
    """`AsyncTasks`, blocking."""

    create = _through(run, AsyncTasks.create)
    get = _through(run, AsyncTasks.get)
    wait = _through(run, AsyncTasks.wait)
    cancel = _through(run, AsyncTasks.cancel)
    cancel_all = _through(run, AsyncTasks.cancel_all)
    retry = _through(run, AsyncTasks.retry)
    delete = _through(run, AsyncTasks.delete)
    count_by_status = _through(run, AsyncTasks.count_by_status)
    count_by_type = _through(run, AsyncTasks.count_by_type)
    list = _through(Items, AsyncTasks.list)


class Files(_Blocking[AsyncFiles]):
    """`AsyncFiles`, blocking."""

    upload = _through(run, AsyncFiles.upload)
    get = _through(run, AsyncFiles.get)
    download = _through(run, AsyncFiles.download)
    content = _through(run, AsyncFiles.content)
    chunks = _through(Chunks, AsyncFiles.chunks)
    delete = _through(run, AsyncFiles.delete)
    list = _through(Items, AsyncFiles.list)


class Agents(_Blocking[AsyncAgents]):
    """`AsyncAgents`, blocking."""

    list = _through(Items, AsyncAgents.list)


class Queue(_Blocking[AsyncQueue]):
    """`AsyncQueue`, blocking."""

    get = _through(run, AsyncQueue.get)
    live = _through(Live, AsyncQueue.live)
    pause = _through(run, AsyncQueue.pause)
    resume = _through(run, AsyncQueue.resume)


class Models(_Blocking[AsyncModels]):
    """`AsyncModels`, blocking."""

    pause = _through(run, AsyncModels.pause)
    resume = _through(run, AsyncModels.resume)


class Workers(_Blocking[AsyncWorkers]):
    """`AsyncWorkers`, blocking."""

    get = _through(run, AsyncWorkers.get)
    drain = _through(run, AsyncWorkers.drain)
    resume = _through(run, AsyncWorkers.resume)


class Topics(_Blocking[AsyncTopics]):
    """`AsyncTopics`, blocking."""

    get = _through(run, AsyncTopics.get)


class Stats(_Blocking[AsyncStats]):
    """`AsyncStats`, blocking."""

    get = _through(run, AsyncStats.get)


class Audit(_Blocking[AsyncAudit]):
    """`AsyncAudit`, blocking."""

    list = _through(Items, AsyncAudit.list)

"""What `orchestra top` has seen of a gateway, and keeps up to date."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import UUID

from orchestra.client import AsyncClient, ClientError
from orchestra.client.requests import has_ended
from schemas.api.live import Changed, LiveFrame, OwnFrame
from schemas.api.queue import QueueState
from schemas.api.requests import ListedRequest, RequestDetail
from schemas.api.stats import StatsAnswer
from schemas.api.topics import TopicList
from schemas.api.waiting import WaitingState
from schemas.api.workers import WorkerList
from schemas.errors import ErrorCode

MAX_ROWS = 50
REQUESTS = "requests"
LIVE = "live"
# What is loaded how often, in seconds; all but the requests for operators only.
_EVERY = {REQUESTS: 2.0, "queue": 4.0, "workers": 4.0, "topics": 15.0, "stats": 20.0}
_LATE_SECONDS = 5.0
# There is a frame a second; without one the gateway itself waits, most likely for Postgres.
_FIRST_SECONDS = 15.0
_NO_FRAME = "the gateway responds and shows no figures; `orchestra doctor` says what is wrong with Postgres"


@dataclass
class Seen:
    """The last frame, and for operators the queue, the workers, the topics and the last hour; the newest requests."""

    frame: LiveFrame | OwnFrame | None = None
    queue: QueueState | None = None
    workers: WorkerList | None = None
    topics: TopicList | None = None
    stats: StatsAnswer | None = None
    requests: Sequence[ListedRequest] = ()


@dataclass
class Feed:
    """Keeps ``seen`` up to date while ``run`` runs, whatever happens to the gateway; ``on_change``: after each change.

    ``filter``: of the requests. ``frozen``: whether nothing changes for now.
    """

    client: AsyncClient
    on_change: Callable[[], None] = lambda: None
    seen: Seen = field(default_factory=Seen)
    filter: Mapping[str, Any] = field(default_factory=dict)
    frozen: bool = False
    problem: ClientError | None = None
    away: ClientError | None = None
    _since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _received: float | None = None
    _due: dict[str, asyncio.Event] = field(default_factory=lambda: {name: asyncio.Event() for name in _EVERY})

    async def run(self) -> None:
        """Follow the gateway. Raises ``ClientError`` in a group if it refuses the caller."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            for name, seconds in _EVERY.items():
                tasks.create_task(self._keep(name, seconds))

    async def once(self) -> Seen:
        """All of it, once. Raises ``ClientError``."""
        try:
            async with asyncio.timeout(_FIRST_SECONDS), self.client.queue.live() as live:
                async for frame in live:
                    if not isinstance(frame, Changed):
                        self.seen.frame = frame
                        break
        except TimeoutError:
            raise ClientError(_NO_FRAME, retryable=True) from None
        await asyncio.gather(*(self._load(name) for name in _EVERY if self._may_load(name)))
        return self.seen

    def load_now(self, *names: str) -> None:
        """Load these at once; without names everything."""
        for name in names or _EVERY:
            self._due[name].set()

    def freeze(self) -> None:
        """Change nothing for now, or go on."""
        self.frozen = not self.frozen
        if not self.frozen:
            self.load_now()
        self.on_change()

    async def detail(self, id: UUID) -> tuple[RequestDetail, WaitingState | None]:
        """All that is known of a request, and why it waits if it has not ended. Raises ``ClientError``."""
        found = await self.client.requests.get(id)
        return found, None if has_ended(found) else await self.client.requests.waiting(id)

    async def act(self, verb: str, id: UUID) -> str:
        """Cancel or retry a request, and say what came of it. Raises ``ClientError``."""
        if verb == "cancel":
            found = await self.client.requests.cancel(id)
            told = f"{id} had ended: {found.status}" if has_ended(found) else f"{id} will be cancelled"
        else:
            told = f"{id} is retried as {(await self.client.requests.retry(id)).id}"
        self.load_now(REQUESTS)
        return told

    def lost(self, error: ClientError) -> None:
        """Note that a gateway did not respond."""
        if self.away is None:
            self._since = datetime.now(UTC)
        self.away = error
        self.on_change()

    @property
    def is_live(self) -> bool:
        """Whether what is shown is live."""
        return self.connection == LIVE

    @property
    def connection(self) -> str:
        """Whether what is shown is live, in words."""
        if self.away is not None:
            return f"not connected since {self._since:%H:%M:%S}Z, trying again: {self.away}"
        if self.frozen:
            return "frozen: press p to go on"
        if self._received is None:
            return "connecting"
        age = monotonic() - self._received
        return LIVE if age < _LATE_SECONDS else f"late, {age:.0f} s old"

    async def _follow(self) -> None:
        async with self.client.queue.live() as live:
            async for frame in live:
                first, self.away, self._received = self._received is None, None, monotonic()
                if not self.frozen and not isinstance(frame, Changed):
                    self.seen.frame = frame
                if first:
                    self.load_now()
                self.on_change()

    async def _keep(self, name: str, seconds: float) -> None:
        """Load one thing repeatedly, also after a failure: the frames say that a gateway is away."""
        while True:
            if not self.frozen and self._may_load(name):
                await self._try(name)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._due[name].wait()
            self._due[name].clear()

    async def _try(self, name: str) -> None:
        try:
            await self._load(name)
        except ClientError as error:
            if error.code == ErrorCode.UNAUTHORIZED:
                raise
            if name == REQUESTS:
                self.problem = None if error.retryable else error
        else:
            if name == REQUESTS:
                self.problem = None
        self.on_change()

    def _may_load(self, name: str) -> bool:
        return name == REQUESTS or isinstance(self.seen.frame, LiveFrame)

    async def _load(self, name: str) -> None:
        loads: dict[str, Callable[[], Awaitable[Any]]] = {
            REQUESTS: self._requests,
            "queue": self.client.queue.get,
            "workers": self.client.workers.get,
            "topics": self.client.topics.get,
            "stats": self.client.stats.get,
        }
        asked = self.filter
        found = await loads[name]()
        if not self.frozen and (name != REQUESTS or asked is self.filter):
            setattr(self.seen, name, found)

    async def _requests(self) -> Sequence[ListedRequest]:
        return (await self.client.requests.page(limit=MAX_ROWS, **self.filter)).data

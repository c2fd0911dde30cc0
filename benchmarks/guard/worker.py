"""The worker's hot paths except its statements: reading records, turns, output to Kafka."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from unittest.mock import patch
from uuid import UUID

import orjson

from benchmarks.guard.ends import Producer, Record, Settle, Silent
from benchmarks.guard.gateway import QUESTION, SECRET
from benchmarks.guard.model_server import ModelServer, model_server
from benchmarks.guard.path import Run, Tally, one_by_one
from orchestra.agents.catalogue import Agents
from orchestra.incoming import Judge
from orchestra.settings import DatabaseSettings
from orchestra.signing import EventSigner, HintSigner, Signer
from orchestra.store.claims import Claimed
from orchestra.store.database import Database
from orchestra.store.endings import AttemptEnd
from orchestra.store.intake import NewRequest
from orchestra.store.turns import Announcement
from schemas import envelope
from schemas.generation import GenerateRequest
from schemas.requests import MESSAGE_REQUESTED
from schemas.status import Status
from schemas.topics import REQUESTS
from workers import generate
from workers.flight import Flight
from workers.generate import Answered, LlmService
from workers.media import Media
from workers.metrics import Metrics
from workers.models import Models
from workers.publish import Publisher
from workers.records import RecordReader
from workers.settings import WorkerSettings
from workers.throttle import Throttle
from workers.timings import Timings
from workers.turn import Turns

_TRACE = f"00-{'a' * 32}-{'b' * 16}-00"
_BODY = {"messages": [{"role": "user", "content": QUESTION}], "context": "given"}
_TURN = Claimed(
    tenant=envelope.DEFAULT_TENANT, id=UUID(int=1), conversation_id=UUID(int=2), seq=1, body=_BODY, body_hash="0" * 64,
    worker_id=UUID(int=3), model="llama3", user=None, traceparent=_TRACE, fence=1, tries=1, max_tries=3,
    caller_seconds=0.0, seconds_left=3600.0, seconds_queued=0.01, cancelled=False,
    has_history=False,
)  # fmt: skip
# A piece that has to wait for company goes on at the next turn of the loop: it travels alone.
_TIMINGS = Timings(gather=0)


class _InStep(LlmService):
    """The real client, which lets the model send the next piece once the effects of the last one are done."""

    server: ModelServer

    async def generate(
        self, request: GenerateRequest, request_id: str | None = None, traceparent: str | None = None
    ) -> AsyncGenerator[Answered, None]:
        async for piece in super().generate(request, request_id, traceparent):
            yield piece
            await Settle()
            self.server.go_on()


class _Turns:
    """Turns, wired as in `workers/app.py`."""

    def __init__(self, llm: LlmService, server: ModelServer, publisher: Publisher) -> None:
        self.endings: list[AttemptEnd] = []
        self.server = server
        self.models = Models(llm, _silent())
        self._turns = Turns(
            llm, self.models, Agents.load(None), _silent(), publisher, Metrics(), Throttle(1000),
            Media(_silent(), None, _TIMINGS), self._finish, _TIMINGS,
        )  # fmt: skip

    async def run(self, pieces: int) -> None:
        """One turn, whose answer comes in this many pieces."""
        self.server.answer_with(pieces)
        self.endings.clear()
        for work in self._turns.run([Flight(replace(_TURN))]):
            await asyncio.ensure_future(work)
        await Settle()
        assert [ending.status for ending in self.endings] == [Status.COMPLETED], self.endings

    async def _finish(self, ending: AttemptEnd) -> None:
        self.endings.append(ending)


@asynccontextmanager
async def _publishing(tally: Tally) -> AsyncIterator[Publisher]:
    publisher = Publisher(Producer(tally).opened, _silent(), Metrics(), EventSigner([SECRET.encode()]), _TIMINGS)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def _turning(tally: Tally) -> AsyncIterator[_Turns]:
    async with AsyncExitStack() as opened:
        server = opened.enter_context(model_server())
        opened.enter_context(patch.object(generate, "LlmService", _InStep))
        settings = WorkerSettings.model_validate({"orchestra_secret": SECRET, "llm_service_url": server.url})
        llm = await opened.enter_async_context(generate.connect(settings))
        assert isinstance(llm, _InStep)
        llm.server = server
        turns = _Turns(llm, server, await opened.enter_async_context(_publishing(tally)))
        await turns.models.refresh()
        yield turns


@asynccontextmanager
async def turn(tally: Tally) -> AsyncIterator[Run]:
    """A turn, from its claim to its ending: prompt, LLM service, events. One piece of text, no history."""
    async with _turning(tally) as turns:
        yield one_by_one(partial(turns.run, 1))


@asynccontextmanager
async def delta(tally: Tally) -> AsyncIterator[Run]:
    """A piece of text, from the LLM service's socket to a record of its own."""
    async with _turning(tally) as turns:
        yield turns.run


@asynccontextmanager
async def read(_tally: Tally) -> AsyncIterator[Run]:
    """A record signed by a gateway, read and checked."""
    secrets, tenants = [SECRET.encode()], {REQUESTS.name: envelope.DEFAULT_TENANT}
    reader = RecordReader(Judge(secrets), Agents.load(None), tenants, "llama3", require_signed=True)
    record = _signed(secrets)

    async def run(times: int) -> None:
        for _ in range(times):
            assert isinstance(reader.read(record), NewRequest)

    yield run


@asynccontextmanager
async def announce(tally: Tally) -> AsyncIterator[Run]:
    """A committed reply, on its way to Kafka as an event and as a reply."""
    numbers = iter(range(1_000_000))
    async with _publishing(tally) as publisher:

        async def publish() -> None:
            publisher.announce([_announcement(next(numbers))])
            await Settle()

        yield one_by_one(publish)


def _silent() -> Database:
    return Silent.connect(DatabaseSettings(), "guard")


def _signed(secrets: list[bytes]) -> Record:
    key, value, id = str(UUID(int=2)).encode(), orjson.dumps(_BODY), str(UUID(int=1))
    signature = Signer(secrets).sign(
        id=id, type=MESSAGE_REQUESTED, tenant=envelope.DEFAULT_TENANT, user="", key=key, value=value
    )
    hints = ((envelope.TRACEPARENT, _TRACE), (envelope.CALLER_WAITS, "1"))
    extra = (
        (envelope.TENANT, envelope.DEFAULT_TENANT),
        (envelope.USER, ""),
        (envelope.SIGNATURE, signature),
        (envelope.HINTS, HintSigner(secrets).sign(signature, (_TRACE, "", "", "1"))),
        *hints,
    )
    headers = envelope.write_headers(id=id, type=MESSAGE_REQUESTED, source="/gateway", extra=extra)
    return Record(key, value, [(name, text.encode()) for name, text in headers], topic=REQUESTS.name)


def _announcement(number: int) -> Announcement:
    value = {
        "request_id": str(_TURN.id), "conversation_id": str(_TURN.conversation_id), "status": "completed",
        "attempts": 1, "reply": "A piece of text. " * 20, "usage": {"input_tokens": 90, "output_tokens": 33},
    }  # fmt: skip
    headers = {"correlation_id": None, "traceparent": _TRACE, "body_hash": _TURN.body_hash}
    return Announcement(
        number, _TURN.tenant, _TURN.id, _TURN.conversation_id, UUID(int=4), orjson.dumps(value).decode(), headers
    )

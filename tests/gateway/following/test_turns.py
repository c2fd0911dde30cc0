"""Promises of gateway/following/turns.py, and of the streams that follow conversations with it."""

import asyncio
from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.drain import Drain
from gateway.following import turns
from gateway.following.cursor import read_last_event_id, read_turn_event_id
from gateway.following.events import Hub
from gateway.following.stream import ConversationStart, Streams
from gateway.following.turns import Turns
from gateway.metrics import Metrics
from gateway.people.principal import Principal
from gateway.timings import Timings
from orchestra.store.next_turns import NextTurn
from orchestra.store.requests import StoredRequest
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.api.keys import Scope
from schemas.api.requests import RequestResource
from schemas.errors import ErrorCode, OrchestraError
from schemas.events import COMPLETED
from schemas.status import Status
from tests.support.events import SIGNER, tell
from tests.support.fakes import away, steps

REF = ConversationRef("default", uuid4())
LONG = 60.0


@pytest.fixture
def followed() -> Turns:
    return Turns(asyncio.Event())


async def test_a_place_is_looked_for_while_its_stream_waits(followed: Turns) -> None:
    """A stream in the middle of a turn costs no look; one that waits is looked for at once, and then with back-off."""
    with followed.watch(REF, 3) as place:
        assert [] == followed.due()
        waiting = asyncio.create_task(place.next(LONG))
        await steps()
        assert ([place], True) == (followed.due(), followed._hinted.is_set())

        waits = []
        for _ in range(6):
            place.learn([], deleted=False)
            waits.append(round(place.look_at - place.looked_at))
        assert ([], [1, 2, 4, 8, 10, 10]) == (followed.due(), waits)

        turn = NextTurn(4, uuid4())
        place.learn([NextTurn(3, uuid4()), turn], deleted=False)
        assert (turn, 4) == (await waiting, place.after)
    assert not followed.places


async def test_a_hint_makes_the_next_look_come_sooner(followed: Turns) -> None:
    """A hint of a worker is followed at once, also one that came during a turn; an unsigned one once per second."""
    with followed.watch(REF, 0) as place:
        place.learn([], deleted=False)
        followed.hint(ConversationRef("default", uuid4()))
        assert not followed._hinted.is_set()
        followed.hint(REF, at_once=False)
        waiting = asyncio.create_task(place.next(LONG))
        await steps()
        assert [] == followed.due()
        followed.hint(REF)
        assert [place] == followed.due()
        followed.wake_all()
        assert await waiting is None

        place.learn([], deleted=False)
        followed.hint(REF)
        followed._hinted.clear()
        waiting = asyncio.create_task(place.next(LONG))
        await steps()
        assert ([place], True) == (followed.due(), followed._hinted.is_set())
        waiting.cancel()


class Rows:
    """Rows of requests. While ``errors`` lasts, Postgres is away."""

    def __init__(self) -> None:
        self.rows: dict[UUID, StoredRequest] = {}
        self.errors = 0

    def add(self, status: Status = Status.CANCELLED) -> UUID:
        id = uuid4()
        self.rows[id] = StoredRequest(RequestResource(id=id, status=status, attempts=1), "hash", "")
        return id

    async def stored(self, _: Principal, id: UUID) -> StoredRequest | None:
        if self.errors:
            self.errors -= 1
            raise away()
        return self.rows.get(id)

    async def with_reply(self, _: object, ending: object) -> object:
        return ending


class Lasting:
    """Access of a user that lasts until it is lost."""

    def __init__(self) -> None:
        self.caller, self.due = Principal("default", "ann", frozenset([Scope.READ])), float("inf")

    async def check(self) -> None:
        raise OrchestraError(ErrorCode.UNAUTHORIZED)


class World:
    """Streams of one conversation whose turns a test adds."""

    def __init__(self) -> None:
        self.hub, self.drain, self.rows, self.standing = Hub(Metrics(), 2**20, SIGNER), Drain(), Rows(), Lasting()
        self.drain.on_begin(self.hub.wake_all)
        rows: Any = self.rows
        self.streams = Streams(self.hub, rows, self.drain, self.hub._metrics, 1, Timings(keep_alive=LONG))

    def open(self, start: ConversationStart | None = None) -> Any:
        standing: Any = self.standing
        return aclosing(self.streams.open_conversation(REF, start or ConversationStart(), standing).body_iterator)  # type: ignore[type-var]

    async def look(self, *ids: UUID, deleted: bool = False, after: int = 0, owner: str = "") -> None:
        """Let a look find these turns."""
        await steps()
        for place in self.hub.turns.due():
            place.learn([NextTurn(after + number, id, owner) for number, id in enumerate(ids, 1)], deleted=deleted)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("gateway.following.stream._READ_AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(turns, "_LOOK_AFTER_SECONDS", 0.0)
    return World()


def ids_in(chunk: bytes) -> str:
    return next(line for line in chunk.decode().splitlines() if line.startswith("id: "))


async def test_turns_that_have_ended_are_told_in_order(world: World) -> None:
    """Turns of the past come first, one after the other; a turn that the caller may not see is passed over."""
    first, second, hidden = world.rows.add(), world.rows.add(), uuid4()
    async with world.open() as chunks:
        opening = asyncio.create_task(anext(chunks))
        await world.look(first, hidden, second)
        told = [await opening, *[await anext(chunks) for _ in range(3)]]
        with pytest.raises(OrchestraError):
            world.streams.check(world.standing.caller)
    assert [b"event: pending", b"event: cancelled"] * 2 == [
        line for chunk in told for line in chunk.splitlines() if line.startswith(b"event")
    ]
    assert [f"id: {first}:1.0.end", f"id: {second}:1.0.end"] == [ids_in(told[1]), ids_in(told[3])]
    assert not world.hub._watched
    world.streams.check(world.standing.caller)


async def test_a_client_that_has_seen_the_ending_of_a_turn(world: World) -> None:
    """A stream that resumes behind an ending begins with the next turn."""
    seen, new = world.rows.add(), world.rows.add()
    async with world.open(ConversationStart(1, seen, read_last_event_id("1.0.end"))) as chunks:
        opening = asyncio.create_task(anext(chunks))
        await world.look(new, after=1)
        assert str(new).encode() in await opening


async def test_the_end_of_a_conversation(world: World) -> None:
    """A deleted conversation ends its streams with an event."""
    async with world.open() as chunks:
        opening = asyncio.create_task(anext(chunks))
        await world.look(deleted=True)
        assert await opening == b'event: deleted\ndata: {"conversation_id":"%b"}\n\n' % str(REF.id).encode()
        assert [] == [chunk async for chunk in chunks]


async def test_a_turn_right_before_the_end_of_its_conversation(world: World) -> None:
    """A turn whose row is gone before its stream came to it has the events that there were; the end comes behind it."""
    answered, open_one, refused = uuid4(), uuid4(), uuid4()
    tell(world.hub, COMPLETED, answered, attempt=1, reply="Hi", usage={"input_tokens": 1, "output_tokens": 1})
    async with world.open() as chunks:
        opening = asyncio.create_task(anext(chunks))
        await steps()
        for place in world.hub.turns.due():
            turns = (answered, "ann"), (refused, "bob"), (open_one, "ann")
            place.learn([NextTurn(at, id, owner) for at, (id, owner) in enumerate(turns, 1)], deleted=True)
        told = [await opening, await anext(chunks), await anext(chunks)]
        rest = asyncio.create_task(anext(chunks))
        await steps()
        world.hub.fail(RequestRef("default", open_one), ErrorCode.CONVERSATION_DELETED, "gone")
        told.append(await rest)
        ending = asyncio.create_task(anext(chunks))
        await world.look(deleted=True)
        told.append(await ending)
        assert [] == [chunk async for chunk in chunks]

    names = [line.removeprefix("event: ") for line in b"".join(told).decode().splitlines() if line.startswith("event")]
    assert ["pending", "started", "delta", "completed", "pending", "failed", "deleted"] == names
    assert b'"reply":"Hi"' in told[1]
    assert str(refused).encode() not in b"".join(told)


async def test_a_gateway_that_shuts_down(world: World) -> None:
    """A stream that waits for a turn ends with a hint to reconnect."""
    async with world.open() as chunks:
        opening = asyncio.create_task(anext(chunks))
        await steps()
        world.drain.begin()
        assert [b": keep-alive\n\n", b"retry: 500\n\n"] == [await opening, *[chunk async for chunk in chunks]]


async def test_a_caller_that_loses_its_access(world: World) -> None:
    """A stream whose caller has lost its access ends with a hint to reconnect, and sends nothing further."""
    world.standing.due = 0.0
    async with world.open() as chunks:
        assert [b"retry: 500\n\n"] == [chunk async for chunk in chunks]


async def test_while_postgres_is_away(world: World) -> None:
    """A turn whose row cannot be read now is sent once it can; meanwhile the stream is kept alive."""
    world.rows.errors = 2
    first = world.rows.add()
    async with world.open() as chunks:
        opening = asyncio.create_task(anext(chunks))
        await world.look(first)
        assert [b": keep-alive\n\n"] * 2 == [await opening, await anext(chunks)]
        assert str(first).encode() in await anext(chunks)


def test_ids_of_events() -> None:
    """An event id names a request and a place in it; an id that does not is an error."""
    id = uuid4()
    assert (id, read_last_event_id("1.18")) == read_turn_event_id(f" {id}:1.18 ")
    assert (id, None) == read_turn_event_id(str(id))
    assert read_turn_event_id(None) is None
    for wrong in ("1.18", ":1.18", "x:1.18"):
        with pytest.raises(OrchestraError):
            read_turn_event_id(wrong)

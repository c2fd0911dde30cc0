import asyncio
import re
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drain import Drain
from gateway.following.cursor import StreamCursor, StreamPosition, read_last_event_id
from gateway.following.events import Hub
from gateway.following.live import Ending, LiveRequest
from gateway.following.lookup import Lookup
from gateway.following.stream import Streams, Subscription
from gateway.metrics import Metrics
from gateway.people.principal import Principal, nameless
from gateway.timings import TIMINGS, Timings
from orchestra.receipts import Receipts
from orchestra.transcript import Piece, after, before, items_of, joined, pieces_of, text_of, units_of
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import Usage
from schemas.replies import RequestError
from schemas.status import ENDINGS, Status
from tests.support.answers import TEXTS, Reading, answers
from tests.support.events import SIGNER

Told = list[tuple[str, dict[str, Any], str | None]]


def read(chunks: list[bytes]) -> Told:
    """The events in chunks, with data and id."""
    found: Told = []
    for block in b"".join(chunks).decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], orjson.loads(fields["data"]), fields.get("id")))
    return found


class Breaking(StreamCursor):
    """A cursor that keeps the errors with which its stream is broken off."""

    def __init__(self, request_id: UUID) -> None:
        super().__init__(request_id=request_id)
        self.errors: list[OrchestraError] = []

    def break_off(self, error: OrchestraError) -> list[bytes]:
        """Note the error."""
        self.errors.append(error)
        return super().break_off(error)


class Caller:
    """The answer that a client has after the events so far."""

    def __init__(self) -> None:
        self.answer = Reading()
        self.last: str | None = None
        self.names: list[str] = []

    @property
    def pieces(self) -> list[Piece]:
        return pieces_of("", self.answer.items)

    @property
    def text(self) -> str:
        return text_of(self.pieces)

    def hear(self, chunks: list[bytes]) -> None:
        for name, data, id in read(chunks):
            self.names.append(name)
            self.answer.take(name, data)
            self.last = id or self.last
            assert id is not None
            assert (name in ENDINGS) == id.endswith(".end")
            if name != "failed":
                text, units = len(self.text), units_of(self.pieces)
                place = id.split(".")[1]
                assert place == (str(text) if text == units else f"{text}-{units}")


texts_alone = st.lists(TEXTS.filter(bool).map(lambda text: Piece("text", text)), max_size=6)


def cut_up(draw: st.DataObject, pieces: list[Piece]) -> list[Piece]:
    """The same answer in other pieces."""
    places = sorted({0, units_of(pieces), *draw.draw(st.lists(st.integers(0, units_of(pieces)), max_size=6))})
    return [each for start, end in pairwise(places) for each in after(before(pieces, end), start)]


@given(attempts=st.lists(answers() | texts_alone, min_size=1, max_size=3), data=st.data())
def test_resume_anywhere(attempts: list[list[Piece]], data: st.DataObject) -> None:
    """A client cut off after any event gets the exact answer from any replica, even one that only has Postgres."""
    caller, cursor = Caller(), StreamCursor(None)
    replicas = [LiveRequest(), LiveRequest()]

    def maybe_cut() -> None:
        nonlocal cursor
        if data.draw(st.booleans()):
            cursor = StreamCursor(read_last_event_id(caller.last))
            replicas.reverse()

    for number, pieces in enumerate(attempts, 1):
        for each in replicas:
            each.begin(number)
        at = 0
        for piece in cut_up(data, pieces):
            for each in replicas:
                if data.draw(st.booleans()):  # else: this replica has lost it.
                    each.add_piece(at, piece)
            at += piece.units
            if data.draw(st.booleans()):
                caller.hear(cursor.catch_up(replicas[0]))
            maybe_cut()
        if data.draw(st.booleans()):
            replicas[0] = LiveRequest()  # Another replica, which has received no event yet.
            replicas[0].begin(number)
    reply, output = text_of(attempts[-1]), items_of(attempts[-1])
    caller.hear(cursor.end(Ending(Status.COMPLETED, len(attempts), reply, output=output)))
    assert caller.pieces == joined(attempts[-1])
    assert caller.names[-1] == "completed"
    assert caller.names.count("started") <= 1


@given(answers(), st.data())
def test_what_comes_after_a_place_is_what_is_left(pieces: list[Piece], data: st.DataObject) -> None:
    """From any unit on, before the ending and after it, a client gets exactly the pieces that it lacks."""
    place = data.draw(st.integers(0, units_of(pieces)))
    seen, live = before(pieces, place), LiveRequest()
    live.begin(1)
    at = 0
    for piece in cut_up(data, pieces):
        live.add_piece(at, piece)
        at += piece.units
    where = StreamPosition(1, len(text_of(seen)), place)
    rest = list(map(event_name, joined(after(pieces, place))))
    ending = Ending(Status.COMPLETED, 1, text_of(pieces), output=items_of(pieces))

    assert rest == [name for name, *_ in read(StreamCursor(where).catch_up(live))]
    assert [*rest, "completed"] == [name for name, *_ in read(StreamCursor(where).end(ending))]
    for events in (StreamCursor(where).catch_up(live), StreamCursor(where).end(ending)):
        caller = Caller()
        so_far = {"text": text_of(seen), "output": items_of(seen)}
        caller.answer.take("restart", {name: value for name, value in so_far.items() if value is not None})
        caller.hear(events)
        assert caller.pieces == joined(pieces)


def event_name(piece: Piece) -> str:
    names = {"text": "delta", "tool_call": "tool_call", "tool_arguments": "tool_call.delta"}
    return names.get(piece.kind, f"{piece.kind}.delta")


def test_an_answer_with_a_tool_call() -> None:
    """Each kind of piece has its event; ids count text, and all units once another piece came."""
    cursor, live = StreamCursor(None), LiveRequest()
    live.begin(1)
    told = read(cursor.catch_up(live))
    sent = [
        Piece("text", "Hi"), Piece("tool_call", "", 0, "call_1", "weather"), Piece("tool_arguments", '{"city":', 0),
        Piece("tool_arguments", " 1}", 0), Piece("tool_call", "", 1, "call_2", "time"), Piece("text", "!"),
    ]  # fmt: skip
    for piece in sent:
        live.add_piece(live.window.end, piece)
        told += read(cursor.catch_up(live))
    output = items_of(sent)
    told += read(cursor.end(Ending(Status.COMPLETED, 1, "Hi!", None, output=output, finish_reason="tool_calls")))
    assert told == [
        ("started", {"attempt": 1}, "1.0"),
        ("delta", {"text": "Hi"}, "1.2"),
        ("tool_call", {"index": 0, "call_id": "call_1", "name": "weather"}, "1.2-3"),
        ("tool_call.delta", {"index": 0, "arguments": '{"city":'}, "1.2-11"),
        ("tool_call.delta", {"index": 0, "arguments": " 1}"}, "1.2-14"),
        ("tool_call", {"index": 1, "call_id": "call_2", "name": "time"}, "1.2-15"),
        ("delta", {"text": "!"}, "1.3-16"),
        (
            "completed",
            {"reply": "Hi!", "usage": None, "finish_reason": "tool_calls", "output": output},
            "1.3-16.end",
        ),
    ]


def test_reasoning_and_a_refusal() -> None:
    """Reasoning and refusals have events of their own, and do not count as text."""
    cursor, live = StreamCursor(StreamPosition(1, 0)), LiveRequest()
    live.begin(1)
    live.add_piece(0, Piece("reasoning", "Hm"))
    live.add_piece(2, Piece("refusal", "No"))
    assert read(cursor.catch_up(live)) == [
        ("reasoning.delta", {"text": "Hm"}, "1.0-2"),
        ("refusal.delta", {"text": "No"}, "1.0-4"),
    ]


def test_a_restart_has_the_items_so_far() -> None:
    """A client with a place in another attempt gets the whole answer so far as text and items, once."""
    cursor, live = StreamCursor(StreamPosition(1, 3, 7)), LiveRequest()
    live.begin(2)
    live.add(0, "Hi")
    live.add_piece(2, Piece("tool_call", "", 0, "c", "f"))
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    expected = ("restart", {"attempt": 2, "text": "Hi", "output": [text, call]}, "2.2-3")
    assert read(cursor.catch_up(live)) == [expected]
    assert cursor.catch_up(live) == []


@pytest.mark.parametrize("place", ["1.2", "1.2-1", "1.0-3", "1.2-9", "1.3-3"])
def test_a_place_that_the_answer_does_not_have(place: str) -> None:
    """A client that says it has what is not in the answer gets all of it again."""
    pieces = [Piece("text", "H"), Piece("reasoning", "a"), Piece("text", "i")]
    cursor = StreamCursor(read_last_event_id(place))
    told = read(cursor.end(Ending(Status.COMPLETED, 1, "Hi", output=items_of(pieces))))
    assert [name for name, *_ in told] == ["restart", "completed"]


@pytest.mark.parametrize("status", sorted(ENDINGS))
def test_no_ending_shares_its_id(status: Status) -> None:
    """A client that lacks only the ending always has another event id than one that has seen it."""
    cursor, live = StreamCursor(None), LiveRequest()
    live.begin(1)
    live.add(0, "text")
    before = read(cursor.catch_up(live))[-1][2]
    ending = read(cursor.end(Ending(status, 1, "text" if status is Status.COMPLETED else None)))

    assert [(status.value, f"{before}.end")] == [(name, id) for name, _, id in ending]


@given(reply=TEXTS, attempt=st.integers(1, 3), place=st.builds(StreamPosition, st.integers(-1, 4), st.integers(0, 15)))
def test_ended(reply: str, attempt: int, place: StreamPosition) -> None:
    """An ended request continues from the client's place in its last attempt; any other client gets the whole text."""
    told = read(StreamCursor(place).end(Ending(Status.COMPLETED, attempt, reply, Usage())))
    end = f"{attempt}.{len(reply)}"
    usage = {"input_tokens": 0, "output_tokens": 0}
    expected: Told = [("completed", {"reply": reply, "usage": usage}, f"{end}.end")]
    if place.attempt != attempt or place.text > len(reply):
        expected.insert(0, ("restart", {"attempt": attempt, "text": reply}, end))
    elif place.text < len(reply):
        expected.insert(0, ("delta", {"text": reply[place.text :]}, end))
    assert told == expected


def test_replica_behind() -> None:
    """A replica that is behind what the client has seen sends nothing until it has caught up."""
    cursor, live = StreamCursor(StreamPosition(2, 3)), LiveRequest()
    live.begin(1)
    live.add(0, "old")
    assert cursor.catch_up(live) == []
    live.begin(2)
    live.add(0, "ab")
    assert cursor.catch_up(live) == []
    live.add(2, "cde")
    assert read(cursor.catch_up(live)) == [("delta", {"text": "de"}, "2.5")]


def test_restart_within_an_attempt() -> None:
    """When an attempt's text differs from what was sent, the client gets a restart with the right text."""
    cursor, live = StreamCursor(None), LiveRequest()
    live.begin(1)
    live.add(0, "wrong")
    cursor.catch_up(live)
    live.restart(1, [Piece("text", "right")])
    assert read(cursor.catch_up(live)) == [("restart", {"attempt": 1, "text": "right"}, "1.5")]
    assert cursor.catch_up(live) == []


def heard(live: LiveRequest, attempt: int, *pieces: str) -> None:
    """An unsigned event."""
    live.hearsay = True
    live.begin(attempt)
    for piece in pieces:
        live.add(live.window.end, piece)


@pytest.mark.parametrize("attempt", [1, 1_000_000])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_nobody_signed_is_no_place_to_go_on_from(attempt: int, elsewhere: bool) -> None:
    """A forged text is taken back by the first signed event, on this replica and on one that never saw it."""
    caller, cursor, live = Caller(), StreamCursor(None), LiveRequest()
    heard(live, attempt, "FORGED")
    caller.hear(cursor.catch_up(live))
    assert caller.text == "FORGED"
    if elsewhere:
        cursor, live = StreamCursor(read_last_event_id(caller.last)), LiveRequest()
    live.believe()
    live.begin(1)
    live.add(0, "a true text")
    caller.hear(cursor.catch_up(live))
    assert caller.text == "a true text"
    assert caller.last == "1.11"


@pytest.mark.parametrize(
    ("text", "names"),
    [("FORGED", ["started", "delta", "restart", "completed"]), ("a true", ["started", "delta", "delta", "completed"])],
)
def test_an_ending_takes_back_what_is_not_in_it(text: str, names: list[str]) -> None:
    """When Postgres has the ending before any signed event, unsigned text stays only if the reply begins with it."""
    caller, cursor, live = Caller(), StreamCursor(None), LiveRequest()
    heard(live, 1, text)
    caller.hear(cursor.catch_up(live))
    caller.hear(cursor.end(Ending(Status.COMPLETED, 1, "a true text")))
    assert (caller.text, caller.names, caller.last) == ("a true text", names, "1.11.end")


LIMITED = RequestError(code=ErrorCode.RATE_LIMITED, detail="not now")
WHY = {"last_error": {"code": "rate_limited", "detail": "not now"}}


def test_a_failed_attempt_is_told_at_once() -> None:
    """A stream reports the failed attempt and its error; the next attempt begins with the same error."""
    cursor, live = StreamCursor(None), LiveRequest()
    live.begin(1)
    live.add(0, "half")
    cursor.catch_up(live)
    live.fail_attempt(1, LIMITED)
    assert read(cursor.catch_up(live)) == [("restart", {"attempt": 1, "text": "", **WHY}, "1.0")]
    assert cursor.catch_up(live) == []
    live.begin(2)
    assert read(cursor.catch_up(live)) == [("restart", {"attempt": 2, "text": "", **WHY}, "2.0")]


@pytest.mark.parametrize(
    ("place", "known"), [(None, False), (StreamPosition(1, 0), True), (StreamPosition(1, 4), True)]
)
def test_who_comes_after_an_attempt_failed_is_told_why(place: StreamPosition | None, known: bool) -> None:
    """A client that connects after a failure, on any replica and from any place, gets the error once."""
    cursor, live = StreamCursor(place), LiveRequest()
    live.fail_attempt(1, LIMITED)
    started = [] if known else [("started", {"attempt": 1}, "1.0")]
    assert read(cursor.catch_up(live)) == [*started, ("restart", {"attempt": 1, "text": "", **WHY}, "1.0")]
    assert cursor.catch_up(live) == []


def test_what_failed_before_is_no_news_in_the_middle_of_an_answer() -> None:
    """A stream that resumes in a running attempt gets its text and no restart."""
    cursor, live = StreamCursor(StreamPosition(2, 1)), LiveRequest()
    live.fail_attempt(1, LIMITED)
    live.begin(2)
    live.add(0, "ab")
    assert read(cursor.catch_up(live)) == [("delta", {"text": "b"}, "2.2")]


def test_a_request_that_never_began_is_told_why() -> None:
    """A request whose model is held back gets an event without an id, and its first attempt begins as usual."""
    cursor, live = StreamCursor(None), LiveRequest()
    live.fail_attempt(0, LIMITED)
    assert read(cursor.catch_up(live)) == [("restart", {"attempt": 0, "text": "", **WHY}, None)]
    assert cursor.catch_up(live) == []
    live.begin(1)
    assert read(cursor.catch_up(live)) == [("started", {"attempt": 1}, "1.0")]


def test_no_client_finds_a_line_end_inside_of_an_event() -> None:
    """No event contains a Unicode line separator: those characters are escaped and parse back unchanged."""
    reply = "a\u2028b\u2029c\x85d\r\ne"
    chunks = StreamCursor(StreamPosition(1, 0)).end(Ending(Status.COMPLETED, 1, reply, Usage()))
    lines = b"".join(chunks).decode().splitlines()

    assert lines == b"".join(chunks).decode().split("\n")[:-1]
    assert [event[1].get("text", event[1].get("reply")) for event in read(chunks)] == [reply, reply]


def test_why_an_answer_ended() -> None:
    """`completed` gives the finish reason; for a reply stored by an older release there is none."""
    usage = {"input_tokens": 0, "output_tokens": 0}
    for reason, more in (("length", {"finish_reason": "length"}), (None, {})):
        ending = Ending(Status.COMPLETED, 1, "a", Usage(), finish_reason=reason)  # type: ignore[arg-type]
        assert read(StreamCursor(StreamPosition(1, 1)).end(ending)) == [
            ("completed", {"reply": "a", "usage": usage, **more}, "1.1.end")
        ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("1.0", StreamPosition(1, 0)),
        ("12.345", StreamPosition(12, 345)),
        ("12.345.end", StreamPosition(12, 345, ended=True)),
        (" 1.0.end ", StreamPosition(1, 0, ended=True)),
        ("1.5-9", StreamPosition(1, 5, 9)),
        ("1.5-9.end", StreamPosition(1, 5, 9, ended=True)),
        ("1.5-", StreamPosition(-1, 0)),
        ("1.5-9-9", StreamPosition(-1, 0)),
        ("1.5--9", StreamPosition(-1, 0)),
        ("1-5.9", StreamPosition(-1, 0)),
        ("1.5-9.unsigned", StreamPosition(-1, 0)),
        ("1.5.unsigned", StreamPosition(-1, 0)),
        ("x.end", StreamPosition(-1, 0)),
        (".end", StreamPosition(-1, 0)),
        ("1.2.END", StreamPosition(-1, 0)),
        ("1.2.end.end", StreamPosition(-1, 0)),
        ("x", StreamPosition(-1, 0)),
        ("1", StreamPosition(-1, 0)),
        ("-1.0", StreamPosition(-1, 0)),
        ("1.99999999999999999999", StreamPosition(-1, 0)),
    ],
)
def test_last_event_id(text: str | None, expected: StreamPosition | None) -> None:
    """An event id is read back as it was sent; any other id means a client that needs the whole text again."""
    assert read_last_event_id(text) == expected


class Lasting:
    """An access check that always passes, or fails the next time."""

    def __init__(self, caller: Principal | None = None, *, lasts: bool = True) -> None:
        self.caller = caller or nameless()
        self.due = float("inf") if lasts else 0.0

    async def check(self) -> None:
        raise OrchestraError(ErrorCode.UNAUTHORIZED)


HERS: Any = Lasting()


def make_streams(hub: Hub, drain: Drain, timings: Timings = TIMINGS) -> Streams:
    lookup = Lookup(None, Receipts([b"x" * 32]))  # type: ignore[arg-type]  # not asked
    return Streams(hub, lookup, drain, hub._metrics, timings=timings)


def test_forged_pieces_are_taken_back() -> None:
    """Unsigned pieces give no place to resume from, and stay only if the answer begins with them."""
    call, pieces = (
        Piece("tool_call", "", 0, "c", "f"),
        [Piece("tool_call", "", 0, "c", "f"), Piece("tool_arguments", "{}")],
    )
    for forged, names in ((call, ["completed"]), (replace(call, name="g"), ["restart", "completed"])):
        cursor, live = StreamCursor(None), LiveRequest()
        live.hearsay = True
        live.begin(1)
        live.add_piece(0, forged)
        assert read(cursor.catch_up(live))[-1][2] == "1.0-1.unsigned"
        told = read(cursor.end(Ending(Status.COMPLETED, 1, "", output=items_of(pieces))))
        assert [name for name, *_ in told if name != "tool_call.delta"] == names


async def test_keep_alive() -> None:
    """A stream without events sends keep-alive comments."""
    hub, ref = Hub(Metrics(), 2**20, SIGNER), ("default", uuid4())
    response = make_streams(hub, Drain(), Timings(keep_alive=0.01)).open(
        Subscription(ref, StreamCursor(request_id=ref[1])), HERS
    )
    async with aclosing(response.body_iterator) as chunks:  # type: ignore[type-var]
        first = await anext(chunks)
        assert re.fullmatch(
            rb'event: pending\ndata: {"request_id":"%b","conversation_id":null}\n\n' % str(ref[1]).encode(), first
        )
        assert [await anext(chunks), await anext(chunks)] == [b": keep-alive\n\n"] * 2
        assert [ref] == list(hub._watched)
    assert not hub._watched


async def test_a_stream_without_news_ends() -> None:
    """A stream with a limit on its silence ends, that long after its last event, with what has delayed the answer."""
    hub, ref = Hub(Metrics(), 2**20, SIGNER), ("default", uuid4())
    subscription = Subscription(ref, writer := Breaking(ref[1]))
    response = make_streams(hub, Drain()).open(subscription, HERS, patience=0.01)
    with hub.watch(ref) as live:
        live.fail_attempt(1, RequestError(code=ErrorCode.OVERLOADED, detail="full"))
        chunks = [chunk async for chunk in response.body_iterator]

    assert [ErrorCode.STILL_RUNNING] == [error.code for error in writer.errors]
    assert "overloaded: full" in writer.errors[0].detail
    assert chunks[-1] == b"retry: 500\n\n"


async def test_slow_caller() -> None:
    """A client that does not read costs no extra memory; what it missed comes as one event."""
    hub, ref = Hub(Metrics(), 2**20, SIGNER), ("default", uuid4())
    response = make_streams(hub, Drain()).open(Subscription(ref, StreamCursor(request_id=ref[1])), HERS)
    async with aclosing(response.body_iterator) as chunks:  # type: ignore[type-var]
        await anext(chunks)
        with hub.watch(ref) as live:
            live.begin(1)
            for at in range(1000):
                live.add(at, "x")
        assert [name for name, *_ in read([await anext(chunks)])] == ["started", "delta"]


async def test_drain() -> None:
    """On shutdown open streams are asked to reconnect; one whose request has ended still gets the ending."""
    hub, drain, ref = Hub(Metrics(), 2**20, SIGNER), Drain(), ("default", uuid4())
    drain.on_begin(hub.wake_all)

    async def collect(following: Subscription) -> list[Any]:
        return [chunk async for chunk in make_streams(hub, drain).open(following, HERS).body_iterator]

    streaming = asyncio.create_task(collect(Subscription(ref, StreamCursor(request_id=ref[1]))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    drain.begin()
    assert (await streaming)[1:] == [b"retry: 500\n\n"]
    ended = await collect(Subscription(ref, StreamCursor(request_id=ref[1]), ending=Ending(Status.CANCELLED, 1)))
    assert ended[1:] == [b"id: 1.0.end\nevent: cancelled\ndata: {}\n\n"]


async def test_who_lost_their_rights() -> None:
    """A stream whose caller loses its access ends with a reconnect hint and sends nothing further."""
    hub, ref, standing = Hub(Metrics(), 2**20, SIGNER), ("default", uuid4()), Lasting()
    response = make_streams(hub, Drain()).open(Subscription(ref, StreamCursor(request_id=ref[1])), standing)  # type: ignore[arg-type]
    async with aclosing(response.body_iterator) as chunks:  # type: ignore[type-var]
        await anext(chunks)
        with hub.watch(ref) as live:
            live.begin(1)
            live.add(0, "x")
        assert [name for name, *_ in read([await anext(chunks)])] == ["started", "delta"]
        standing.due = 0.0
        with hub.watch(ref) as live:
            live.add(1, "secret")
        assert [chunk async for chunk in chunks] == [b"retry: 500\n\n"]


async def test_one_owner_has_so_many_streams_and_no_more() -> None:
    """An owner at the limit gets no further stream until one ends; other owners do."""
    hub, ref = Hub(Metrics(), 2**20, SIGNER), ("default", uuid4())
    lookup = Lookup(None, Receipts([b"x" * 32]))  # type: ignore[arg-type]  # not asked
    streams, ada, bob = Streams(hub, lookup, Drain(), hub._metrics, 2), nameless("ada"), nameless("bob")
    opened = [
        streams.open(Subscription(ref, StreamCursor(request_id=ref[1])), Lasting(ada)).body_iterator for _ in range(2)
    ]
    for chunks in opened:
        streams.check(ada)
        await anext(chunks)

    with pytest.raises(OrchestraError) as caught:
        streams.check(ada)

    assert ErrorCode.TOO_MANY_STREAMS is caught.value.code
    streams.check(bob)
    await opened[0].aclose()  # type: ignore[union-attr]
    streams.check(ada)
    await opened[1].aclose()  # type: ignore[union-attr]
    assert not streams._open

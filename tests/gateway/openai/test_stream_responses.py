"""Promises of gateway/openai/stream_responses.py: equal events, equal numbers, by the rules of OpenAI's clients."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import Field, TypeAdapter

from gateway.following.events import Hub
from gateway.following.live import Ending, LiveRequest
from gateway.metrics import Metrics
from gateway.openai.answer import DONE
from gateway.openai.items import output_items
from gateway.openai.response_object import AskedFor
from gateway.openai.stream_responses import NUMBERS, Event, Narration, ResponseWriter
from orchestra.store.requests import StoredRequest
from orchestra.store.turns import RequestRef
from orchestra.transcript import Piece, after, before, items_of, joined, text_of, units_of
from schemas.api.requests import RequestResource
from schemas.errors import ErrorCode, OrchestraError
from schemas.events import COMPLETED, DELTA, RESTART, STARTED
from schemas.generation import FinishReason, Usage
from schemas.openai.responses import ResponseObject, ResponseStatus
from schemas.replies import RequestError
from schemas.status import Status
from tests.support.answers import answers
from tests.support.events import SIGNER, tell

ID = UUID("019b0a52-c1d8-8d3e-9f0a-4b6c8d2e1f30")
STRICT: TypeAdapter[Any] = TypeAdapter(Annotated[ResponseStreamEvent, Field(discriminator="type")])
WORDS = st.text(st.sampled_from("ab \n.é日"), max_size=200)
REASONS = st.sampled_from(["stop", "length", "content_filter", "tool_calls"])


def long_answers() -> st.SearchStrategy[list[Piece]]:
    """Answers of short and of long texts."""
    text = st.builds(Piece, st.sampled_from(["text", "refusal", "reasoning"]), WORDS.filter(bool))
    call = WORDS.map(lambda arguments: [Piece("tool_call", "", 0, "call_0", "a"), Piece("tool_arguments", arguments)])
    return answers() | st.lists(text, max_size=4) | call


def asked(*, background: bool = False) -> AskedFor:
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "asked": {"background": True} if background else {},
    }
    return AskedFor(ID, ID, body, None, 1_795_000_000, "simulated")


def writer(*, background: bool = False, last: int | None = None) -> ResponseWriter:
    of = asked(background=background)

    def show(what: Ending | ResponseStatus) -> ResponseObject:
        return of.ended(what, 7) if isinstance(what, Ending) else of.shown(what)

    return ResponseWriter(ID, show, background=background, after=last)


def ended(pieces: Sequence[Piece], attempt: int = 1, reason: FinishReason = "stop") -> Ending:
    usage = Usage(input_tokens=3, output_tokens=5)
    return Ending(
        Status.COMPLETED,
        attempt,
        text_of(pieces),
        usage,
        finish_reason=reason,
        output=items_of(pieces),  # type: ignore[arg-type]
    )


def read(chunks: list[bytes]) -> list[dict[str, Any]]:
    """The events in chunks, without the end of the stream. Their names are their types."""
    found = []
    for block in b"".join(chunks).removesuffix(DONE).decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def assert_twice(event: dict[str, Any], code: str, message: str) -> None:
    """An error is in its event as OpenAI documents it, and below `error`, where its libraries look for it."""
    said = {"code": code, "message": message, "param": None}
    sent = {**said, "type": "error", "sequence_number": event["sequence_number"]}
    assert event == {**sent, "error": {**said, "type": "failed_dependency"}}


def cut(pieces: list[Piece], places: list[int]) -> list[Piece]:
    """The same answer, in pieces that end at these places, too."""
    ends = sorted({place for place in places if place < units_of(pieces)} | {0, units_of(pieces)})
    return [piece for start, end in pairwise(ends) for piece in after(before(pieces, end), start)]


def live(pieces: Sequence[Piece], attempt: int = 1) -> LiveRequest:
    found = LiveRequest()
    found.signed = True
    found.begin(attempt)
    for piece in pieces:
        found.window.append(piece)
    return found


def whole(pieces: Sequence[Piece], **more: Any) -> list[dict[str, Any]]:
    """All events of an answer, as a gateway replays them."""
    background = more.pop("background", False)
    return read(writer(background=background).end(ended(pieces, **more)))


def narrate(pieces: Sequence[Piece]) -> list[Event]:
    narration = Narration(ID, 0)
    return [event for piece in pieces for event in narration.take(piece)] + list(narration.finish("stop"))


@given(long_answers(), st.lists(st.integers(0, 300), max_size=20), REASONS, st.booleans())
def test_live_and_replayed_events_are_the_same(
    pieces: list[Piece], places: list[int], reason: FinishReason, background: bool
) -> None:
    """However an answer arrives, a client that follows it gets exactly the events that a later one gets."""
    following, heard, so_far = writer(background=background), [], LiveRequest()
    so_far.signed = True
    heard += following.begin(so_far)
    so_far.begin(1)
    for piece in cut(pieces, places):
        heard += following.catch_up(so_far)
        so_far.window.append(piece)
    heard += following.catch_up(so_far)
    heard += following.end(ended(pieces, reason=reason))

    assert read(heard) == whole(pieces, reason=reason, background=background)


@given(long_answers(), st.integers(1, 3), st.booleans())
def test_numbers_are_contiguous(pieces: list[Piece], attempt: int, background: bool) -> None:
    """The events of an attempt are numbered one by one, from the first number of that attempt."""
    numbers = [event["sequence_number"] for event in whole(pieces, attempt=attempt, background=background)]

    first = (attempt - 1) * NUMBERS
    assert numbers == list(range(first, first + len(numbers)))


@given(long_answers(), st.lists(st.integers(0, 300), max_size=5))
def test_a_resumed_stream_is_the_tail(pieces: list[Piece], places: list[int]) -> None:
    """A client that resumes behind any event gets exactly those after it, live or later."""
    events = whole(pieces)

    for at, event in enumerate(events):
        number = event["sequence_number"]
        assert read(writer(last=number).end(ended(pieces))) == events[at + 1 :]
        resumed, heard = writer(last=number), []
        for place in sorted(places):
            heard += resumed.catch_up(live(before(pieces, place)))
        heard += resumed.end(ended(pieces))
        assert read(heard) == events[at + 1 :]


@given(long_answers(), REASONS)
def test_events_follow_the_grammar(pieces: list[Piece], reason: FinishReason) -> None:
    """Every event has the fields of the SDK's types; items and parts open, grow and close in order, with equal ids."""
    events = whole(pieces, reason=reason)
    final = events[-1]["response"]
    texts: dict[tuple[int, int], str] = {}
    opened: list[dict[str, Any]] = []
    closed: list[dict[str, Any]] = []

    assert ["response.created", "response.in_progress"] == [event["type"] for event in events[:2]]
    assert events[-1]["type"] == f"response.{final['status']}"
    for event in events:
        STRICT.validate_python(event, strict=True)
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert len(opened) == len(closed) == event["output_index"]
                assert not event["item"].get("content")
                assert event["item"]["status"] == "in_progress"
                opened.append(event["item"])
            case "output_item.done":
                assert len(opened) == len(closed) + 1 == event["output_index"] + 1
                assert event["item"]["id"] == opened[-1]["id"]
                closed.append(event["item"])
            case name if name.endswith(".delta"):
                place = event["output_index"], event.get("content_index", 0)
                assert event["item_id"] == opened[-1]["id"]
                assert place[0] == len(closed)
                assert event["delta"]
                texts[place] = texts.get(place, "") + event["delta"]
            case name if name.endswith(".done") and "part" not in name:
                place = event["output_index"], event.get("content_index", 0)
                text = next(event[key] for key in ("text", "refusal", "arguments") if key in event)
                assert texts.get(place, "") == text
    assert closed == final["output"]
    assert closed == output_items(ID, text_of(pieces), items_of(pieces), incomplete=final["status"] == "incomplete")  # type: ignore[arg-type]


@given(long_answers())
def test_the_sdk_builds_the_answer(pieces: list[Piece]) -> None:
    """OpenAI's own accumulator takes every stream, and has the whole text and all arguments in the end."""
    state: Any = ResponseStreamState(input_tools=[], text_format=omit)
    for event in whole(pieces):
        state.handle_event(STRICT.validate_python(event))

    final = state._completed_response
    assert final.output_text == text_of(pieces)
    calls = [item.arguments for item in final.output if item.type == "function_call"]
    told = joined(pieces)
    arguments = {piece.index: piece.text for piece in told if piece.kind == "tool_arguments"}
    assert calls == [arguments.get(piece.index, "") for piece in told if piece.kind == "tool_call"]


@given(st.text(st.sampled_from("ab \n.é日"), min_size=1, max_size=400))
def test_deltas_are_words(text: str) -> None:
    """A delta ends where a word has ended, or where one is too long."""
    deltas = [event.data["delta"] for event in narrate([Piece("text", text)]) if event.type.endswith(".delta")]

    assert "".join(deltas) == text
    assert all(len(delta) <= 128 and not delta.strip()[1:-1].count(" ") for delta in deltas)
    assert len(deltas) <= text.count(" ") + text.count("\n") + math.ceil(len(text))


def test_a_huge_answer_stays_within_the_numbers_of_its_attempt() -> None:
    """The longest answer of the shortest words has fewer events than an attempt has numbers, and loses nothing."""
    text = "a " * (2 * 1024 * 1024)

    deltas = [event for event in narrate([Piece("text", text)]) if event.type.endswith(".delta")]

    assert len(deltas) < NUMBERS // 2
    assert "".join(event.data["delta"] for event in deltas) == text


def test_words_are_told_as_soon_as_the_next_one_begins() -> None:
    """A live client gets a word when the next one has begun, and the last one with the ending."""
    following = writer()

    first = read(following.catch_up(live([Piece("text", "one two thr")])))
    last = read(following.end(ended([Piece("text", "one two three")])))

    assert ["one ", "two "] == [event["delta"] for event in first if "delta" in event]
    assert ["three"] == [event["delta"] for event in last if "delta" in event]


def test_a_restart_after_text_ends_the_stream() -> None:
    """When an attempt fails after text was sent, the stream ends with an error, and a resume replays the next one."""
    following = writer()
    events = read(following.catch_up(live([Piece("text", "one two")])))

    told = read(following.catch_up(live([Piece("text", "uno due")], attempt=2)))
    again = read(writer(last=events[-1]["sequence_number"]).end(ended([Piece("text", "uno due")], attempt=2)))

    [error] = told
    assert_twice(error, "answer_restarted", "the answer started over; resume to get it from its beginning")
    assert following.closed
    assert not following.end(ended([Piece("text", "uno due")], attempt=2))
    assert again == whole([Piece("text", "uno due")], attempt=2)
    assert ("response.created", NUMBERS) == (again[0]["type"], again[0]["sequence_number"])


def test_a_restart_before_text_is_not_noticed() -> None:
    """When an attempt fails before anything of the answer was sent, the stream goes on with the next one's numbers."""
    following = writer()
    heads = read(following.begin(live([])))

    rest = read(following.end(ended([Piece("text", "uno")], attempt=3)))

    assert ["response.created", "response.in_progress"] == [event["type"] for event in heads]
    assert rest == whole([Piece("text", "uno")], attempt=3)[2:]


class Listener:
    """A client that resumes behind the last number that it has; each attempt replaces its text."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.text = ""
        self.completed = ""

    def hear(self, chunks: list[bytes]) -> None:
        for event in read(chunks):
            before, self.last = -1 if self.last is None else self.last, event["sequence_number"]
            if event["type"] == "error":
                assert ("answer_restarted", before + 1) == (event["code"], self.last)
                continue
            if begins := self.last // NUMBERS > before // NUMBERS:
                self.text = ""
            assert self.last == before + 1 or (begins and self.last % NUMBERS <= 3)
            if event["type"] == "response.output_text.delta":
                self.text += event["delta"]
            if event["type"] == "response.completed":
                self.completed = "".join(part["text"] for part in event["response"]["output"][0]["content"])


Record = tuple[str, dict[str, Any], RequestResource]


def written(texts: list[str], data: st.DataObject) -> list[Record]:
    """What workers write of a request whose last attempt is answered, each record with the row that is there by then.

    The attempts before it fail, or their workers die. A producer that is replaced repeats what was not acknowledged.
    """
    log: list[Record] = []
    why = {"code": "timeout", "detail": "the model was silent"}
    for attempt, text in enumerate(texts, 1):
        runs = RequestResource(id=ID, status=Status.IN_PROGRESS, conversation_id=ID, attempts=attempt)
        own: list[Record] = [(STARTED, {"attempt": attempt, "conversation_id": str(ID)}, runs)]
        at = 0
        for piece in cut([Piece("text", text)], data.draw(st.lists(st.integers(0, len(text)), max_size=4))):
            own.append((DELTA, {"attempt": attempt, "at": at, "text": piece.text}, runs))
            at += piece.units
        if attempt == len(texts):
            ended = runs.model_copy(update={"status": Status.COMPLETED, "reply": text})
            own.append((COMPLETED, {"attempt": attempt, "reply": text}, ended))
        elif data.draw(st.booleans()):
            waits = runs.model_copy(update={"status": Status.PENDING, "last_error": RequestError.model_validate(why)})
            own.append((RESTART, {"attempt": attempt, "text": "", "last_error": why}, waits))
        again = data.draw(st.integers(0, len(own)))
        log += own + [(kind, value, own[-1][2]) for kind, value, _ in own[again:]]
    return log


LINES = st.lists(st.sampled_from(["a ", "bc ", "d\n"]), min_size=3, max_size=8).map("".join)


@given(st.lists(LINES, min_size=1, max_size=3), st.data())
def test_no_order_of_events_tells_a_text_twice(texts: list[str], data: st.DataObject) -> None:
    """A client that is cut off anywhere, and resumes at gateways that lag, has the text of the last attempt, once."""
    log, ref, metrics = written(texts, data), RequestRef("default", ID), Metrics()
    gateways = [Hub(metrics, 10**6, SIGNER), Hub(metrics, 10**6, SIGNER)]
    read_up_to, client, now = [0, 0], Listener(), 0
    with gateways[0].watch(ref) as one, gateways[1].watch(ref) as other:
        live, here, following = [one, other], 0, writer(background=True)
        while not client.completed:
            now = min(len(log), now + data.draw(st.integers(1, 3)))
            for at, gateway in enumerate(gateways):
                until = data.draw(st.integers(read_up_to[at], now)) if now < len(log) else now
                for kind, value, _ in log[read_up_to[at] : until]:
                    tell(gateway, kind, ID, **value)
                read_up_to[at] = until
                if now and data.draw(st.booleans()):
                    gateway.learn(ref, StoredRequest(log[now - 1][2], "hash"))
            ending = live[here].ending
            client.hear(following.end(ending) if ending else following.catch_up(live[here]))
            if following.closed or (not client.completed and data.draw(st.booleans())):
                here = data.draw(st.integers(0, 1))
                following = writer(background=True, last=client.last)

    assert (texts[-1], texts[-1]) == (client.completed, client.text)


def test_a_gateway_that_is_behind_tells_no_text_of_an_earlier_attempt() -> None:
    """A gateway that learns of the ending while it knows an earlier attempt's text tells the stored answer alone."""
    behind = live([Piece("text", "one two")])
    behind.finish(ended([Piece("text", "uno due tre")], attempt=2))
    following = writer()

    told = read(following.begin(behind))
    assert behind.ending
    told += read(following.end(behind.ending))

    assert told == whole([Piece("text", "uno due tre")], attempt=2)


@pytest.mark.parametrize(("background", "last"), [(False, 0), (False, 1), (True, 0), (True, 1), (True, 2)])
@pytest.mark.parametrize("first", [0, 1])
def test_a_restart_repeats_no_head_that_a_resumed_client_has(background: bool, last: int, first: int) -> None:
    """A client that resumed among the heads gets each head once, although the answer starts over before its text."""
    heads = [event["type"] for event in whole([Piece("text", "uno")], background=background)][: 2 + background]
    following = writer(background=background, last=last)
    told = read(following.catch_up(live([], attempt=first) if first else LiveRequest()))

    told += read(following.end(ended([Piece("text", "uno")], attempt=3)))

    assert heads[last + 1 :] == [event["type"] for event in told[: len(heads) - last - 1]]
    assert "response.output_item.added" == told[len(heads) - last - 1]["type"]


@pytest.mark.parametrize("background", [True, False])
def test_queued_is_told_of_background_only(background: bool) -> None:
    """A background response tells that it is queued, whatever the timing; no other one does."""
    names = [event["type"] for event in whole([Piece("text", "a")], background=background)]

    assert ("response.queued" in names) == background


@pytest.mark.parametrize("told", ["", "one two three"])
def test_a_failure_ends_the_stream(told: str) -> None:
    """A failed response ends with `error` and `response.failed`, also for a client that has seen text that is void."""
    error = RequestError(code=ErrorCode.TIMEOUT, detail="the model was silent")
    failed = Ending(Status.FAILED, 1, error=error)
    following = writer()
    events = read(following.catch_up(live([Piece("text", told)] if told else [])) + following.end(failed))
    resumed = read(writer(last=events[-3]["sequence_number"]).end(failed))

    assert resumed == events[-2:]
    assert [event["type"] for event in resumed] == ["error", "response.failed"]
    assert_twice(events[-2], "timeout", f"the model was silent (request resp_{ID.hex})")
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "timeout: the model was silent"}
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_a_cancelled_stream_just_ends() -> None:
    """No event says that a response was cancelled: the stream ends."""
    following = writer()
    following.catch_up(live([Piece("text", "one two")]))

    assert following.end(Ending(Status.CANCELLED, 1)) == [DONE]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED])
def test_done_comes_last(status: Status) -> None:
    """A stream ends with `[DONE]` if its response has ended, also for a client that has all events."""
    ending = replace(ended([Piece("text", "one two")]), status=status)

    for last in (None, NUMBERS - 1):
        told = writer(last=last).end(ending)
        assert (told[-1], b"".join(told).count(DONE)) == (DONE, 1)


def test_a_stream_that_is_broken_off_is_not_done() -> None:
    """No `[DONE]` follows an error after which the response goes on."""
    following, restarted = writer(), writer()
    restarted.catch_up(live([Piece("text", "one two")]))

    told = following.break_off(OrchestraError(ErrorCode.STILL_RUNNING))
    told += restarted.end(ended([Piece("text", "uno due")], attempt=2))

    assert [event["code"] for event in read(told)] == ["still_running", "answer_restarted"]
    assert DONE not in told


def test_an_interruption_takes_no_number() -> None:
    """A client that resumes behind the error of a gateway that shuts down misses nothing."""
    following, pieces = writer(), [Piece("text", "one two three")]
    events = read(following.catch_up(live(before(pieces, 9))))

    [error] = read(following.break_off(OrchestraError(ErrorCode.STILL_RUNNING, "later")))

    assert_twice(error, "still_running", f"later (request resp_{ID.hex})")
    rest = read(writer(last=error["sequence_number"]).end(ended(pieces)))
    assert events + rest == whole(pieces)


def test_the_error_of_a_stream() -> None:
    """An error has its fields twice: flat as OpenAI documents them, and in `error`, for which its libraries raise."""
    following, restarted = writer(), writer()
    restarted.catch_up(live([Piece("text", "one two")]))
    told = following.break_off(OrchestraError(ErrorCode.STILL_RUNNING, "it goes on"))
    told += restarted.catch_up(live([Piece("text", "uno due")], attempt=2))

    for event in read(told):
        within = event["error"]
        assert within.keys() == {"type", "code", "message", "param"}
        assert within["type"] == "failed_dependency"
        assert {name: event[name] for name in ("code", "message", "param")}.items() <= within.items()


def test_what_nobody_signed_is_not_told() -> None:
    """Text of unsigned events is not shown: it may be forged, and its numbers would stay."""
    forged = live([Piece("text", "one two")])
    forged.signed, forged.hearsay = False, True

    assert ["response.created"] == [event["type"] for event in read(writer().catch_up(forged))]


def test_ids_of_items_do_not_depend_on_the_attempt() -> None:
    """The items of an answer have the same ids whatever attempt gave it."""
    one, two = (whole([Piece("text", "a")], attempt=attempt)[-1]["response"]["output"] for attempt in (1, 2))

    assert one == two


def test_a_gateway_that_joined_late_waits_for_the_ending() -> None:
    """A gateway that lacks the beginning of the answer tells nothing of it until it knows the whole."""
    joined_late = live([])
    joined_late.window.add(100, "later text")
    following = writer()

    assert ["response.created", "response.in_progress"] == [e["type"] for e in read(following.catch_up(joined_late))]
    pieces = [Piece("text", "x" * 100 + "later text")]
    assert read(following.end(replace(ended(pieces)))) == whole(pieces)[2:]

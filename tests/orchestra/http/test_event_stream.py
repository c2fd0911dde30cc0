"""Promises of orchestra/http/event_stream.py: event streams are read by the standard, however bytes are cut."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from orchestra.http.event_stream import EventStream, EventTooLongError, SseEvent

BOM = "\ufeff"
# What str.splitlines takes for the end of a line, and an event stream does not.
TEXT_BREAKS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def read(*chunks: bytes) -> list[SseEvent]:
    stream = EventStream()
    return [event for chunk in chunks for event in stream.feed(chunk)]


def reference(document: bytes) -> list[SseEvent]:
    """A whole stream at once, written down from the standard, step by step, with no thought of speed."""
    text = document.decode("utf-8", "replace").removeprefix(BOM)
    *lines, _unfinished = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found, data, name, id = [], "", "", ""
    for line in lines:
        if line == "":
            if data != "":
                found.append(SseEvent(name or "message", data.removesuffix("\n"), id))
            data = name = ""
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "event":
                    name = value
                case "data":
                    data += value + "\n"
                case "id" if "\0" not in value:
                    id = value
    return found


@pytest.mark.parametrize(
    ("document", "events"),
    [
        ("data: a\n\n", [("message", "a", "")]),
        ("data:a\r\n\r\n", [("message", "a", "")]),
        ("data: a\r\r", [("message", "a", "")]),
        ("data:  a \n\n", [("message", " a ", "")]),
        ("data: a\ndata: b\ndata\ndata:c\n\n", [("message", "a\nb\n\nc", "")]),
        ("event: x\ndata: a\n\ndata: b\n\n", [("x", "a", ""), ("message", "b", "")]),
        ("event: x\n\ndata: b\n\n", [("message", "b", "")]),
        ("data\n\n", [("message", "", "")]),
        ("data: a\n", []),
        ("data: a", []),
        (": a comment\n\n:\ndata: a\n\n", [("message", "a", "")]),
        ("id: 1\ndata: a\n\ndata: b\n\n", [("message", "a", "1"), ("message", "b", "1")]),
        ("id: 1\ndata: a\n\nid\ndata: b\n\n", [("message", "a", "1"), ("message", "b", "")]),
        ("id: 1\n\ndata: a\n\n", [("message", "a", "1")]),
        ("id: 1\nid: a\0b\ndata: a\n\n", [("message", "a", "1")]),
        ("Data: a\ndata : b\n data: c\n\n", []),
        ("colour: blue\ndata: a:b\n\n", [("message", "a:b", "")]),
        (BOM + "data: a\n\n", [("message", "a", "")]),
        (BOM + BOM + "data: a\n\n", []),
        ("\n" + BOM + "data: a\n\n", []),
        (BOM + "\ndata: a\n\n", [("message", "a", "")]),
        (f"data: {BOM}a\n\n", [("message", f"{BOM}a", "")]),
        (f"data: a{TEXT_BREAKS}b\n\n", [("message", f"a{TEXT_BREAKS}b", "")]),
        ("event: \N{FOX FACE}\nid: ü\ndata: \N{FOX FACE}\n\n", [("\N{FOX FACE}", "\N{FOX FACE}", "ü")]),
    ],
)  # fmt: skip
def test_the_rules_of_the_standard_hold(document: str, events: list[tuple[str, str, str]]) -> None:
    """Each rule of the standard, read at once and byte by byte."""
    encoded = document.encode()

    assert events == read(encoded)
    assert events == read(*(encoded[at : at + 1] for at in range(len(encoded))))


@pytest.mark.parametrize("ends", list(product(["\r", "\n", "\r\n"], repeat=3)))
def test_line_ends_may_be_cut_anywhere(ends: tuple[str, str, str]) -> None:
    """Every mixture of line ends, cut in two at every place, with and without an empty read in between."""
    first, second, third = ends
    document = f"event: e{first}data: a{second}{third}data: b\n\n".encode()
    whole = reference(document)

    for at in range(len(document) + 1):
        assert whole == read(document[:at], document[at:])
        assert whole == read(document[:at], b"", document[at:])


def test_an_event_is_told_with_the_byte_that_finishes_it() -> None:
    """A CR ends a line at once: nothing waits for a LF that may never come."""
    stream = EventStream()

    assert [] == stream.feed(b"data: a\r")
    assert ["a"] == [event.data for event in stream.feed(b"\r")]
    assert [] == stream.feed(b"\ndata: b\n")
    assert ["b"] == [event.data for event in stream.feed(b"\n")]


def test_broken_characters_are_replaced() -> None:
    """Bytes that are no UTF-8 become U+FFFD, and lose nothing around them."""
    assert [("message", "a\ufffdb\ufffd", "\ufffd")] == read(b"id: \xff\ndata: a\xf0\x9fb\xe2\x80\n\n")


def test_the_time_to_wait_is_read() -> None:
    """``retry`` is kept where it is a number, and makes no event."""
    stream = EventStream()

    assert ([], None) == (stream.feed(b"retry: soon\n\n"), stream.retry)
    assert ([], 500) == (stream.feed(b"retry: 500\n\nretry: 1" + b"0" * 5000 + b"\n\n"), stream.retry)


@pytest.mark.parametrize(
    ("rest", "event"),
    [(b"", None), (b"event: x\n", None), (b"event: x\ndata: a", ("x", "a", "")), (b"data: a\n", ("message", "a", ""))],
)
def test_what_no_empty_line_has_finished_can_be_had(rest: bytes, event: tuple[str, str, str] | None) -> None:
    """At its end a stream gives out what is left, once, to a reader who wants it."""
    stream = EventStream()
    assert ["whole"] == [event.data for event in stream.feed(b"data: whole\n\n" + rest)]

    assert event == stream.rest()
    assert stream.rest() is None


@pytest.mark.parametrize("piece", [b"x", b"data: ", b"data: x\n", b"data\n", b"event: x"])
@pytest.mark.parametrize("times", [1, 1000])
def test_an_endless_event_is_an_error(piece: bytes, times: int) -> None:
    """Whatever a line or an event is made of, and however it comes, it has a limit."""
    stream = EventStream(max_bytes=5000)
    with pytest.raises(EventTooLongError):
        for _ in range(5001):
            stream.feed(piece * times)


@pytest.mark.parametrize("before", [b"", BOM.encode(), b"data: a\n", b"\n"])
@pytest.mark.parametrize("piece", [b":", b": comment ", b":" * 100_000])
def test_a_comment_has_no_limit_and_takes_no_room(piece: bytes, before: bytes) -> None:
    """However long it is, and however it comes, the event around or behind it is read."""
    stream = EventStream(max_bytes=5000)
    stream.feed(before + b":")
    for _ in range(6000):
        assert [] == stream.feed(piece)
        assert len(stream._line) < 10

    (event,) = stream.feed(b"\ndata: b\n\n")
    assert event.data.endswith("b")
    assert [] == stream.feed(b":" * 6000 + b"\n\n")


def test_events_up_to_the_limit_are_read() -> None:
    """The limit is one of single events and lines, not of the stream."""
    stream = EventStream(max_bytes=5000)

    for _ in range(100):
        assert [4994] == [len(event.data) for event in stream.feed(b"data: " + b"x" * 4994 + b"\n\n")]
        assert [] == stream.feed(b": comment\n" * 1000)


_FIELDS = st.sampled_from(["data", "event", "id", "retry", "", " data", "colour", BOM, "data:", "event:x"])
_TEXTS = st.text(st.sampled_from(f"ab: 1\0\N{FOX FACE}ü{BOM}{TEXT_BREAKS}"), max_size=6)
_LINES = st.builds(
    "{}{}{}{}".format, _FIELDS, st.sampled_from([":", ": ", ""]), _TEXTS, st.sampled_from(["\n", "\r", "\r\n"])
)
_DOCUMENTS = st.lists(_LINES | st.sampled_from(["\n", "\r", "\r\n", "\n\n"]), max_size=20).map("".join)


@given(_DOCUMENTS.map(str.encode) | st.binary(max_size=60), st.lists(st.integers(0, 200), max_size=20))
def test_every_stream_is_read_as_the_standard_does(document: bytes, cuts: list[int]) -> None:
    """Any bytes, cut anywhere, are the events that a reading of the whole, step by step, finds."""
    places = [0, *sorted(min(cut, len(document)) for cut in cuts), len(document)]

    assert reference(document) == read(*(document[start:end] for start, end in pairwise(places)))


_LINE = st.builds("{}: {}\n".format, st.sampled_from(["data", "event", "colour", ""]), _TEXTS)
_BLOCK = st.tuples(st.lists(_LINE), _TEXTS, st.lists(_LINE)).map(
    lambda block: f"{''.join(block[0])}data: {block[1]}\n{''.join(block[2])}\n"
)


@given(st.lists(_BLOCK).map("".join))
def test_another_reader_finds_the_same(document: str) -> None:
    """The reader of OpenAI's library finds the same events in streams without ids, whose every event has data."""
    theirs = SSEDecoder().iter_bytes(iter([document.encode()]))

    assert [(event.event or "message", event.data) for event in theirs] == [
        (event.name, event.data) for event in read(document.encode())
    ]

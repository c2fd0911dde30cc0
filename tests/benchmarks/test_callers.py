"""What reading a stream promises: the text as a client would have it, and the reply of the ending."""

from benchmarks.callers import read_stream

_BEGIN = b'event: pending\ndata: {"request_id":"1"}\n\nid: 1.0\nevent: started\ndata: {"attempt":1}\n\n'
_DELTA = b'id: 1.2\nevent: delta\ndata: {"text":"a"}\n\nid: 1.3\nevent: delta\ndata: {"text":"b"}\n\n'
_COMPLETED = b'id: 1.3\nevent: completed\ndata: {"reply":"ab","usage":{}}\n\n'


def test_pieces_add_up() -> None:
    """The deltas make one text; comments and other events are not part of it."""
    assert read_stream(_BEGIN + b": keep-alive\n\n" + _DELTA + _COMPLETED) == ("ab", "ab")


def test_a_restart_throws_away_what_was_there() -> None:
    """After a restart the text is the restart's text and what follows."""
    restart = b'id: 2.1\nevent: restart\ndata: {"attempt":2,"text":"x"}\n\n'

    assert read_stream(_BEGIN + _DELTA + restart + _DELTA) == ("xab", None)


def test_another_ending_is_no_reply() -> None:
    """A stream that fails, or breaks off, has no reply."""
    assert read_stream(_DELTA + b'event: failed\ndata: {"code":"timeout"}\n\n')[1] is None
    assert read_stream(b"")[1] is None

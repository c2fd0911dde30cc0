"""What reading a stream promises: the text as a client would have it, and the reply of the ending."""

from benchmarks.callers import read_chat_stream, read_responses_stream, read_stream

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


def test_chunks_of_a_chat_completion_add_up() -> None:
    """The text of a chat completion's chunks is that of their deltas, and counts only with the mark of the end."""
    chunks = (
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"ab"}}]}\n\n'
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: {"choices":[],"usage":{}}\n\n'
    )

    assert read_chat_stream(chunks + b"data: [DONE]\n\n") == "ab"
    assert read_chat_stream(chunks) is None


def test_events_of_a_response_add_up() -> None:
    """The deltas make one text, and the reply is that of the response at the end."""
    delta = b'event: response.output_text.delta\ndata: {"delta":"a"}\n\n'
    content = b'{"content":[{"type":"output_text","text":"aa"}]}'
    completed = b'event: response.completed\ndata: {"response":{"output":[%b]}}\n\n' % content

    assert read_responses_stream(delta + delta + completed) == ("aa", "aa")
    assert read_responses_stream(delta) == ("a", None)

from itertools import pairwise

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_service.providers.answer_text import AnswerText
from llm_service.providers.base import Call, EndOfText
from llm_service.providers.framing import MAX_EVENT_BYTES
from llm_service.providers.reply_parser import ReplyParser
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, Usage
from tests.support.llm_wires import OPENAI_DONE, OPENAI_USAGE, openai_event

WHOLE = (
    b": hello\r\n\r\n"
    + openai_event("", role="assistant")
    + b"event: message\nid: 7\n"
    + openai_event("Gr\u00fc\u00dfe, ").replace(b"\n", b"\r\n")
    + openai_event("\N{FOX FACE}")
    + openai_event(finish="stop")
    + OPENAI_USAGE
    + OPENAI_DONE
)


def _parser(reply_bytes: int = 1000) -> ReplyParser:
    """For a call that is estimated at 5 tokens."""
    messages = [ChatMessage(role="user", content="thirteen bytes")]
    return ReplyParser(Call(model="m", messages=messages, max_tokens=None), reply_bytes=reply_bytes)


def _read(parser: ReplyParser, *chunks: bytes) -> tuple[str, EndOfText]:
    pieces = [piece for chunk in chunks for piece in parser.feed(chunk)] + [*parser.close()]
    return "".join([piece for piece in pieces if isinstance(piece, str)]), parser.ending()


@given(st.lists(st.integers(0, len(WHOLE)), max_size=20))
def test_the_text_does_not_depend_on_where_the_bytes_are_split(cuts: list[int]) -> None:
    """However the network cuts the stream, text and usage are the same."""
    places = [0, *sorted(cuts), len(WHOLE)]
    chunks = [WHOLE[start:end] for start, end in pairwise(places)]

    assert _read(_parser(), *chunks) == (
        "Gr\u00fc\u00dfe, \N{FOX FACE}",
        EndOfText(Usage(input_tokens=11, output_tokens=7)),
    )


@given(st.lists(st.binary(max_size=60)), st.booleans())
@example([b"data:[DONE]"], False)
def test_nonsense_is_never_a_whole_answer(chunks: list[bytes], prefixed: bool) -> None:
    """Arbitrary bytes end as an error of the closed list and never crash."""
    parser = _parser()
    with pytest.raises(OrchestraError) as refused:
        _read(parser, *((b"data: " if prefixed else b"") + chunk + b"\n\n" for chunk in chunks))

    # The end mark alone, which may be among them, is an answer that says nothing.
    ended = any(b"[DONE]" in chunk for chunk in chunks)
    assert refused.value.code == ErrorCode.BAD_UPSTREAM or (ended and refused.value.code == ErrorCode.EMPTY_REPLY)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            "choices delta message text content finish_reason usage error detail type tool_calls prompt_tokens".split()
        ),
        inner,
    ),
    max_leaves=12,
)  # fmt: skip


@given(_JSON, st.sampled_from([b"data: %b\n\n", b"data: %b", b"%b", b"event: error\ndata: %b\n\n"]))
def test_any_json_is_understood_or_refused(document: object, framing: bytes) -> None:
    """JSON of the wrong shape is refused by name; it never crashes the parser."""
    parser = _parser()
    try:
        assert isinstance(_read(parser, framing % orjson.dumps(document))[0], str)
    except OrchestraError as error:
        assert error.code in ErrorCode


_NO_COUNTS = [
    b"null",
    b"[]",
    b"{}",
    b'{"prompt_tokens":-1,"completion_tokens":"9"}',
    b'{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}',
    b'{"prompt_tokens":1e3,"completion_tokens":99999999999999999999}',
]


@pytest.mark.parametrize("usage", _NO_COUNTS)
def test_usage_that_makes_no_sense_is_estimated(usage: bytes) -> None:
    """Without counts that can be believed, three bytes are a token."""
    counts = b'data: {"choices":[],"usage":' + usage + b"}\n\n"
    text, ending = _read(_parser(), openai_event("abcdefg", finish="stop"), counts, OPENAI_DONE)

    assert (text, ending.usage) == ("abcdefg", Usage(input_tokens=5, output_tokens=3))


def test_a_count_of_nothing_undoes_no_count() -> None:
    """Where a server has counted, zeros behind it say nothing; a single one of them is estimated."""
    counts = b'data: {"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d}}\n\n'
    one = counts % (0, 9) + counts % (0, 0)
    _, ending = _read(_parser(), openai_event("abcdefg", finish="stop"), one, OPENAI_DONE)

    assert ending.usage == Usage(input_tokens=5, output_tokens=9)


def _halves(*pieces: str) -> bytes:
    """The stream of a server that says these pieces, with the escapes as they stand here."""
    return b"".join(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % piece.encode() for piece in pieces)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([r"a\ud83d", r"\ude00b"], "a\N{GRINNING FACE}b"),
        ([r"a\ud83d", "", r"\ude00b"], "a\N{GRINNING FACE}b"),
        ([r"\ud83d", r"\ud83d", r"\ude00"], "\ufffd\N{GRINNING FACE}"),
        ([r"\ud83d", "b"], "\ufffdb"),
        ([r"\u0000\ud83d", r"\ude00"], "\ufffd\N{GRINNING FACE}"),
        ([r"a\ude00", r"\ud83d"], "a\ufffd\ufffd"),
        ([r"a\ud83d"], "a\ufffd"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_character_in_halves_is_joined(pieces: list[str], text: str, *, at_once: bool) -> None:
    """Servers that cut a text by UTF-16 units cut a character in two; a lone half becomes U+FFFD."""
    streams = [_halves(*pieces)] if at_once else [_halves(piece) for piece in pieces]
    said, ending = _read(_parser(), *streams, OPENAI_DONE)

    assert said == text
    assert ending.usage.output_tokens == -(-len(text.encode()) // 3)


@given(st.text(), st.lists(st.integers(0, 200)))
def test_a_text_cut_by_utf_16_units_is_whole_again(text: str, cuts: list[int]) -> None:
    """Wherever it is cut, it can be written as UTF-8 piece by piece, and adds up to what was said."""
    units = text.encode("utf-16-le")
    places = [0, *sorted(2 * cut for cut in cuts), len(units)]
    answer = AnswerText(10_000)
    pieces = [units[start:end].decode("utf-16-le", "surrogatepass") for start, end in pairwise(places)]

    told = [*map(answer.add, pieces), answer.close()]

    assert b"".join(each.encode() for each in told).decode() == text.replace("\0", "\ufffd")


def test_broken_characters_and_numbers_are_read_as_well_as_can_be() -> None:
    """Half a surrogate pair, a cut UTF-8 character and NaN do not lose the answer."""
    chunk = b'data: {"choices":[{"delta":{"content":"a\\ud83e\xf0\x9f"},"logprobs":NaN,"finish_reason":"stop"}]}\n\n'

    assert _read(_parser(), chunk)[0] == "a\ufffd\ufffd"


@pytest.mark.parametrize(
    "chunks",
    [[openai_event("x" * 600), openai_event("x" * 600)], [b": ping\n" * 1000] * 100, [b"x" * (MAX_EVENT_BYTES + 1)]],
    ids=["text", "noise", "line"],
)
def test_too_much_is_refused(chunks: list[bytes]) -> None:
    """Text, noise and lines each have a limit."""
    with pytest.raises(OrchestraError) as refused:
        _read(_parser(reply_bytes=1000), *chunks)

    assert refused.value.code == ErrorCode.BAD_UPSTREAM


def test_nothing_counts_after_the_end_mark() -> None:
    """What follows `[DONE]` is not part of the answer."""
    beyond = openai_event("b") + b"data: junk\n"

    assert _read(_parser(), openai_event("a", finish="stop") + OPENAI_DONE + beyond)[0] == "a"


_TEXT, _END = openai_event("Hello"), openai_event(finish="stop")


@pytest.mark.parametrize(
    "error",
    [
        b'error: {"error":{"code":500,"message":"x","type":"server_error"}}\n\n',
        b'{"error":{"code":500,"message":"x","type":"server_error"}}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":""},"error":{"code":500,"message":"x"}}]}\n\n',
    ],
    ids=["a field of its own", "a bare line", "in a choice"],
)
@pytest.mark.parametrize("before", [_TEXT, b": hi\n\n"], ids=["with text", "without"])
def test_an_error_beside_the_events_is_an_error(error: bytes, before: bytes) -> None:
    """Wherever a server writes it; an end mark behind it makes no whole answer."""
    with pytest.raises(OrchestraError) as raised:
        _read(_parser(), before, error, OPENAI_DONE)

    assert ErrorCode.BAD_UPSTREAM is raised.value.code


def test_of_several_answers_the_first_is_read() -> None:
    """The one with index 0, wherever it stands."""
    other = b'{"index":1,"delta":{"content":"OTHER"},"finish_reason":"length"}'
    ours = b'{"index":0,"delta":{"content":" world"}}'
    beside = b'data: {"choices":[%b]}\n\ndata: {"choices":[%b,%b]}\n\n' % (other, other, ours)
    text, ending = _read(_parser(), _TEXT, beside, _END, OPENAI_DONE)

    assert ("Hello world", "stop") == (text, ending.finish_reason)


def test_what_is_no_part_of_an_answer_is_passed_over() -> None:
    """Pings with any data, and an end mark with spaces around it; of two reasons the one that it was cut counts."""
    ping = b"event: ping\ndata: 1700000000\n\n"
    text, ending = _read(_parser(), ping, _TEXT, openai_event(finish="length"), _END, b"data:  [DONE] \n\n")

    assert ("Hello", "length") == (text, ending.finish_reason)

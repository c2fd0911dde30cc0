"""Promises of llm_service/providers/framing.py: a stream or a document, whatever the first bytes are cut into."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.providers.framing import MAX_EVENT_BYTES, Framing
from schemas.errors import ErrorCode, OrchestraError

BOM = b"\xef\xbb\xbf"
BLANKS = st.lists(st.sampled_from([b"\n", b"\r\n", b" ", b"\t"]), max_size=4).map(b"".join)


def _read(chunks: list[bytes]) -> tuple[list[str], str | None, bool]:
    framing = Framing(reply_bytes=1000)
    events = [event.data for chunk in chunks for event in framing.feed(chunk)]
    rest, document = framing.close()
    return events, rest.data if rest else None, document


def _cut(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    return [whole[start:end] for start, end in pairwise(places)]


@given(st.booleans(), BLANKS, st.lists(st.integers(0, 30), max_size=8))
def test_a_document_is_known_by_its_first_bracket(marked: bool, blanks: bytes, cuts: list[int]) -> None:
    """Behind a byte order mark and blanks, cut anywhere, a document is one, and the whole of it."""
    document = b'{"a": "data: x\n\n"}'

    assert ([], document.decode(), True) == _read(_cut(BOM * marked + blanks + document, cuts))


@given(st.booleans(), st.lists(st.integers(0, 30), max_size=8))
def test_all_else_is_a_stream(marked: bool, cuts: list[int]) -> None:
    """A stream is read from its first byte, and what no empty line has finished is left at its end."""
    stream = BOM * marked + b"data: {a}\n\n: x\n\ndata: [b"

    assert (["{a}"], "[b", False) == _read(_cut(stream, cuts))


@pytest.mark.parametrize("chunk", [b" ", b"\n", b"x", b"{", b"data: ", b": x\n", b"data: x\n\n", b"data: x\n"])
def test_each_kind_of_too_much_is_refused(chunk: bytes) -> None:
    """Blanks, lines, documents, events and streams each have a limit."""
    framing = Framing(reply_bytes=10_000, event_bytes=50_000)
    with pytest.raises(OrchestraError) as refused:
        for _ in range(6_000_000 // len(chunk)):
            framing.feed(chunk * 1000)

    assert refused.value.code == ErrorCode.BAD_UPSTREAM
    assert framing._received <= 10_000 * 512 + 1000 * len(chunk)
    assert framing._document is None or len(framing._document) <= MAX_EVENT_BYTES

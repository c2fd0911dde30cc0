import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.prefer import Prefer, read_prefer, wants_stream


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Prefer()),
        (["respond-async"], Prefer(respond_async=True)),
        (["RESPOND-ASYNC"], Prefer(respond_async=True)),
        (["wait=10"], Prefer(wait=10)),
        (["wait = 10"], Prefer(wait=10)),
        (['wait="10"'], Prefer(wait=10)),
        (["wait=0"], Prefer(wait=0)),
        (["wait=300"], Prefer(wait=300)),
        (["wait=301"], Prefer(wait=300)),
        (["wait=99999999999999999"], Prefer(wait=300)),
        (["respond-async, wait=10"], Prefer(respond_async=True, wait=10)),
        (["respond-async", "wait=10"], Prefer(respond_async=True, wait=10)),
        (["wait=10,respond-async"], Prefer(respond_async=True, wait=10)),
        (['return=minimal; foo="a,b", wait=10'], Prefer(wait=10)),
        (["wait=10; foo"], Prefer(wait=10)),
        (["wait=10, wait=20"], Prefer(wait=10)),
        (["respond-async=yes"], Prefer(respond_async=True)),
    ],
)
def test_preferences(values: list[str], expected: Prefer) -> None:
    """Preferences are read by RFC 7240; a wait is at most 300 s, and the first of each name counts."""
    assert read_prefer(values) == expected


@pytest.mark.parametrize(
    "value", ["", ",", ";", "wait", "wait=", "wait=x", "wait=-1", "wait=1.5", "wait=1 2", '"wait=1"']
)
def test_malformed(value: str) -> None:
    """A malformed preference is ignored."""
    assert read_prefer([value]) == Prefer()


def test_malformed_beside_good() -> None:
    """A malformed preference does not invalidate a good one beside it."""
    assert read_prefer(["wait=abc, respond-async"]) == Prefer(respond_async=True)
    assert read_prefer(["(((, respond-async"]) == Prefer(respond_async=True)


@given(st.lists(st.text(alphabet=st.characters(max_codepoint=255)), max_size=3))
def test_never_raises(values: list[str]) -> None:
    """Any header value gives a wait between 0 and 300 seconds, or none."""
    wait = read_prefer(values).wait
    assert wait is None or 0 <= wait <= 300


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], False),
        (["*/*"], False),
        (["text/*"], False),
        (["application/json"], False),
        (["text/event-stream"], True),
        (["Text/Event-Stream; charset=utf-8"], True),
        (["application/json, text/event-stream;q=0.5"], True),
        (["application/json", "text/event-stream"], True),
        (["text/event-stream;q=0"], False),
        (["text/event-stream; q=0.000, application/json"], False),
    ],
)
def test_accept(accept: list[str], expected: bool) -> None:
    """Only a client that accepts the event stream's type by name gets a stream."""
    assert wants_stream(accept) is expected

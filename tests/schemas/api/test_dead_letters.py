"""Promises of schemas/api/dead_letters.py: bytes that are shown and given back are the same bytes."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.api.dead_letters import EditDeadLetter, LetterRecord
from schemas.envelope import parse_json

some = st.none() | st.binary(max_size=20) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)


@given(some, some, st.lists(st.tuples(names, some), max_size=3))
def test_what_is_shown_can_be_given_back(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    """Whatever bytes a record had, an edit with what a gateway shows of them is these bytes again."""
    shown = LetterRecord.of(key, value, headers).model_dump_json()

    edit = EditDeadLetter.model_validate(parse_json(shown.encode()))

    assert (key, value, headers) == edit.over(b"another", b"another", [])


def test_what_is_not_named_stays() -> None:
    """An edit of one field leaves the others unchanged; null removes a field."""
    before = (b"key", b"value", [("a", b"b")])

    assert before == EditDeadLetter().over(*before)
    assert (None, *before[1:]) == EditDeadLetter(key=None).over(*before)
    assert (b"key", b"", before[2]) == EditDeadLetter(value="").over(*before)
    assert (b"key", b"value", []) == EditDeadLetter(headers=[]).over(*before)
    assert [True, True, False] == [
        each.empty for each in (EditDeadLetter(), EditDeadLetter(headers=None), EditDeadLetter(key=None))
    ]

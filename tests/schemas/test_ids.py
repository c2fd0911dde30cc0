"""Promises of schemas/ids.py: ids that anyone can compute stay what they are."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import conversation_id_for_key, conversation_id_for_request, record_id

PLACES = st.tuples(st.sampled_from(["llm.requests", "other"]), st.integers(0, 99), st.integers(0), st.integers(0))


def test_ids_are_those_of_the_first_release() -> None:
    """Ids are computed by producers too, and lie in databases: they never change from release to release."""
    some = UUID("0190b7a2-6b1c-7e4d-9f00-1234567890ab")

    assert [
        "f7268cec-915e-563b-a232-32b44f03d271",
        "d96af91b-8344-547b-ade1-d046712e1563",
        "7e5abade-8019-5e1d-9faa-96541e12cbec",
    ] == [
        str(record_id("llm.requests", 3, 42, 1_700_000_000_000)),
        str(conversation_id_for_key("default", b"customer-7")),
        str(conversation_id_for_request(some)),
    ]


@given(PLACES, PLACES)
def test_records_share_an_id_only_with_themselves(
    one: tuple[str, int, int, int], other: tuple[str, int, int, int]
) -> None:
    """A record read again has the id that it had; another place or another time has another."""
    assert (one == other) == (record_id(*one) == record_id(*other))


@given(st.uuids())
def test_a_uuid_key_is_the_conversation(conversation: UUID) -> None:
    """A key that is a UUID names the conversation itself, whatever its owner."""
    assert conversation == conversation_id_for_key("default", str(conversation).encode())
    assert conversation == conversation_id_for_key("other", str(conversation).upper().encode())


@given(st.binary(max_size=64))
def test_any_key_names_a_conversation(key: bytes) -> None:
    """Any bytes are a key: the same ones name the same conversation each time."""
    assert conversation_id_for_key("default", key) == conversation_id_for_key("default", key)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_other_keys_name_other_conversations(one: bytes, other: bytes) -> None:
    """Two keys that are no UUIDs never share a conversation, not even where they are no text."""
    if b"\\" not in one + other:
        assert (one == other) == (conversation_id_for_key("default", one) == conversation_id_for_key("default", other))


def test_tenants_do_not_share_keys() -> None:
    """The same key with another tenant is another conversation."""
    assert conversation_id_for_key("default", b"customer-7") != conversation_id_for_key("other", b"customer-7")


@given(st.uuids(), st.uuids())
def test_unnamed_conversations_have_one_request(request: UUID, other: UUID) -> None:
    """The conversation of a request that named none is its own, and no other request's."""
    assert request != conversation_id_for_request(request)
    assert (request == other) == (conversation_id_for_request(request) == conversation_id_for_request(other))

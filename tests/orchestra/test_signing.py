"""Promises of orchestra/signing.py: a signature is good for exactly the record that it was made for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.signing import EventSigner, Signer

SECRET, OTHER = b"s" * 32, b"o" * 32
RECORD: dict[str, Any] = {
    "id": "id",
    "type": "type",
    "tenant": "tenant",
    "user": "user",
    "key": b"key",
    "value": b"value",
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RECORDS = st.fixed_dictionaries(
    {
        **dict.fromkeys(("id", "type", "tenant", "user"), TEXTS),
        **dict.fromkeys(("key", "value"), st.binary(max_size=20)),
    }
)


@given(RECORDS)
def test_what_was_signed_verifies(record: dict[str, Any]) -> None:
    """Any record, with the same secret on the other side."""
    assert Signer([SECRET]).verify(Signer([SECRET]).sign(**record), **record)


@given(RECORDS, RECORDS)
def test_a_signature_is_for_one_record(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Another record needs another signature."""
    signer = Signer([SECRET])

    assert (one == two) == signer.verify(signer.sign(**one), **two)


@pytest.mark.parametrize("field", RECORD)
def test_every_part_is_signed(field: str) -> None:
    """Id, type, tenant, user, key and value: none can be exchanged, and no letter moved from one to the next."""
    signer = Signer([SECRET])
    changed = {**RECORD, field: RECORD[field] + (b"x" if isinstance(RECORD[field], bytes) else "x")}

    assert not signer.verify(signer.sign(**RECORD), **changed)


def test_letters_cannot_move_between_parts() -> None:
    """Fields that give the same text when joined have different signatures."""
    signer = Signer([SECRET])
    moved = {**RECORD, "tenant": "tenantu", "user": "ser"}

    assert not signer.verify(signer.sign(**RECORD), **moved)


@pytest.mark.parametrize("signature", ["", "v1=", "nonsense", "\N{SNOWMAN}", "v1=" + "0" * 64])
def test_nonsense_is_no_signature(signature: str) -> None:
    """Whatever the header holds, it is not a valid signature."""
    assert not Signer([SECRET]).verify(signature, **RECORD)


def test_a_signature_names_its_kind() -> None:
    """Without the prefix that names its kind, a signature is not valid."""
    signer = Signer([SECRET])

    assert not signer.verify(signer.sign(**RECORD).removeprefix("v1="), **RECORD)


def test_the_old_secret_still_verifies_and_no_longer_signs() -> None:
    """During a change of secret records of both are good."""
    old, both, new = Signer([SECRET]), Signer([OTHER, SECRET]), Signer([OTHER])

    assert both.verify(old.sign(**RECORD), **RECORD)
    assert new.verify(both.sign(**RECORD), **RECORD)
    assert not new.verify(old.sign(**RECORD), **RECORD)


PARTS = st.tuples(*[st.binary(max_size=20).filter(lambda part: b"\0" not in part)] * 5)


@given(PARTS, PARTS)
def test_a_signature_is_for_one_event(one: tuple[bytes, ...], two: tuple[bytes, ...]) -> None:
    """Another event needs another signature, and so does one whose letters have moved from one part to the next."""
    signer = EventSigner([SECRET])

    assert (one == two) == signer.verify(signer.sign(*one), *two)


def test_events_while_the_secret_changes() -> None:
    """The old secret verifies and never signs; one that is not known does neither."""
    before, between, after = (EventSigner(secrets) for secrets in ([SECRET], [OTHER, SECRET], [OTHER]))
    event = (b"type", b"id", b"hash", b"tenant", b"value")

    assert between.verify(before.sign(*event), *event)
    assert after.verify(between.sign(*event), *event)
    assert not after.verify(before.sign(*event), *event)
    assert not before.verify(between.sign(*event), *event)


def test_the_signature_of_an_event_is_no_signature_of_a_request() -> None:
    """A worker's signature is never accepted as a gateway's, though both have the same secret."""
    made = EventSigner([SECRET]).sign(*(each if isinstance(each, bytes) else each.encode() for each in RECORD.values()))

    assert not Signer([SECRET]).verify(made.decode(), **RECORD)
    assert not Signer([SECRET]).verify("v1=" + made.decode(), **RECORD)

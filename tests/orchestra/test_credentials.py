"""Promises of orchestra/credentials.py: a key is recognised by its form, and its text is nowhere but in itself."""

import re
from collections.abc import Callable

import pytest

from orchestra.credentials import is_key_id, new_key, read_key


def test_a_key_leads_to_its_id_and_hash() -> None:
    """What is read from a new key is what is kept of it."""
    key = new_key()

    assert re.fullmatch(r"orc_[a-z2-7]{12}_[0-9a-f]{64}", key.text)
    assert (key.id, key.secret_hash) == read_key(key.text)
    assert len(key.secret_hash) == 32
    assert is_key_id(key.id)


def test_keys_differ() -> None:
    """No two keys share an id or a secret."""
    made = [new_key() for _ in range(100)]

    assert 100 == len({key.id for key in made}) == len({key.secret_hash for key in made})


def test_a_key_does_not_show_itself() -> None:
    """The repr of a key has neither its text nor its hash."""
    key = new_key()

    assert key.text not in repr(key)
    assert repr(key.secret_hash) not in repr(key)


@pytest.mark.parametrize(
    "change",
    [str.upper, lambda text: text[:-1], lambda text: text + "0", lambda text: text + "\n", lambda text: " " + text,
     lambda text: text.replace("orc_", "sk-"), lambda text: text[:6] + "1" + text[7:], lambda _: "orc_", lambda _: ""],
)  # fmt: skip
def test_what_is_no_key(change: Callable[[str], str]) -> None:
    """Anything but the exact form is no key."""
    assert read_key(change(new_key().text)) is None

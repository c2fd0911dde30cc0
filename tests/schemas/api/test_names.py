"""Names that people choose and others read: of keys and of users."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.api.keys import CreateKey
from schemas.api.users import ChangeUser, CreateUser

NAMES: dict[str, Callable[[str], Any]] = {
    "a key": lambda name: CreateKey(name=name).name,
    "a new user": lambda name: CreateUser.model_validate({"username": name, "password": "a long one"}).username,
    "a changed user": lambda name: ChangeUser(username=name).username,
}
UNSEEN = (
    "\x1b \x07 \x7f \x9b \r \n \t \0 \u200b \u200d \u200e \u202e \u2066 \u2028 \u2029 \ufeff \xad \U000e0041".split(" ")
)


@pytest.mark.parametrize("of", NAMES)
@pytest.mark.parametrize("unseen", UNSEEN, ids=ascii)
def test_a_name_can_be_seen(of: str, unseen: str) -> None:
    """A name that gives a terminal orders, or that looks like another, is refused, and not repeated."""
    with pytest.raises(ValidationError) as caught:
        NAMES[of](f"a{unseen}b")

    assert "must not contain" in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize("of", NAMES)
@pytest.mark.parametrize("name", ["ann", "Änn O'Neil", "安娜", "آنا", "\N{PARTY POPPER}", "a@b.example"])
def test_names_of_all_languages(of: str, name: str) -> None:
    """What can be seen is a name."""
    assert name == NAMES[of](name)

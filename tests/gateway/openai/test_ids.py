"""Promises of gateway/openai/ids.py."""

from uuid import UUID

import pytest

from gateway.openai.ids import read, spell
from schemas.errors import ErrorCode, OrchestraError

ID = UUID("7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01")


def test_an_id_is_read_as_it_was_spelled() -> None:
    """Each kind of id contains our own id, and only that spelling is read."""
    assert spell("resp_", ID) == "resp_7b1f0c526d4e8a309c112f8e4b6a9d01"
    assert read("chatcmpl-", spell("chatcmpl-", ID)) == ID


@pytest.mark.parametrize(
    "text", ["", "resp_", ID.hex, str(ID), f"resp_{ID}", f"resp_{ID.hex.upper()}", f"conv_{ID.hex}", f"resp_{ID.hex}0"]
)
def test_no_other_spelling_is_read(text: str) -> None:
    """An id in any other spelling was never given out, so it is not found."""
    with pytest.raises(OrchestraError) as caught:
        read("resp_", text)
    assert caught.value.code is ErrorCode.NOT_FOUND

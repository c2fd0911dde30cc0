from llm_service.providers.base import estimate_input, estimate_tokens, storable
from schemas.generation import ChatMessage


def test_what_cannot_be_stored_becomes_a_replacement_character() -> None:
    """U+0000 and lone surrogates go, everything else stays."""
    assert storable("a\x00b\ud800c\udfffd\N{FOX FACE}\n") == "a\ufffdb\ufffdc\ufffdd\N{FOX FACE}\n"


def test_tokens_are_estimated_from_bytes() -> None:
    """Three bytes of UTF-8 count as a token, a part of three as a whole."""
    assert [estimate_tokens(size) for size in (0, 1, 3, 4)] == [0, 1, 1, 2]
    assert (
        estimate_input([ChatMessage(role="user", content="\N{FOX FACE}"), ChatMessage(role="user", content="ab")]) == 2
    )

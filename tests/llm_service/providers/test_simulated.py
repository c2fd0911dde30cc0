import hashlib
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.providers.base import Call, EndOfText, Garbage, Piece
from llm_service.providers.simulated import Simulated, SimulatedOptions, conversation_hash, parse_options
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerationErrorCode

DIALOGUE = [
    ChatMessage(role="system", content="be kind"),
    ChatMessage(role="user", content=" two  words\n"),
    ChatMessage(role="assistant", content="hm"),
]


async def _pieces(model: str, provider: Simulated | None = None, max_tokens: int = 100) -> list[Piece]:
    call = Call(model=model, messages=DIALOGUE, max_tokens=max_tokens)
    return [piece async for piece in (provider or Simulated()).stream(call)]


def _text(pieces: list[Piece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


async def test_the_echo_is_exactly_the_last_user_message() -> None:
    """Without options it answers as the old service did, word by word, spaces kept."""
    *words, ending = await _pieces("simulated")

    assert words == ["echo:  ", "two  ", "words\n"]
    assert isinstance(ending, EndOfText)
    assert ending.usage.output_tokens == 3


async def test_tokens_sets_the_length() -> None:
    """`tokens=N` answers with N words; a smaller limit cuts it and says so."""
    *words, ending = await _pieces("simulated:tokens=33")
    *fewer, cut = await _pieces("simulated:tokens=33", max_tokens=32)

    assert (len(words), len(fewer)) == (33, 32)
    assert isinstance(ending, EndOfText)
    assert isinstance(cut, EndOfText)
    assert (ending.finish_reason, cut.finish_reason) == ("stop", "length")


async def test_the_hash_covers_every_message_and_its_role() -> None:
    """`reply=hash` is SHA-256 of the messages in the documented form."""
    form = '[["system","be kind"],["user"," two  words\\n"],["assistant","hm"]]'

    assert _text(await _pieces("simulated:reply=hash")) == hashlib.sha256(form.encode()).hexdigest()
    assert conversation_hash(DIALOGUE[:2]) != conversation_hash(DIALOGUE)


@pytest.mark.parametrize("code", get_args(GenerationErrorCode))
async def test_every_error_of_the_closed_list_can_be_had(code: ErrorCode) -> None:
    """`fail` and `retry_after` come out as they went in."""
    with pytest.raises(OrchestraError) as failed:
        await _pieces(f"simulated:fail={code},retry_after=1.5")

    assert (failed.value.code, failed.value.retry_after) == (code, 1.5)


async def test_fail_times_fails_so_often_for_one_conversation() -> None:
    """The first N calls with the same messages fail, the next succeed; another name counts for itself."""
    provider, codes = Simulated(), []
    for _ in range(3):
        try:
            await _pieces("simulated:fail_times=2", provider)
        except OrchestraError as error:
            codes.append(error.code)
    with pytest.raises(OrchestraError):
        await _pieces("simulated:fail_times=1", provider)

    assert codes == [ErrorCode.OVERLOADED, ErrorCode.OVERLOADED]


async def test_a_cut_stream_has_no_ending() -> None:
    """`cut_after` sends this many words and no end mark."""
    assert await _pieces("simulated:tokens=5,cut_after=2") == ["word1 ", "word2 "]


async def test_garbage_takes_the_place_of_the_ending() -> None:
    """`garbage` ends with bytes that are no line of ours."""
    assert isinstance((await _pieces("simulated:garbage=1"))[-1], Garbage)


@pytest.mark.parametrize(
    "options", ["tokens", "tokens=x", "tokens=-1", "colour=1", "fail=nothing", "tokens=1,,", "fail=not_found", "=", " "]
)
def test_a_bad_option_is_refused(options: str) -> None:
    """A wrong name or value is `invalid_request`, never a guess."""
    with pytest.raises(OrchestraError) as refused:
        parse_options(f"simulated:{options}")

    assert refused.value.code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("tokens=x", "tokens has a wrong value"),
        ("gap_ms=1,fail=nothing", "fail has a wrong value"),
        ("secret=1", "there are only latency_ms, gap_ms, tokens"),
    ],
)
def test_the_wrong_option_is_named(options: str, told: str) -> None:
    """A known option is named, an unknown one is answered by those that there are, and nothing of it is repeated."""
    with pytest.raises(OrchestraError, match=told) as refused:
        parse_options(f"simulated:{options}")

    assert "secret" not in refused.value.detail


async def test_an_answer_of_nothing_is_an_error() -> None:
    """`tokens=0` is a model that ends without a word."""
    with pytest.raises(OrchestraError) as failed:
        await _pieces("simulated:tokens=0")

    assert failed.value.code == ErrorCode.EMPTY_REPLY


@given(st.text(max_size=80))
def test_any_options_are_read_or_refused(options: str) -> None:
    """No text behind the name can do worse than be refused."""
    try:
        assert isinstance(parse_options(f"simulated:{options}"), SimulatedOptions)
    except OrchestraError as error:
        assert error.code == ErrorCode.INVALID_REQUEST

"""What the campaign's questions promise: a prompt identifies its question; the reply rule is the simulated model's."""

from uuid import uuid4

import pytest

from faults.question import FAIL, IMPOSTOR, SLOW, Question, history_hash, read
from llm_service.providers.simulated import conversation_hash
from schemas.generation import ChatMessage


@pytest.mark.parametrize("note", ["", FAIL, SLOW, IMPOSTOR])
@pytest.mark.parametrize("padding", [0, 64])
def test_a_question_is_known_again(note: str, padding: int) -> None:
    """All that a question says of itself is read back from its text."""
    question = Question(uuid4(), 3, uuid4().hex, note)

    assert question == read(question.text(padding))


def test_other_text_is_no_question() -> None:
    """Text that is not the campaign's is left alone."""
    assert read("hello") is None


def test_the_hash_is_the_simulated_models() -> None:
    """Oracle, checker and the simulated model of the LLM service compute the same hash."""
    said = [("user", 'hé \N{FOX FACE} "q"\n'), ("assistant", "a\\b\u2028"), ("user", "</script>")]
    messages = [ChatMessage.model_validate({"role": role, "content": content}) for role, content in said]

    assert history_hash(said) == conversation_hash(messages)

"""What the campaign's questions promise: a prompt identifies its question; the reply rule is the simulated model's."""

from uuid import uuid4

import pytest

from faults.question import FAIL, FILE, IMPOSTOR, LARGE, SLOW, Question, data_url, history_hash, read, said
from llm_service.providers.simulated import conversation_hash
from schemas.generation import ChatMessage


@pytest.mark.parametrize("note", ["", FAIL, SLOW, FILE, LARGE, IMPOSTOR])
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


@pytest.mark.parametrize(("note", "kind", "field"), [(FILE, "file", "file_data"), (LARGE, "image_url", "url")])
def test_media_count_by_their_data(note: str, kind: str, field: str) -> None:
    """A message that names its media is hashed as the one that the model gets; with other data it is another."""
    question = Question(uuid4(), 0, uuid4().hex, note)

    def message(media: dict[str, str]) -> dict[str, object]:
        return {"role": "user", "content": [{"type": "text", "text": question.text()}, {"type": kind, kind: media}]}

    sent = said(message({field: data_url(question.key, note)}))

    assert ("user", question.text(), sent[2]) == sent == said(message({"file_id": "file-1"}))
    assert sent != said(message({field: data_url("another", note)}))

"""Promises of workers/weights.py: what a message counts in a prompt."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from orchestra.store.files import StoredFile
from schemas.generation import ChatMessage
from workers.weights import weight, weight_of_file

DATA = "A" * 4000
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def stored(media_type: str) -> StoredFile:
    """The row of a file of 5,000 bytes."""
    now = datetime.now(UTC)
    return StoredFile("default", "file-2", "", "user_data", "f", media_type, 5000, "", "blob", now, now)


def of(*parts: dict[str, Any]) -> int:
    """The weight of these parts."""
    return weight(ChatMessage.model_validate({"role": "user", "content": list(parts)}))


def test_a_text_weighs_its_bytes() -> None:
    """A text counts the bytes of its UTF-8, in a part or alone, for every role."""
    assert [5, 5] == [weight(ChatMessage(role=role, content="äü!")) for role in ("user", "assistant")]
    assert 10 == of({"type": "text", "text": "äü!"}, {"type": "text", "text": "äü!"})


@pytest.mark.parametrize("data", ["A", DATA])
def test_an_image_weighs_the_same_at_any_size(data: str) -> None:
    """An image counts a thousand tokens."""
    assert 3000 == of({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})


def test_other_media_weigh_a_part_of_their_bytes() -> None:
    """A recording counts a token for 300 bytes and a document one for 30: of what its data are, not their base64."""
    assert 30 == of({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}})
    assert 300 <= of({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{DATA}"}}) <= 303


def test_an_uploaded_file_weighs_what_is_known_of_it() -> None:
    """A text counts its bytes, another document a token for 30. An image counts a thousand, an unknown file none."""
    pdf, text = stored("application/pdf"), stored("text/plain")
    assert [500, 5000] == [weight_of_file(pdf), weight_of_file(text)]
    image = {"type": "image_url", "image_url": {"file_id": "file-1"}}
    files = ChatMessage(role="user", content=[image, {"type": "file", "file": {"file_id": "file-2"}}])

    assert [3000 + 5000, 3000] == [weight(files, {"file-1": 7, "file-2": 5000}), weight(files)]


def test_an_answer_weighs_all_that_is_sent_of_it() -> None:
    """Calls and the provider's data count their JSON, a refusal its bytes."""
    plain = ChatMessage(role="assistant", content="text")
    state = {"provider": "p", "opaque": DATA}

    assert 4 + len(orjson.dumps([CALL])) == weight(plain.model_copy(update={"tool_calls": [CALL]}))
    assert 4 + len(orjson.dumps(state)) == weight(plain.model_copy(update={"state": state}))
    assert 4 + 4 == weight(plain.model_copy(update={"refusal": "no\N{LATIN SMALL LETTER U WITH DIAERESIS}"}))

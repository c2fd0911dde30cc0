"""Promises of schemas/api/conversations.py: a conversation that is made can be kept."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.api.conversations import CreateConversation


@pytest.mark.parametrize("metadata", [{"who": "a\0b"}, {"a\0b": "who"}, {"who": "\ud800"}])
def test_metadata_can_be_kept(metadata: dict[str, Any]) -> None:
    """What Postgres cannot keep is refused as the caller's mistake, before Postgres has to."""
    with pytest.raises(ValidationError):
        CreateConversation(metadata=metadata)

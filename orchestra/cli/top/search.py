"""What is typed into the filter of the list, as filters of `GET /v1/requests`."""

import re
from typing import Any
from uuid import UUID

from schemas.api.requests import RequestFilter

_WORD = re.compile(r'[a-z_]+:"[^"]*"|\S+', re.IGNORECASE)
_NAMES = RequestFilter.model_fields.keys() - {"id"}
_SHORT = {
    "state": "status", "type": "task_type", "conversation": "conversation_id", "error": "error_code",
    "attempts": "attempts_min", "waited": "waited_min", "after": "created_after", "before": "created_before",
}  # fmt: skip


def read_filter(text: str) -> dict[str, Any]:
    """The filters in a text: an id, or words such as ``model:llama3 state:failed``. Raises ``ValueError``."""
    words = _WORD.findall(text)
    if len(words) == 1 and (id := _id(words[0])):
        return {"id": [id]}
    filters: dict[str, Any] = {}
    for word in words:
        typed, _, value = word.partition(":")
        name, value = _SHORT.get(typed, typed), value.strip('"')
        if name not in _NAMES or not value:
            raise ValueError(f"{word}: neither an id nor a filter; filters: {', '.join(sorted(_NAMES))}")
        filters[name] = value.replace(" ", "_") if name == "status" else value
    return filters


def _id(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None

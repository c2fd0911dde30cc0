"""One call of the console."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BASE_ROWS, ROWS_OF_PAGE = 10_000, 10
"""A call may read ``ROWS_OF_PAGE`` rows for each one on its page, and ``BASE_ROWS`` beside them."""
_DEFAULT_PAGE = 20
_ID = re.compile(r"[0-9a-f-]{36}|(?<=/)\d+")


@dataclass(frozen=True)
class Call:
    """A GET that a page of the console makes. ``user``: whose requests it may see; None: an operator's call.

    ``of_postgres``: it answers from Postgres, not from memory or from Kafka.
    """

    page: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    user: str | None = None
    of_postgres: bool = True

    def headers(self, keys: Mapping[str, str]) -> dict[str, str]:
        """The headers, with the key of the user among these."""
        return {"Authorization": f"Bearer {keys[self.user]}"} if self.user else {}

    @property
    def shown(self) -> str:
        """The call without its ids and places."""
        values = ((name, "…" if len(str(value)) > 20 else value) for name, value in self.query.items())
        text = "&".join(f"{name}={value}" for name, value in values)
        return f"{_ID.sub('{id}', self.path)}{text and '?' + text}"

    @property
    def max_rows(self) -> int:
        """How many rows it may read."""
        return BASE_ROWS + ROWS_OF_PAGE * int(self.query.get("limit", _DEFAULT_PAGE))

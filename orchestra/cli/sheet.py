"""Requests as CSV, a line each, for spreadsheets. Texts of prompts and answers are not in it."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from schemas.api.requests import ListedRequest

# What makes a spreadsheet compute a text. The names are those of callers.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_OF_USAGE = ("input_tokens", "output_tokens", "cost")
COLUMNS = (
    "id", "status", "owner", "model", "task_type", "door", "conversation_id", "priority", "attempts", "created_at",
    "started_at", "finished_at", *_OF_USAGE, "error_code", "error_detail",
)  # fmt: skip


def lines(rows: Iterable[ListedRequest]) -> Iterator[str]:
    """The titles, then a line for each request. Times are in UTC; what is not known is empty."""
    yield _line(COLUMNS)
    for row in rows:
        error = row.error or row.last_error
        cells = {name: getattr(row, name, None) for name in COLUMNS}
        cells |= {name: getattr(row.usage, name, None) for name in _OF_USAGE}
        cells |= {"error_code": error.code if error else None, "error_detail": error.detail if error else None}
        yield _line([_cell(value) for value in cells.values()])


def _line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().rstrip("\r\n")


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    text = "" if value is None else f"{value}"
    return f"'{text}" if text.startswith(_FORMULA) else text

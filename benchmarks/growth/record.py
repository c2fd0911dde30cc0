"""The file of all points: a curve that is run alone replaces only its own points."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks import figures
from benchmarks.figures import Figures, origin

FILE = "figures.json"
Record = dict[str, list[dict[str, Any]]]
"""The points of each curve, in order of growth."""


def read(path: Path) -> Record:
    """The points measured so far; empty if there is no file. Raises ``ValueError`` for another file."""
    if not path.exists():
        return {}
    try:
        record: Record = orjson.loads(path.read_bytes())["curves"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path} has no growth curves") from None
    return record


def with_point(record: Record, curve: str, at: int, told: Figures) -> Record:
    """The record with this point; it replaces an earlier one at the same step."""
    others = [point for point in record.get(curve, []) if point["at"] != at]
    point = {"at": at, **origin(), **told}
    return {**record, curve: sorted([*others, point], key=lambda each: int(each["at"]))}


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write the file."""
    figures.write(path, {"curves": record})

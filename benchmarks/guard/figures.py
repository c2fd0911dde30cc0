"""The committed figures, and the allowed difference from them."""

import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.guard.path import Cost
from benchmarks.guard.paths import PATHS

FILE = Path(__file__).with_name("figures.toml")
# For instructions; all else is exact. Several times the largest difference seen between two runs (docs/decisions/0014).
MARGIN = 0.03
# Instruction counts hold for one minor version of Python.
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
HOW_TO_ACCEPT = (
    "Accept an intended change with `python -m benchmarks.guard --write`, and give the reason in the commit."
)

Figures = dict[str, Cost]


def committed(file: Path = FILE) -> tuple[str, Figures]:
    """The version of Python for which the figures hold, and the figures."""
    read = tomllib.loads(file.read_text("utf-8"))
    return read.pop("python"), {name: Cost(**fields) for name, fields in read.items()}


def write(figures: Mapping[str, Cost], file: Path = FILE) -> None:
    """Write these figures."""
    lines = [
        "# What one more costs, counted by `python -m benchmarks.guard --write`.",
        f"# Instructions may differ by {MARGIN:.0%}, nothing else may differ.",
        f'python = "{PYTHON}"',
    ]
    for name, path in PATHS.items():
        fields = [f"{field} = {value}" for field, value in asdict(figures[name]).items()]
        lines += ["", f"# {path.what}", f"[{name}]", *fields]
    file.write_text("\n".join(lines) + "\n", "utf-8")


def differences(known: Mapping[str, Cost], measured: Mapping[str, Cost]) -> list[str]:
    """One line for each figure that differs from the committed one, better or worse."""
    return [line for name, cost in measured.items() for line in _differences(name, known.get(name), cost)]


def _differences(name: str, known: Cost | None, cost: Cost) -> Iterator[str]:
    if known is None:
        yield f"{name}: has no committed figures"
        return
    before = asdict(known)
    for field, now in asdict(cost).items():
        margin = MARGIN if field == "instructions" else 0.0
        if abs(now - before[field]) > margin * before[field]:
            change = f"{now / before[field] - 1:+.1%}, " if before[field] else ""
            may = f"margin {margin:.0%}" if margin else "exact"
            yield (f"{name} ({PATHS[name].what}): {now:,} {field}, committed are {before[field]:,} ({change}{may})")

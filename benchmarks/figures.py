"""A run as a document: figures by cell, with the median next to each round; written, read and compared."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import psutil

Figures = dict[str, Any]
_VERSION = 1
# For these the worst round counts: an error in one of three is an error.
_WORST = frozenset({"wrong", "unanswered", "errors", "left_open", "others_cpu"})


def document(cells: Mapping[str, Sequence[Figures]], **more: Any) -> dict[str, Any]:
    """The document of a run: every cell's rounds and their summary."""
    return {
        "version": _VERSION,
        **origin(),
        **more,
        "cells": {name: {"median": middle(rounds), "rounds": list(rounds)} for name, rounds in cells.items()},
    }


def origin() -> dict[str, Any]:
    """Time, commit and machine of a run."""
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "processors": os.cpu_count(),
            "memory_mb": psutil.virtual_memory().total // 1024**2,
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    }


def middle(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure; the worst of those that must be zero."""
    return {name: _middle([each[name] for each in rounds], worst=name in _WORST) for name in rounds[0]}


def _middle(values: Sequence[Any], *, worst: bool) -> Any:
    if isinstance(values[0], Mapping):
        names = dict.fromkeys(name for each in values for name in each)
        return {name: _middle([each.get(name, 0) for each in values], worst=worst) for name in names}
    return max(values) if worst else median(values)


def write(path: Path, run: Mapping[str, Any]) -> None:
    """Write a run's document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(run, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def read(path: Path) -> dict[str, Any]:
    """A run's document. Raises ``ValueError`` or ``OSError``."""
    with suppress(orjson.JSONDecodeError):
        run = orjson.loads(path.read_bytes())
        if isinstance(run, dict) and run.get("version") == _VERSION:
            return run
    raise ValueError(f"{path} is not a document of a benchmark")


def cpu(figures: Mapping[str, Any]) -> float:
    """Processor seconds per 1,000 requests, over all parts."""
    return float(sum(figures["cpu_s_per_1000"].values()))


def problems(figures: Mapping[str, Any]) -> str:
    """What went wrong, in a few words; empty if nothing did."""
    counts = {name: figures[name] for name in ("wrong", "unanswered", "left_open")} | dict(figures["errors"])
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""

"""One point of a curve: a new stack, its prepared data, a load, its figures."""

import math
import secrets
from dataclasses import replace
from typing import Any

from benchmarks.bench import Bench, open_bench
from benchmarks.cells import WARM_UP
from benchmarks.figures import Figures
from benchmarks.growth.curves import Curve, Point
from benchmarks.growth.seeds import NoRoomError, add_histories, add_rows, add_tenants
from benchmarks.measure import Timing, measure
from benchmarks.meters import PARTS
from benchmarks.question import Asking
from orchestra.process import max_open_files

# Files that a process has open besides the counted calls.
_FILES_BESIDE = 200
_DIGITS = 4


async def run(curve: Curve, step: int, timing: Timing) -> Figures:
    """The figures of a point: those of its cell, and the memory before it.

    Raises ``NoRoomError`` if the machine is too small, and the errors of ``open_bench`` and ``measure``.
    """
    point = curve.point(step)
    check_files(point.files)
    settings = {"WORKER_CONCURRENCY": str(point.slots)}
    async with open_bench(point.workers, point.gateways, point.partitions, settings) as bench:
        asking = await _prepare(bench, point, timing)
        await measure(bench, WARM_UP, Timing(measured=timing.warm, counted=0))
        idle = {"idle_pss_mb": bench.memory_mb()}
        figures = idle | await measure(bench, point.cell, timing, asking=asking)
    return rounded(figures if curve.shows == "answers" else {**figures, "kb_each": kb_each(figures)})


async def _prepare(bench: Bench, point: Point, timing: Timing) -> Asking:
    asking = Asking(secrets.token_hex(4))
    if point.messages:
        most = math.ceil(point.cell.rate * timing.of(point.cell).whole) + 1
        await add_histories(bench, asking.tag, most, point.messages)
        asking = replace(asking, goes_on=True)
    if point.rows:
        await add_rows(bench, point.rows)
    if point.tenants:
        asking = replace(asking, keys=await add_tenants(bench, point.tenants))
    return asking


def check_files(wanted: int) -> None:
    """Raise ``NoRoomError`` if a process may not open this many files plus those it needs anyway."""
    most = max_open_files()
    if wanted and wanted + _FILES_BESIDE > most:
        raise NoRoomError(f"it takes {wanted + _FILES_BESIDE} open files, and a process may have {most} (ulimit -Hn)")


def kb_each(figures: Figures) -> dict[str, float]:
    """The memory that each open call added to each part, in KiB."""
    before, now, calls = figures["idle_pss_mb"], figures["pss_mb"], max(1, figures["llm_open"])
    return {part: 1024 * (now[part] - before[part]) / calls for part in PARTS}


def rounded(figures: Figures) -> Figures:
    """The same with four digits per fraction, which exceeds their accuracy."""
    return {name: rounded(each) if isinstance(each, dict) else _short(each) for name, each in figures.items()}


def _short(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value

"""``python -m benchmarks`` runs the cells (``make bench``), ``… growth`` the growth curves (``make growth``).

``… console`` measures the operators' API in front of a large table, ``… neighbours`` how long others wait beside a
flood, ``… migrations`` what each migration of a large database blocks. ``… compare OLD NEW`` shows two runs of cells
side by side.
"""

import argparse
import asyncio
import logging
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks import migrations
from benchmarks.bench import open_bench
from benchmarks.cells import CELLS, QUICK, WARM_UP, Cell, chosen
from benchmarks.console import command as console
from benchmarks.figures import Figures, document, middle, read, write
from benchmarks.growth import command as growth
from benchmarks.measure import Timing, measure
from benchmarks.neighbours import command as neighbours
from benchmarks.report import comparison, idle_row, row, table
from orchestra.devstack.errors import PartFailedError

_QUICK = Timing(warm=1.5, measured=3.0, counted=1.0)
# After the start, before the idle time is measured, and that time.
_SETTLE_SECONDS = 10.0
_IDLE_SECONDS, _QUICK_IDLE_SECONDS = 30.0, 5.0
# Each returns whether something was amiss.
_COMMANDS = {
    "console": console.console,
    "growth": growth.growth,
    "migrations": migrations.migrations,
    "neighbours": neighbours.neighbours,
}


def main() -> None:
    """Exit code 1 if a caller received a reply that was not its own."""
    told = _arguments().parse_args()
    if told.command == "compare":
        sys.exit(_compare(told.old, told.new))
    # Warnings of our own clients about brokers that are shutting down are expected here.
    logging.disable(logging.CRITICAL)
    try:
        if told.command:
            sys.exit(1 if asyncio.run(_COMMANDS[told.command](told)) else 0)
        wrong = asyncio.run(_run(told, _cells(told), _timing(told)))
    except PartFailedError as error:
        sys.exit(f"{error}\n{error.log_tail}".strip())
    except KeyboardInterrupt:
        sys.exit("interrupted: everything that was started has ended")
    sys.exit(1 if wrong else 0)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and cost.")
    parser.add_argument(
        "--cells", help=f"comma-separated names or patterns; all cells: {','.join(c.name for c in CELLS)}"
    )
    parser.add_argument("--quick", action="store_true", help=f"3 s each, and by default only {','.join(QUICK)}")
    parser.add_argument("--seconds", type=float, help="seconds of measurement per cell (8)")
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="rounds, each on a new stack; the medians count"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--gateways", type=int, default=1, metavar="N", help="number of gateways, called in turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file, after each cell")
    commands = parser.add_subparsers(dest="command")
    compare = commands.add_parser("compare", help="show two files of --json side by side")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    console.add_arguments(commands.add_parser("console", help="how the operators' API scales with a large table"))
    growth.add_arguments(commands.add_parser("growth", help="how the cost of a request grows with its surroundings"))
    migrations.add_arguments(commands.add_parser("migrations", help="what migrations of a large database block"))
    neighbours.add_arguments(commands.add_parser("neighbours", help="how long other callers wait beside a flood"))
    return parser


def _cells(told: argparse.Namespace) -> list[Cell]:
    names = told.cells.split(",") if told.cells else QUICK if told.quick else ["*"]
    try:
        return chosen(names)
    except ValueError as error:
        sys.exit(str(error))


def _timing(told: argparse.Namespace) -> Timing:
    timing = _QUICK if told.quick else Timing()
    return Timing(timing.warm, told.seconds or timing.measured, timing.counted)


async def _run(told: argparse.Namespace, cells: list[Cell], timing: Timing) -> int:
    """Run all rounds; returns the number of wrong replies."""
    rounds: dict[str, list[Figures]] = defaultdict(list)
    idle: list[Figures] = []
    for number in range(told.repeat):
        print(f"round {number + 1} of {told.repeat}: starting the stack", flush=True)
        async with open_bench(told.workers, told.gateways) as bench:
            memory = bench.memory_mb()
            await asyncio.sleep(_SETTLE_SECONDS)
            seconds = _QUICK_IDLE_SECONDS if told.quick else _IDLE_SECONDS
            idle.append({"idle_pss_mb": memory, "idle_cpu_percent": await bench.idle_percent(seconds)})
            print(f"idle: {idle_row(idle[-1])}", flush=True)
            await measure(bench, WARM_UP, Timing(measured=timing.warm, counted=0))
            for cell in cells:
                figures = await measure(bench, cell, timing)
                rounds[cell.name].append(figures)
                print(f"{cell.name}: {'; '.join(row(figures))}", flush=True)
                _write(told, timing, rounds, idle)
    print(table({name: middle(each) for name, each in rounds.items()}))
    print(f"\nidle: {idle_row(middle(idle))}")
    return sum(each["wrong"] for name in rounds for each in rounds[name])


def _write(told: argparse.Namespace, timing: Timing, rounds: dict[str, list[Figures]], idle: list[Figures]) -> None:
    if told.json:
        run: dict[str, Any] = {"workers": told.workers, "gateways": told.gateways, "seconds": timing.measured}
        write(told.json, document(rounds, **run, **middle(idle)))


def _compare(old: Path, new: Path) -> str | None:
    try:
        print(comparison(read(old), read(new)))
    except (OSError, ValueError) as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()

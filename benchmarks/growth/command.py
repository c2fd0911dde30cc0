"""``python -m benchmarks growth``: measures curves point by point; each point is stored and drawn at once."""

import argparse
import sys
from pathlib import Path

from benchmarks.figures import problems
from benchmarks.growth.curves import CURVES, Curve, chosen
from benchmarks.growth.plot import draw
from benchmarks.growth.record import FILE, Record, read, with_point, write
from benchmarks.growth.run import run
from benchmarks.growth.seeds import NoRoomError
from benchmarks.measure import Timing
from benchmarks.report import row

_OUT = Path("docs/performance/growth")
_SECONDS = 15.0
_WHAT = """
How the cost of a request grows with its surroundings. Each point has a new stack. Figures and pictures are written
after each point; other points of the curve, and other curves, are kept.
"""
_STEPS = "; ".join(f"{each.name} ({each.grows}): {', '.join(f'{step:,}' for step in each.steps)}" for each in CURVES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's arguments."""
    parser.description, parser.epilog = _WHAT, f"The curves and their points: {_STEPS}."
    parser.add_argument("--curves", type=_curves, default=list(CURVES), help="comma-separated names (default: all)")
    parser.add_argument("--points", type=_steps, help="comma-separated; only these, which need not be a curve's own")
    parser.add_argument(
        "--seconds", type=float, default=_SECONDS, help=f"seconds of measurement per point ({_SECONDS:.0f})"
    )
    parser.add_argument(
        "--out", type=Path, default=_OUT, metavar="FOLDER", help=f"folder for figures and pictures ({_OUT})"
    )


async def growth(told: argparse.Namespace) -> int:
    """Measure everything asked for; returns the number of points with wrong, failed or missing answers."""
    record, amiss = _before(told.out / FILE), 0
    for curve in told.curves:
        for step in told.points or curve.steps:
            try:
                figures = await run(curve, step, Timing(measured=told.seconds))
            except NoRoomError as error:
                print(f"{curve.name} {step:,}: skipped, {error}", flush=True)
                continue
            print(f"{curve.name} {step:,}: {'; '.join(row(figures))}", flush=True)
            record = with_point(record, curve.name, step, figures)
            write(told.out / FILE, record)
            draw(curve, record[curve.name], told.out / f"{curve.name}.svg")
            amiss += bool(problems(figures))
    return amiss


def _curves(text: str) -> list[Curve]:
    try:
        return chosen(text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _steps(text: str) -> list[int]:
    return [int(step) for step in text.split(",")]


def _before(path: Path) -> Record:
    try:
        return read(path)
    except ValueError as error:
        sys.exit(str(error))

"""``python -m faults``: the campaign at CI size (``make faults``), or whole with ``--full`` (``make faults-full``)."""

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path

from faults.campaign import campaign
from faults.phases import PHASES, Phase
from faults.report import markdown, problems, table
from faults.soak import soak

_CI_MINUTES = 9.0


def main() -> None:
    """Exit code 1 if a promise was broken or a danger was never met."""
    told = _arguments().parse_args()
    phases = _chosen(told.only) if told.only else list(PHASES)
    if told.soak:
        phases.append(soak(told.soak))
    minutes = told.minutes or (None if told.full else _CI_MINUTES)
    # Warnings of our own clients about unreachable brokers are expected here.
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    outcomes = asyncio.run(campaign(phases, full=told.full, minutes=minutes))
    whole = {phase.name for phase in PHASES} <= {phase.name for phase in phases}
    print(table(outcomes))
    found = problems(outcomes, whole=whole)
    for line in found:
        print(line)
    if told.report:
        taken = (time.monotonic() - began) / 60
        told.report.parent.mkdir(parents=True, exist_ok=True)
        told.report.write_text(markdown(outcomes, full=told.full, minutes=taken, whole=whole), encoding="utf-8")
    sys.exit(1 if found else 0)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m faults", description="Break the system on purpose and count.")
    parser.add_argument("--full", action="store_true", help="run at the size of the whole campaign, not of CI")
    parser.add_argument("--only", help=f"comma-separated phases: {','.join(phase.name for phase in PHASES)}")
    parser.add_argument(
        "--minutes", type=float, help="time for the phases, approximately; the report says what was reached"
    )
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="at the end: load, with a fault every minute")
    parser.add_argument("--report", type=Path, help="write a Markdown report to this file")
    return parser


def _chosen(names: str) -> list[Phase]:
    known = {phase.name: phase for phase in PHASES}
    if strange := [name for name in names.split(",") if name not in known]:
        sys.exit(f"unknown: {', '.join(strange)}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


if __name__ == "__main__":
    main()

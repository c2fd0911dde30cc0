"""``python -m benchmarks neighbours``: how long other callers wait while one owner floods the system, or attacks it.

A second owner of the flood's tenant and one of another tenant call a few times a second, all the time. Next to them one
setting follows the other, in rounds, so that all of them are measured on the same machine.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import open_bench
from benchmarks.figures import origin, write
from benchmarks.neighbours.run import open_run
from benchmarks.question import MODEL
from benchmarks.report import lines

_SECONDS, _ROUNDS = 40.0, 1
# What the flood asks for: a word at once, and another every 20 s.
_MODELS = {"simulated": "simulated:tokens=16000,gap_ms=20000", "upstream": MODEL}
_ATTACKS = "attacks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's arguments."""
    parser.description = __doc__
    beside = [*_MODELS, _ATTACKS]
    parser.add_argument(
        "--beside", nargs="+", choices=beside, default=beside, help="a flood of calls to this model, or attacks"
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"of all settings ({_ROUNDS})")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help=f"of a setting without an end ({_SECONDS:.0f})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")


async def neighbours(told: argparse.Namespace) -> int:
    """Measure everything asked for; returns the number of calls of neighbours without their own answer."""
    found, amiss = {}, 0
    for beside in told.beside:
        async with (
            open_bench(workers=2, gateways=2, settings={"OPEN_MODE": "false"}) as bench,
            open_run(bench, attacked=beside == _ATTACKS) as run,
        ):
            for _ in range(told.rounds):
                if beside == _ATTACKS:
                    await run.attacks(told.seconds)
                else:
                    await run.flood(_MODELS[beside], told.seconds)
        found[beside] = run.figures()
        amiss += run.amiss
        print(f"beside {beside}\n\n{table(found[beside])}\n", flush=True)
        if told.json:
            write(told.json, {**origin(), "beside": found})
    return amiss


def table(figures: Mapping[str, Any]) -> str:
    """One row per setting: p50/p95 of each neighbour, its p95 by that of the first setting; processors and memory."""
    quiet = next(iter(figures.values()))
    who, parts, peaks = (quiet[name] for name in ("latency_ms", "cores", "peak_mib"))
    return lines(
        ("setting", *who, "samples", "seconds", f"cores: {' + '.join(parts)}", f"peak MiB: {', '.join(peaks)}"),
        [
            [
                name,
                *(_waits(each["latency_ms"][one], who[one]) for one in who),
                str(min(latency["samples"] for latency in each["latency_ms"].values())),
                ", ".join(f"{seconds:.0f}" for seconds in each["seconds"]),
                " + ".join(f"{used:.2f}" for used in each["cores"].values()),
                ", ".join(f"{peak:.0f}" for peak in each["peak_mib"].values()),
            ]
            for name, each in figures.items()
        ],
    )


def _waits(latency: Mapping[str, float], quiet: Mapping[str, float]) -> str:
    return f"{latency['p50']:.0f}/{latency['p95']:.0f} ms ({latency['p95'] / quiet['p95']:.1f} times)"

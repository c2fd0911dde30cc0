"""One cell: set the model, start the load, read the meters at each change of phase, and compute the figures."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from benchmarks.bench import Bench
from benchmarks.cells import OPENAI, Cell
from benchmarks.fake_model import Settings
from benchmarks.load import Plan, dumped
from benchmarks.meters import PARTS, Reading
from benchmarks.question import Asking
from orchestra.devstack.part import python_module

Figures = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Seconds of each phase of a load. A phase is at least as long as the model takes for an answer."""

    warm: float = 2.0
    measured: float = 8.0
    counted: float = 2.0

    def of(self, cell: Cell) -> "Timing":
        """The timing for this cell, whose warm-up must not end before its first answers."""
        least = cell.llm_seconds
        return Timing(self.warm + least, max(self.measured, least), max(self.counted, least))

    @property
    def whole(self) -> float:
        """Seconds in which requests are sent."""
        return self.warm + self.measured + self.counted


async def measure(
    bench: Bench,
    cell: Cell,
    timing: Timing,
    wrong_every: int = 0,
    asking: Asking | None = None,
    urls: Sequence[str] | None = None,
) -> Figures:
    """Run one cell; returns its figures (see docs/performance/index.md).

    ``wrong_every``: see ``Settings``. ``urls``: what to call, in place of what the cell's kind says.

    Raises ``RuntimeError`` if the load's process fails.
    """
    await bench.set_model(Settings(cell.llm_ms, cell.tokens, cell.gap_ms, wrong_every))
    plan = _plan(bench, cell, timing.of(cell), asking or Asking(secrets.token_hex(4)), urls or _urls(bench, cell))
    async with _load(plan) as (pid, lines):
        groups = bench.groups(pid)
        before = after = await bench.meters.read(groups)
        memory: Mapping[str, float] = {}
        calls, open_now, statements, result = 0, 0, 0, None
        async for line in lines:
            match line.get("phase"):
                case "measured":
                    calls = (await bench.model_stats())["calls"]
                    before = await bench.meters.read(groups)
                case "counted":
                    after = await bench.meters.read(groups)
                    stats = await bench.model_stats()
                    calls, open_now = stats["calls"] - calls, stats["open"]
                    memory = bench.memory_mb()
                    await bench.statements.on()
                case "over":
                    statements = await bench.statements.off()
            result = line.get("result")
    if result is None:
        raise RuntimeError(f"the load of {cell.name} failed")
    stats = await bench.model_stats()
    left = await bench.settle()
    return {
        **_told(cell, result),
        **used(before, after, result["answered"]),
        "cpu_ms_per_token": _cpu(before, after) * 1000 / max(1, result["answered"] * cell.tokens),
        "pss_mb": memory,
        "statements_per_request": statements / max(1, result["counted"]),
        "llm_calls_per_request": calls / max(1, result["answered"]),
        "llm_most_open": stats["most_open"],
        "llm_open": open_now,
        "messages_per_prompt": stats["messages"] / max(1, stats["calls"]),
        "left_open": left,
    }


def _urls(bench: Bench, cell: Cell) -> list[str]:
    if cell.kind == "direct":
        return [f"{bench.model_url}/v1"]
    return [f"{url}/openai/v1" if cell.kind in OPENAI else url for url in bench.urls]


def _plan(bench: Bench, cell: Cell, timing: Timing, asking: Asking, urls: Sequence[str]) -> Plan:
    return Plan(
        cell=cell,
        asking=asking,
        urls=[*urls],
        bootstrap=bench.bootstrap,
        **asdict(timing),
    )


@asynccontextmanager
async def _load(plan: Plan) -> AsyncIterator[tuple[int, AsyncIterator[dict[str, Any]]]]:
    """The load's process: its pid, and the lines that it prints."""
    command, pipe = python_module("benchmarks.load"), asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=sys.stderr)
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(dumped(plan))
        process.stdin.write_eof()
        yield process.pid, _parsed(process.stdout)
    finally:
        if process.returncode is None and not process.stdout.at_eof():
            process.kill()
        await process.wait()


async def _parsed(lines: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    async for line in lines:
        yield orjson.loads(line)


def _told(cell: Cell, result: Mapping[str, Any]) -> Figures:
    """The load's figures; overhead is the time beyond the model's own, to the first text for streams."""
    model_ms = cell.llm_ms if cell.kind.endswith("stream") else 1000 * cell.llm_seconds
    return {
        "rps": result["rps"],
        "overhead_p50_ms": result["latency_p50_ms"] - model_ms,
        "overhead_p99_ms": result["latency_p99_ms"] - model_ms,
        **{name: result[name] for name in ("answered", "wrong", "unanswered", "errors")},
    }


def used(before: Reading, after: Reading, answered: int) -> Figures:
    """Usage between two readings: ours per request, the harness's in cores, other processes' as a share."""
    by_group = {group: after.cpu[group] - before.cpu[group] for group in after.cpu}
    total = after.total - before.total
    strangers = after.busy - before.busy - sum(by_group.values())
    requests = max(1, answered)
    return {
        "cpu_s_per_1000": {part: 1000 * by_group[part] / requests for part in PARTS},
        "cpu_share": {group: seconds / total for group, seconds in by_group.items()},
        "others_cpu": max(0.0, strangers / total),
        "commits_per_request": (after.commits - before.commits) / requests,
        "records_per_request": {
            topic: (after.records[topic] - before.records[topic]) / requests for topic in sorted(after.records)
        },
    }


def _cpu(before: Reading, after: Reading) -> float:
    return sum(after.cpu[part] - before.cpu[part] for part in PARTS)

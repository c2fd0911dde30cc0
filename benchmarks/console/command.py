"""``python -m benchmarks console``: what the console's calls cost with a million requests, and what viewers cost."""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks.bench import open_bench
from benchmarks.cells import WARM_UP
from benchmarks.console.asked import Asked, asking
from benchmarks.console.call import Call
from benchmarks.console.pages import calls, filtered
from benchmarks.console.seeds import fill, written
from benchmarks.console.viewers import added_percent
from benchmarks.measure import Timing, measure
from benchmarks.report import lines

MAX_RATIO, MAX_PERCENT, VIEWERS = 3.0, 5.0, 50
"""Limits: a call's time by that of its SQL alone, and what the viewers add to a gateway, in percent of a core."""
_WHAT = """
How the operators' API scales: fills Postgres with requests of many tenants, writes 200 more a second, and measures each
call of each page of the console beside its SQL alone, the rows that its statements read with all filters, and what
viewers cost a gateway.
"""
_WARM = Timing(measured=2.0, counted=0)
_ROWS, _ROUNDS, _TRIPLES, _SECONDS = 1_000_000, 60, 300, 30.0


@dataclass(frozen=True)
class Timed:
    """Milliseconds of a call over HTTP and of its statements alone, and how many rows these read."""

    call: Call
    statements: int
    http: Sequence[float]
    sql: Sequence[float]
    rows: int

    @property
    def ratio(self) -> float:
        """The median of the call by that of its SQL; 0: it has none."""
        return self.beyond(0)

    def beyond(self, milliseconds: float) -> float:
        """The same for what the call takes beyond this time."""
        return (statistics.median(self.http) - milliseconds) / statistics.median(self.sql) if any(self.sql) else 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's arguments."""
    parser.description = _WHAT
    parser.add_argument("--rows", type=int, default=_ROWS, help=f"requests in the table ({_ROWS:,})")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"how often each call is measured ({_ROUNDS})")
    parser.add_argument("--triples", type=int, default=_TRIPLES, help=f"random filters of three fields ({_TRIPLES})")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help=f"of each part with viewers ({_SECONDS:.0f})")


async def console(told: argparse.Namespace) -> int:
    """Measure everything; returns how many limits are exceeded."""
    async with open_bench() as bench, aiohttp.ClientSession(bench.urls[0]) as session:
        began = time.monotonic()
        keys = await fill(bench, told.rows)
        print(f"{told.rows:,} requests written in {time.monotonic() - began:.0f} s", flush=True)
        await measure(bench, WARM_UP, _WARM)  # Kafka's topics must have records.
        url = bench.stack.status()["database"]["url"]
        async with asking(url, keys) as asked, written(url):
            timed = await _timed(asked, session, await calls(bench.database), keys, told.rounds)
            print(_table(timed), flush=True)
            added = await added_percent(bench, session, VIEWERS, told.seconds)
            print(_viewers(added), flush=True)
            most = await _most_rows(asked, told.triples)
    print(_filters(most))
    slow = [each for each in timed if each.ratio > MAX_RATIO]
    wide = [each for each in timed if each.rows > each.call.max_rows]
    return len(slow) + len(wide) + sum(each > MAX_PERCENT for each in added.values()) + len(most.over)


async def _timed(
    asked: Asked, session: aiohttp.ClientSession, made: Sequence[Call], keys: Mapping[str, str], rounds: int
) -> list[Timed]:
    """Each call and its SQL in turns, so that both meet the same load. The first round is not counted."""
    statements = [await asked.statements(call) for call in made]
    rows = [await asked.rows(each) for each in statements]
    http: list[list[float]] = [[] for _ in made]
    sql: list[list[float]] = [[] for _ in made]
    for number in range(rounds + 1):
        for call, own, over, alone in zip(made, statements, http, sql, strict=True):
            began = time.perf_counter()
            async with session.get(call.path, params=call.query, headers=call.headers(keys)) as response:
                await response.read()
            answered = time.perf_counter()
            await asked.run(own)
            if number:
                over.append(1000 * (answered - began))
                alone.append(1000 * (time.perf_counter() - answered) if own else 0.0)
            response.raise_for_status()
    return [Timed(*each) for each in zip(made, map(len, statements), http, sql, rows, strict=True)]


@dataclass(frozen=True)
class _Most:
    """The rows that were read with each combination of filters."""

    rows: Sequence[tuple[Call, int]]

    @property
    def over(self) -> list[tuple[Call, int]]:
        """Those that read more than they may."""
        return [(call, rows) for call, rows in self.rows if rows > call.max_rows]


async def _most_rows(asked: Asked, triples: int) -> _Most:
    return _Most([(call, await asked.rows(await asked.statements(call))) for call in filtered(triples)])


def _table(timed: Sequence[Timed]) -> str:
    empty = min(statistics.median(each.http) for each in timed if not each.ratio)
    head = (
        "page", "call", "HTTP ms p50/p95", "SQL ms p50/p95", "ratio", f"beyond {empty:.1f} ms", "statements", "rows",
        "exceeds",
    )  # fmt: skip
    return lines(head, [_row(each, empty) for each in timed])


def _row(each: Timed, empty: float) -> list[str]:
    over = ["time"] * (each.ratio > MAX_RATIO) + ["rows"] * (each.rows > each.call.max_rows)
    alone = (_both(each.sql), f"{each.ratio:.1f}", f"{each.beyond(empty):.1f}") if each.ratio else ("-", "-", "-")
    called = [each.call.page, f"`{each.call.shown}`", _both(each.http)]
    return [*called, *alone, str(each.statements), f"{each.rows:,}", ", ".join(over) or "-"]


def _both(milliseconds: Sequence[float]) -> str:
    return f"{statistics.median(milliseconds):.1f}/{statistics.quantiles(milliseconds, n=20)[-1]:.1f}"


def _viewers(added: Mapping[str, float]) -> str:
    return lines(
        (f"{VIEWERS} viewers of", "added to a gateway, % of a core", "exceeds"),
        [[page, f"{each:.1f}", "yes" if each > MAX_PERCENT else "-"] for page, each in added.items()],
    )


def _filters(most: _Most) -> str:
    paths = dict.fromkeys(call.path for call, _ in most.rows)
    rows = {path: [rows for call, rows in most.rows if call.path == path] for path in paths}
    over = [f"{call.shown}{(call.user and f' as {call.user}') or ''}: {rows:,} rows" for call, rows in most.over]
    table = [[path, f"{len(rows[path]):,}", f"{max(rows[path]):,}"] for path in paths]
    return "\n".join([lines(("list", "combinations of filters", "most rows read"), table), *over])

"""Figures as Markdown tables: of one run, or of two side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import cpu, problems
from benchmarks.meters import OFFSETS_TOPIC, PARTS

QUIET = 0.1
_HEAD = (
    "cell", "r/s", "+ms p50/p99", f"CPU s per 1,000: {' + '.join(PARTS)}", "all", "MB ours + infra",
    "statements", "commits", "records", "model calls", "others", "amiss",
)  # fmt: skip


def table(cells: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per cell, with its medians."""
    return lines(_HEAD, [[name, *row(figures)] for name, figures in cells.items()])


def row(figures: Mapping[str, Any]) -> list[str]:
    """One cell's figures as text, in the order of the table's head."""
    used, memory = figures["cpu_s_per_1000"], figures["pss_mb"]
    return [
        f"{figures['rps']:,.0f}",
        f"{figures['overhead_p50_ms']:,.1f}/{figures['overhead_p99_ms']:,.1f}",
        " + ".join(f"{used[part]:.2f}" for part in PARTS),
        f"{cpu(figures):.2f}",
        " + ".join(f"{sum(memory[part] for part in parts):.0f}" for parts in (PARTS[:3], PARTS[3:])),
        f"{figures['statements_per_request']:.2f}",
        f"{figures['commits_per_request']:.2f}",
        f"{records(figures):.2f}",
        f"{figures['llm_calls_per_request']:.2f}",
        f"{figures['others_cpu']:.2f}",
        problems(figures) or "-",
    ]


def idle_row(figures: Mapping[str, Any]) -> str:
    """The processor time of each part while nothing is asked of it, and that of our own parts together."""
    used: Mapping[str, float] = figures["idle_cpu_percent"]
    parts = " + ".join(f"{part} {used[part]:.2f}" for part in PARTS)
    return f"{parts} % of a core; {sum(used[part] for part in PARTS[:3]):.2f} % without Kafka and Postgres"


def records(figures: Mapping[str, Any]) -> float:
    """Records per request on our own topics; commits of offsets do not count."""
    counts: Mapping[str, float] = figures["records_per_request"]
    return sum(count for topic, count in counts.items() if topic != OFFSETS_TOPIC)


def comparison(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The cells that two runs share: both figures, and new divided by old. For times and costs, below 1 is a gain."""
    shared = [name for name in old["cells"] if name in new["cells"]]
    pairs = {name: (old["cells"][name]["median"], new["cells"][name]["median"]) for name in shared}
    return lines(
        ("cell", "r/s", "p50 ms", "p99 ms", "CPU s per 1,000", "MB", "noisy", "amiss now"),
        [[name, *_compared(*pair)] for name, pair in pairs.items()],
    )


def _compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    noise = max(old["others_cpu"], new["others_cpu"])
    return [
        _change(old["rps"], new["rps"]),
        _change(old["overhead_p50_ms"], new["overhead_p50_ms"]),
        _change(old["overhead_p99_ms"], new["overhead_p99_ms"]),
        _change(cpu(old), cpu(new)),
        _change(sum(old["pss_mb"].values()), sum(new["pss_mb"].values())),
        f"{noise:.2f}" if noise > QUIET else "-",
        problems(new) or "-",
    ]


def _change(old: float, new: float) -> str:
    ratio = f"{new / old:.2f} times" if old > 0 and new > 0 else "no ratio"
    return f"{_short(old)} → {_short(new)} ({ratio})"


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(words)} |" for words in (head, ["---"] * len(head), *rows))

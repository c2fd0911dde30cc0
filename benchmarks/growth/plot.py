"""A curve as a picture: three panels of a request's cost, over what grows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from benchmarks.figures import cpu, problems
from benchmarks.growth.curves import Curve
from benchmarks.meters import PARTS

Lines = Mapping[str, float]
_OURS = PARTS[:3]
_COLOURS = {
    "gateway": "#0072b2", "worker": "#d55e00", "llm_service": "#009e73", "kafka": "#999999", "postgres": "#cc79a7",
    "all": "#000000", "p50": "#0072b2", "p99": "#d55e00", "statements": "#cc79a7",
}  # fmt: skip
# The same figures must produce the same bytes, whenever and wherever they are drawn.
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 8, "font.family": "sans-serif",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
    "legend.frameon": False, "legend.fontsize": 7,
}  # fmt: skip
_NO_DATE = {"Date": None, "Creator": None}


@dataclass(frozen=True)
class _Panel:
    """One picture of a curve: its title with the unit, and its lines at a point. ``log``: logarithmic y axis too."""

    title: str
    lines: Callable[[Mapping[str, Any]], Lines]
    log: bool = False


def draw(curve: Curve, points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the picture of a curve's points, in their order, as an SVG."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 2.9), layout="constrained")
        for axes, panel in zip(figure.subplots(1, 3), _PANELS[curve.shows], strict=True):
            _draw(axes, curve, panel, points)
        figure.savefig(path, format="svg", metadata=_NO_DATE)


def _draw(axes: Axes, curve: Curve, panel: _Panel, points: Sequence[Mapping[str, Any]]) -> None:
    places, told = [point["at"] for point in points], [panel.lines(point) for point in points]
    for name in told[0]:
        axes.plot(
            places,
            [lines[name] for lines in told],
            "o-",
            color=_COLOURS[name],
            label=name.replace("_", " "),
            markersize=3,
        )
    for point in points:
        if problems(point):
            axes.axvline(point["at"], color="red", linestyle=":", label="_")
    _scale(axes, curve, places)
    axes.margins(y=0.3)  # Room for the legend.
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(panel.title)
    axes.set_xlabel(curve.grows)
    if len(told[0]) > 1:
        axes.legend(loc="upper left", ncols=3)


def _scale(axes: Axes, curve: Curve, places: Sequence[int]) -> None:
    match curve.scale:
        case "log":
            axes.set_xscale("log")
        case "log2":
            axes.set_xscale("log", base=2)
        case "log from 0":
            axes.set_xscale("symlog", linthresh=min(place for place in curve.steps if place))
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FixedFormatter([_short(place) for place in places]))


def _short(number: int) -> str:
    for unit, name in ((1_000_000, " M"), (1000, " k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return str(number)


def _cpu_ms(point: Mapping[str, Any]) -> Lines:
    return {**point["cpu_s_per_1000"], "all": cpu(point)}


def _cpu_us_a_token(point: Mapping[str, Any]) -> Lines:
    tokens = cpu(point) / point["cpu_ms_per_token"]
    return {part: 1000 * milliseconds / tokens for part, milliseconds in _cpu_ms(point).items()}


def _beyond(point: Mapping[str, Any]) -> Lines:
    return {"p50": point["overhead_p50_ms"], "p99": point["overhead_p99_ms"]}


def _memory(point: Mapping[str, Any]) -> Lines:
    return {part: point["pss_mb"][part] for part in _OURS}


_CPU = _Panel("CPU, ms an answer", _cpu_ms)
# A single call carries all of the idle cost.
_CPU_OF_CALLS = _Panel("CPU, ms an answer", _cpu_ms, log=True)
_CPU_OF_TOKENS = _Panel("CPU, µs a token", _cpu_us_a_token, log=True)
_MEMORY = _Panel("memory (Pss), MB", _memory, log=True)
_BEYOND = _Panel("beyond the model, ms", _beyond)
_STATEMENTS = _Panel("statements an answer", lambda point: {"statements": point["statements_per_request"]})
_PANELS = {
    "answers": (_CPU, _STATEMENTS, _BEYOND),
    "calls": (_MEMORY, _CPU_OF_CALLS, _BEYOND),
    "streams": (_MEMORY, _CPU_OF_TOKENS, _Panel("first text beyond the model, ms", _beyond)),
}

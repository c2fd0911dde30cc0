"""PromQL for one metric, with the unit and the legend of what comes out."""

from dataclasses import dataclass

from deploy.known import by_series

STEP = "$__rate_interval"
"""Grafana's name for the shortest range over which a rate of what was scraped means something."""
_UNITS = {"seconds": "s", "bytes": "bytes", "dollars": "currencyUSD"}


@dataclass(frozen=True)
class Query:
    """``unit``: by Grafana's name; ``legend``: names each line, with labels in double braces."""

    expr: str
    unit: str
    legend: str = ""


def unit(name: str) -> str:
    """Grafana's unit of a metric, by the unit in its name; else a plain number."""
    words = name.removesuffix("_total").split("_")
    return _UNITS.get(words[-1], "short")


def now(name: str, *by: str, where: str = "", legend: str = "") -> Query:
    """A gauge, over the processes: its maximum if all show the same number or it is a time, otherwise its sum."""
    how = "max" if by_series()[name].same_everywhere or unit(name) == "s" else "sum"
    return Query(f"{how}{_by(*by)}({name}{where})", unit(name), legend or _legend(by))


def summed(name: str, *by: str, over: str, where: str = "", legend: str = "") -> Query:
    """A gauge that is the same at every gateway, added up over its label ``over``."""
    return Query(f"sum{_by(*by)}(max{_by(*by, over)}({name}{where}))", unit(name), legend or _legend(by))


def lowest(name: str, *by: str) -> Query:
    """The minimum of a gauge over the processes."""
    return Query(f"min{_by(*by)}({name})", unit(name), _legend(by))


def per_second(name: str, *by: str, where: str = "", legend: str = "") -> Query:
    """How fast a counter grows."""
    return Query(f"sum{_by(*by)}(rate({name}{where}[{STEP}]))", "cps", legend or _legend(by))


def per_hour(name: str, *by: str) -> Query:
    """How much a counter grows in an hour at its present speed."""
    return Query(f"3600 * sum{_by(*by)}(rate({name}[{STEP}]))", unit(name), _legend(by))


def times(name: str, *by: str, legend: str = "") -> Query:
    """How often something rare happened since the point before."""
    return Query(f"sum{_by(*by)}(increase({name}[{STEP}]))", unit(name), legend or _legend(by))


def quantile(share: float, name: str, *by: str) -> Query:
    """The value that this share of a histogram's observations does not exceed."""
    rates = f"sum{_by('le', *by)}(rate({name}_bucket[{STEP}]))"
    return Query(f"histogram_quantile({share}, {rates})", unit(name), f"p{share * 100:g} {_legend(by)}".strip())


def increased(name: str, window: str, *by: str) -> str:
    """PromQL: by how much a counter grew within ``window``, counted from 0 if its series began within it.

    ``increase`` alone misses the first event, with which a series with labels, or of a new process, begins. A series
    counts as new if it was not there in the hour before the window, so a failed scrape makes none new.
    """
    new = f"{name} unless max_over_time({name}[1h] offset {window})"
    return f"sum{_by(*by)}(({new}) or increase({name}[{window}]))"


def _by(*labels: str) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def _legend(labels: tuple[str, ...]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels)

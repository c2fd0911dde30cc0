"""Dashboards and alerts read metrics that exist, in the way that gives a true number, and show what it is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.alerts import Alert, alerts
from deploy.dashboards import Panel, boards
from deploy.files import FOLDER, files
from deploy.known import by_series, metrics
from deploy.queries import unit
from tests.support.promql import OTHERS, TARGET, Read, reads
from tests.support.tree import ROOT

PANELS = [
    (f"{board.name}: {title}: {panel.title}", panel)
    for board in boards()
    for title, row in board.rows.items()
    for panel in row
]
EXPRESSIONS = [
    *((f"{name} {place}", query.expr) for name, panel in PANELS for place, query in enumerate(panel.queries)),
    *((alert.name, alert.expr) for alert in alerts()),
]
expressions = pytest.mark.parametrize("expr", [expr for _, expr in EXPRESSIONS], ids=[name for name, _ in EXPRESSIONS])
panels = pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[name for name, _ in PANELS])
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
dashboards = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
GROWTH = {"rate", "increase"}
# Grafana's names, by the unit in the name of a metric.
UNITS = {"seconds": {"s"}, "bytes": {"bytes"}, "dollars": {"currencyUSD"}}


def labels_of(read: Read) -> set[str]:
    """The labels that a series has."""
    if read.name in OTHERS:
        return OTHERS[read.name]
    return set(by_series()[read.name].labels) | TARGET | ({"le"} if read.name.endswith("_bucket") else set())


def shown(path: Path) -> list[dict[str, Any]]:
    """The panels of a dashboard, without the titles of its rows."""
    return [panel for panel in json.loads(path.read_text("utf-8"))["panels"] if panel["type"] != "row"]


def test_the_files_are_what_the_code_says() -> None:
    """Every dashboard, the alerts and the configuration of Prometheus are as `make docs` writes them, and no more."""
    assert files() == {name: (FOLDER / name).read_text("utf-8") for name in files()}
    assert {board.name for board in boards()} == {path.stem for path in DASHBOARDS}


@expressions
def test_what_is_read_exists(expr: str) -> None:
    """A panel or an alert names only metrics and labels that exist, and only values that the label can have."""
    for read in reads(expr):
        assert read.name in by_series() or read.name in OTHERS
        named = {name for name, _, _ in read.matchers}
        assert set() == named - labels_of(read)
        for name, _, values in read.matchers:
            known = by_series()[read.name].labels[name].values if read.name in by_series() else None
            assert not known or set() == set(values.split("|")) - known
    assert set() == set().union(*(read.grouped - {"le"} for read in reads(expr))) - set().union(
        *map(labels_of, reads(expr))
    )


@expressions
def test_a_number_that_all_gateways_show_is_not_added_up(expr: str) -> None:
    """What is the same at every gateway is taken by its maximum first, and an age or a duration is never added up."""
    for read in reads(expr):
        metric = by_series().get(read.name)
        if metric and metric.same_everywhere:
            assert "max" == read.inside[0]
        if metric and metric.kind == "gauge" and unit(metric.name) == "s":
            assert "sum" not in read.inside


@expressions
def test_counters_are_read_by_their_growth(expr: str) -> None:
    """What only grows is read as a rate or an increase, before anything is added up; a gauge never is."""
    found = reads(expr)
    for read in found:
        metric = by_series().get(read.name)
        # An alert compares a counter with its own past, so that the event with which a series begins counts.
        begins = {"max_over_time"} & {
            function for other in found if other.name == read.name for function in other.inside
        }
        if metric and metric.kind == "gauge":
            assert GROWTH.isdisjoint(read.inside)
        elif metric and not begins:
            assert read.inside[0] in GROWTH


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_no_alert_misses_the_first_event(alert: Alert) -> None:
    """An alert on any growth of a counter also sees a series that begins with the event."""
    found = reads(alert.expr)
    for name in {read.name for read in found if read.inside[:1] == ("increase",)}:
        # As `deploy.queries.increased` writes it: the series itself, unless it was there before, or its increase.
        assert {"sum", "max_over_time", "increase"} == {read.inside[0] for read in found if read.name == name}


def test_same_everywhere_is_what_the_reference_says() -> None:
    """A metric whose name is not that of one gateway is described as the same at every gateway, and no other is."""
    said = {metric.name for metric in metrics() if "The same at every gateway" in metric.what}

    assert said == {metric.name for metric in metrics() if metric.same_everywhere}


def test_every_metric_has_a_panel() -> None:
    """Each metric of each service is on a dashboard."""
    read = {
        by_series()[each.name].name
        for _, expr in EXPRESSIONS[: -len(alerts())]
        for each in reads(expr)
        if each.name in by_series()
    }

    assert [] == [metric.name for metric in metrics() if metric.name not in read]


@panels
def test_a_panel_has_the_unit_of_its_metric(panel: Panel) -> None:
    """Seconds, bytes and dollars are shown as such, what has no unit as a number, a speed or a share."""
    (shown,) = {query.unit for query in panel.queries}
    for read in (read for query in panel.queries for read in reads(query.expr) if read.name in by_series()):
        measured = by_series()[read.name].name.removesuffix("_total").rpartition("_")[2]
        assert shown in UNITS.get(measured, {"short", "cps", "percentunit"})


@panels
def test_a_legend_names_labels_that_are_there(panel: Panel) -> None:
    """Each label in a legend is one by which the query groups, and all of these are in it."""
    for query in panel.queries:
        found = reads(query.expr)
        kept = set().union(*(read.grouped for read in found)) - {"le"}
        named = set(re.findall(r"{{(\w+)}}", query.legend))
        assert named <= kept
        assert len(panel.queries) == len({each.legend for each in panel.queries})


@dashboards
def test_grafana_can_load_it(path: Path) -> None:
    """Each panel has a title, a description, a unit, an id and a place of its own, and asks the chosen Prometheus."""
    found = json.loads(path.read_text("utf-8"))
    every = found["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in every]

    assert len(every) == len({panel["id"] for panel in every}) == len(set(places))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in every)
    for panel in shown(path):
        assert all((panel["title"], panel["description"], panel["fieldConfig"]["defaults"]["unit"], panel["targets"]))
        assert {"type": "prometheus", "uid": "${source}"} == panel["datasource"]
    assert f"orchestra-{path.stem}" == found["uid"]

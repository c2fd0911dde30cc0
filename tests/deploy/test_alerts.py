"""Each alert says what to do: it has a page, and its text names what it is about."""

import re

import pytest
import yaml

from deploy.alerts import Alert, alerts
from deploy.known import SERVICES
from tests.support.promql import OTHERS, TARGET, reads
from tests.support.tree import ROOT

PARTS = ["What it means", "What users notice", "How to look", "How to fix it", "How to see that it is over"]
RUNBOOKS = ROOT / "docs/runbooks"
every = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)


@every
def test_an_alert_has_its_page(alert: Alert) -> None:
    """The page that an alert names exists, has its name, and tells what it means, how to look, and how to fix it."""
    page = (ROOT / alert.runbook).read_text("utf-8")

    assert page.startswith(f"# {alert.name}\n")
    assert PARTS == re.findall(r"^## (.+)$", page, re.MULTILINE)


def test_a_page_has_its_alert() -> None:
    """Each runbook belongs to an alert, and the list of them names each."""
    pages = {f"docs/runbooks/{path.name}" for path in RUNBOOKS.glob("*.md")} - {"docs/runbooks/index.md"}
    listed = re.findall(
        r"^\| \[(\w+)\]\(([\w-]+\.md)\) \| (\w+) \|", (RUNBOOKS / "index.md").read_text("utf-8"), re.MULTILINE
    )

    assert {alert.runbook for alert in alerts()} == pages
    assert [(alert.name, alert.runbook, alert.severity) for alert in alerts()] == [
        (name, f"docs/runbooks/{page}", severity) for name, page, severity in listed
    ]


@every
def test_an_alert_names_labels_that_it_has(alert: Alert) -> None:
    """Each label in an alert's text is one by which its expression groups, or that of the target."""
    found = reads(alert.expr)
    kept = set().union(*(read.grouped for read in found)) | (
        TARGET if {read.name for read in found} & OTHERS.keys() else set()
    )

    assert set(re.findall(r"\$labels\.(\w+)", alert.summary)) <= kept


def test_names_of_alerts_are_unique() -> None:
    """No two alerts have one name."""
    assert len(alerts()) == len({alert.name for alert in alerts()})


def test_jobs_are_the_services_of_compose() -> None:
    """Prometheus looks for each service under its name in compose.yaml, on a port that the container listens on."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    for service, port in SERVICES.items():
        ports = [*services[service].get("ports", []), *services[service].get("expose", [])]
        assert str(port) in {str(each).rpartition(":")[2] for each in ports}


def test_compose_mounts_what_exists() -> None:
    """Prometheus and Grafana are in a profile of their own, and each file and folder that they mount is there."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    for service in ("prometheus", "grafana"):
        assert ["observability"] == services[service]["profiles"]
        mounts = [each.partition(":")[0] for each in services[service]["volumes"]]
        assert [] == [path for path in mounts if path.startswith("./") and not (ROOT / path).exists()]
        assert [path for path in mounts if path.startswith("./deploy/")]

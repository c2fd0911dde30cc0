"""Prometheus' own tool accepts what is generated, and every alert fires when it must and only then: `make alerts`."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.alerts import alerts
from deploy.files import FOLDER
from tests.deploy.alert_cases import CASES, Series

RULES = FOLDER / "prometheus/alerts.yml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here: apt-get install prometheus")


def promtool(*words: str | Path) -> None:
    """Run promtool; an assertion fails if it finds something."""
    done = subprocess.run([str(PROMTOOL), *map(str, words)], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def unit_test(series: Series, at: str, expr: str, value: int | None) -> dict[str, Any]:
    """One test of promtool: what an expression without labels gives at a time; None: nothing."""
    samples = [] if value is None else [{"labels": "{}", "value": value}]
    return {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": samples}],
    }


def test_every_alert_has_its_cases() -> None:
    """Each alert has series with which it fires, and series with which it does not."""
    assert {alert.name for alert in alerts()} == CASES.keys()
    assert all(case.fires and case.quiet for case in CASES.values())


@needs_promtool
def test_prometheus_accepts_the_files() -> None:
    """The configuration and the rules are valid."""
    promtool("check", "config", FOLDER / "prometheus/prometheus.yml")
    promtool("check", "rules", RULES)


@needs_promtool
@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_must_and_only_then(alert: str, tmp_path: Path) -> None:
    """The alert fires with the series of its case, and at no time with any of the others."""
    case, firing = CASES[alert], f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    only = [rule for group in groups for rule in group["rules"] if rule["alert"] == alert]
    rules, file = tmp_path / "alert.yml", tmp_path / "alert.test.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": only}]}), "utf-8")
    tests = [unit_test(case.fires, case.at, f"count({firing})", 1)]
    ever = f"count(count_over_time({firing}[{case.minutes}m]))"
    tests += [unit_test(series, "200m", ever, None) for series in case.quiet]
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "15s", "tests": tests}), "utf-8")

    promtool("test", "rules", file)

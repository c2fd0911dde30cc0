"""The files of Prometheus and Grafana; `make docs` writes them."""

from pathlib import Path

from deploy.alerts import configuration, rules
from deploy.dashboards import as_json, boards

FOLDER = Path(__file__).parent


def files() -> dict[str, str]:
    """The text of each file by its path below this folder."""
    return {
        "prometheus/prometheus.yml": configuration(),
        "prometheus/alerts.yml": rules(),
        # A chart reads no file outside of its folder.
        "helm/llm-orchestra/alerts.yml": rules(),
        **{f"grafana/dashboards/{board.name}.json": as_json(board) for board in boards()},
    }

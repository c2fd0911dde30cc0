"""`python -m deploy` writes the files of Prometheus and Grafana; with `--check` it only lists what differs."""

import sys
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


def main(*arguments: str) -> int:
    """Write, or with `--check` compare. Returns the exit code."""
    stale = 0
    for name, fresh in files().items():
        path = FOLDER / name
        if path.exists() and path.read_text("utf-8") == fresh:
            continue
        if "--check" in arguments:
            print(f"deploy/{name} is not what the code says: run `make docs`", file=sys.stderr)
            stale = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fresh, "utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

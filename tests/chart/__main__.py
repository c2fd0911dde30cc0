"""``python -m tests.chart``: check what the Helm chart renders (``make chart``), and with ``--live`` how it runs."""

import argparse
import shutil
import subprocess
import sys

from tests.chart.tools import HERE, python
from tests.support.environments import MissingError
from tests.support.tree import ROOT

_HELM = {"helm": "go install helm.sh/helm/v3/cmd/helm@v3.22.0"}
_RENDERED = _HELM | {"kubeconform": "go install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"}
_LIVE = _HELM | {
    "kube-apiserver": "build k8s.io/kubernetes/cmd/kube-apiserver, v1.34.1, or take it from a release of Kubernetes",
    "prometheus": "apt-get install prometheus",
}


def main() -> None:
    """Exit code 1 if a test fails, or if a program is missing: nothing is skipped."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chart", description=__doc__, epilog="All other arguments are those of pytest."
    )
    parser.add_argument("--live", action="store_true", help="on a real API server and a real Prometheus")
    told, rest = parser.parse_known_args()
    needed = _LIVE if told.live else _RENDERED
    if missing := [f"{name}: {way}" for name, way in needed.items() if not shutil.which(name)]:
        sys.exit("\n".join(["programs that are not on the PATH:", *missing]))
    try:
        python()
    except MissingError as error:
        sys.exit(str(error))
    files = ["test_installed.py", "test_triggers.py"] if told.live else ["test_rendered.py"]
    # As pyproject.toml has it, without the `--ignore` by which `make test` leaves this folder out.
    options = "addopts=--import-mode=importlib --strict-markers -p no:schemathesis"
    command = [sys.executable, "-m", "pytest", "-o", options, *rest, *[str(HERE / name) for name in files]]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()

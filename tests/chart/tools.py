"""The chart, helm, and the schemas of what it renders."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.environments import python_of
from tests.support.tree import ROOT

HERE = Path(__file__).resolve().parent
CHART = ROOT / "deploy/helm/llm-orchestra"
CI = sorted((CHART / "ci").glob("*.yaml"))
CRDS = sorted((HERE / "crds").glob("*.yaml"))
_CACHE = ROOT / ".cache/chart"
KUBERNETES = "1.34.0"
RELEASE, NAMESPACE = "orchestra", "llm"


def python() -> Path:
    """The interpreter of an environment with the schemas of Kubernetes, and etcd. Raises ``MissingError``."""
    return python_of(HERE / "requirements.lock", _CACHE / "python")


def packages() -> Path:
    """Where that environment has its packages."""
    return next((python().parents[1] / "lib").glob("python*/site-packages"))


def helm(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run helm. Raises ``AssertionError`` with what it printed, if it fails and ``check``."""
    done = subprocess.run(["helm", *map(str, words)], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"helm {words[0]}: {done.stderr}")
    return done


def template(values: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Render the chart with a file of values."""
    where = ("--kube-version", KUBERNETES, "--namespace", NAMESPACE)
    return helm("template", RELEASE, CHART, "--values", values, *where, *words, check=check)


def objects(values: Path, *words: str) -> list[dict[str, Any]]:
    """What the chart renders with a file of values."""
    return [each for each in yaml.safe_load_all(template(values, *words).stdout) if each]


def ci(name: str) -> Path:
    """A file of values by its name."""
    return CHART / "ci" / f"{name}-values.yaml"


def kubeconform(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Validate manifests with the schemas in ``folder``. A field that no schema has is an error."""
    location = f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = ["kubeconform", "-strict", "-summary", "-schema-location", location]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def write_schemas(folder: Path) -> None:
    """Write the schemas of Kubernetes, and those of the custom resources, where kubeconform finds them."""
    source = packages() / f"kubernetes_validate/kubernetes-json-schema/v{KUBERNETES}-local-strict"
    for path in source.glob("*.json"):
        text = path.read_text("utf-8").replace("/api/_definitions.json", (folder / "_definitions.json").as_uri())
        (folder / path.name).write_text(text, "utf-8")
    for path in CRDS:
        spec = yaml.safe_load(path.read_text("utf-8"))["spec"]
        kind, group = spec["names"]["kind"].lower(), spec["group"].partition(".")[0]
        for version in spec["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"])
            (folder / f"{kind}-{group}-{version['name']}.json").write_text(json.dumps(schema), "utf-8")


def _closed(schema: Any) -> Any:
    """The schema without room for fields that it does not name."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _closed(value) for name, value in schema.items()}
    if isinstance(inner.get("properties"), dict) and inner.get("type") == "object" and "metadata" not in inner:
        inner.setdefault("additionalProperties", False)
    return inner

"""What the chart renders is valid, restricted, and refused if it cannot work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.alerts import rules
from deploy.known import SERVICES
from tests.chart.tools import CHART, CI, RELEASE, ci, helm, kubeconform, objects, template, write_schemas
from tests.support.secured import FIXED, SETTINGS

REFUSED = {
    "files.url=file:///files": "at '/files/url': 'file:///files' does not match pattern",
    "gateway.settings.MAX_BODYBYTES=1000": "additional properties 'MAX_BODYBYTES' not allowed",
    "gateway.settings.OPEN_MODE=true": "additional properties 'OPEN_MODE' not allowed",
    "gateway.settings.MAX_OPEN_TURNS=5": "at '/gateway/settings/MAX_OPEN_TURNS': got number, want string",
    "kafka.securityProtocol=TLS": "at '/kafka/securityProtocol': value must be one of",
    "kafka.bootstrapServers=kafka": "at '/kafka/bootstrapServers': 'kafka' does not match pattern",
    "workers.autoscaling.minReplicas=0": "at '/workers/autoscaling/minReplicas': minimum: got 0, want 1",
    "gateway.autoscaling.enabled=true,gateway.autoscaling.minReplicas=99": "minReplicas is above maxReplicas",
    "workers.autoscaling.enabled=true,workers.autoscaling.minReplicas=99": "minReplicas is above maxReplicas",
    "gateway.resources.limits.memory=1GB": "at '/gateway/resources/limits/memory': '1GB' does not match pattern",
    "workers.resources.requests.memory=-1": "at '/workers/resources/requests/memory': minimum: got -1, want 0",
    "workers.replica=2": "additional properties 'replica' not allowed",
    "kafka.securityProtocol=SASL_SSL": "kafka.sasl.username is required with this kafka.securityProtocol",
    "kafka.bootstrapServers=": "kafka.bootstrapServers is required",
    "postgres.secret=": "postgres.secret is required: the Secret with the URL of Postgres",
    "secret=": "secret is required: the Secret with ORCHESTRA_SECRET and LLM_SERVICE_TOKEN",
    "workers.autoscaling.enabled=true": "workers.autoscaling.prometheus is required: the URL of Prometheus",
    "networkPolicy.enabled=true": "networkPolicy.monitoring is required: the peers that may read metrics",
    "ingress.enabled=true": "ingress.host is required",
}
values = pytest.mark.parametrize("file", CI, ids=lambda path: path.stem)


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    write_schemas(folder)
    return folder


def pods(rendered: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The component and the specification of each pod."""
    for each in rendered:
        if each["kind"] in {"Deployment", "Job"}:
            component = each["metadata"]["labels"]["app.kubernetes.io/component"]
            yield component, each["spec"]["template"]["spec"]


def deployment(component: str, file: Path, *words: str) -> dict[str, Any]:
    (found,) = [
        each
        for each in objects(file, *words)
        if each["kind"] == "Deployment" and each["metadata"]["name"].endswith(f"-{component}")
    ]
    return dict(found["spec"])


def variables(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


@values
def test_lint(file: Path) -> None:
    """The chart is free of what helm warns about."""
    helm("lint", "--strict", CHART, "--values", file)


@values
def test_all_objects_are_valid(file: Path, schemas: Path) -> None:
    """Each object has only fields that Kubernetes, KEDA or the Prometheus Operator know, with their types."""
    checked = kubeconform(template(file).stdout, schemas)

    assert (0, "Skipped: 0") == (checked.returncode, checked.stdout.strip().split(", ")[-1]), checked.stdout


@pytest.mark.parametrize("kind", ["Deployment", "ScaledObject", "ServiceMonitor", "PrometheusRule", "NetworkPolicy"])
def test_a_wrong_field_is_found(kind: str, schemas: Path) -> None:
    """A field that does not exist, deep in an object, is not valid."""
    found = next(each for each in objects(ci("everything")) if each["kind"] == kind)
    inner = {"Deployment": lambda spec: spec["template"]["spec"]["containers"][0]}.get(kind, lambda spec: spec)
    inner(found["spec"])["strange"] = "x"

    assert kubeconform(yaml.safe_dump(found), schemas).returncode == 1


def test_nothing_optional_unless_asked() -> None:
    """Without further values there are the three services, the migration, and nothing else."""
    kinds = sorted(each["kind"] for each in objects(ci("minimal")))

    assert ["Deployment"] * 3 + ["Job", "Service", "Service", "ServiceAccount"] == kinds


@pytest.mark.parametrize(("setting", "words"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_work_is_refused_by_name(setting: str, words: str) -> None:
    """A wrong, missing or unknown value is named before anything is installed."""
    refused = template(ci("minimal"), "--set", setting, check=False)

    assert (1, True) == (refused.returncode, words in refused.stderr), refused.stderr


@values
def test_pods_may_do_little(file: Path) -> None:
    """No pod runs as root, writes outside /tmp, has a capability, or a token of the cluster."""
    for _, pod in pods(objects(file)):
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert writable == ["/tmp"]
        assert {"cpu", "memory"} == set(container["resources"]["requests"])


@values
def test_no_variable_is_set_twice(file: Path) -> None:
    """What a value sets, the chart does not set as well."""
    for _, pod in pods(objects(file)):
        (container,) = pod["containers"]
        names = [each["name"] for each in container["env"]]
        assert sorted(set(names)) == sorted(names)


def test_secrets_are_given_to_those_that_need_them() -> None:
    """Only the LLM service has providers' keys, and it has neither our secret nor the database."""
    found = {component: variables(pod) for component, pod in pods(objects(ci("everything")))}

    assert {"ORCHESTRA_SECRET", "DATABASE_URL"}.isdisjoint(found["llm-service"])
    assert {"LLM_SERVICE_TOKEN"}.isdisjoint(found["gateway"])
    assert {"ORCHESTRA_SECRET", "LLM_SERVICE_TOKEN", "AWS_ACCESS_KEY_ID"}.isdisjoint(found["migrate"])
    assert [component for component, pod in pods(objects(ci("everything"))) if "envFrom" in pod["containers"][0]] == [
        "llm-service"
    ]


@pytest.mark.parametrize("component", ["gateway", "workers", "migrate"])
def test_stores_are_reached_as_in_the_live_test(component: str) -> None:
    """With SASL and own authorities, a pod has the settings that tests/live/test_secured.py tries on real servers."""
    told = variables(dict(pods(objects(ci("strimzi"))))[component])
    stores = {name for name in told if name.startswith(("DATABASE_", "KAFKA_", "PG"))}

    assert (set(SETTINGS), FIXED) == (stores, {name: told[name] for name in FIXED})


def test_a_drain_ends_before_a_kill() -> None:
    """SIGKILL comes later than the drain that the pod was given may take."""
    for component in ("workers", "llm-service"):
        name = "llmService" if component == "llm-service" else component
        pod = deployment(component, ci("minimal"), "--set", f"{name}.drainSeconds=300")["template"]["spec"]
        waits = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert variables(pod)["DRAIN_SECONDS"] == "300"
        assert pod["terminationGracePeriodSeconds"] == waits + 300 + 10


def test_an_autoscaler_is_alone_in_choosing_the_number() -> None:
    """A Deployment that is scaled has no number of replicas, which each upgrade would restore."""
    assert "replicas" not in deployment("gateway", ci("everything"))
    assert "replicas" not in deployment("workers", ci("everything"))
    assert deployment("workers", ci("minimal"))["replicas"] == 2


def test_prometheus_knows_the_services_by_the_names_of_the_alerts() -> None:
    """The targets of each service have the job by which alerts ask for it, and the rules are those of `make docs`."""
    found = {each["metadata"]["name"]: each["spec"] for each in objects(ci("everything")) if "Monitor" in each["kind"]}
    jobs = {
        name: relabeling["replacement"]
        for name, spec in found.items()
        for endpoint in [*spec.get("endpoints", []), *spec.get("podMetricsEndpoints", [])]
        for relabeling in endpoint["relabelings"]
        if relabeling["targetLabel"] == "job"
    }
    (rule,) = [each["spec"] for each in objects(ci("everything")) if each["kind"] == "PrometheusRule"]

    assert {f"{RELEASE}-llm-orchestra-{job.replace('_', '-')}": job for job in SERVICES} == jobs
    assert yaml.safe_load(rules()) == rule


def test_services_are_upgraded_one_after_the_other() -> None:
    """A service keeps the tag that it is given; the migration and the others have the new one."""
    words = ("--set-string", "images.tag=2", "--set-string", "gateway.tag=1")
    tags = {component: pod["containers"][0]["image"] for component, pod in pods(objects(ci("minimal"), *words))}

    assert tags == {
        "gateway": "llm-orchestra/gateway:1",
        "workers": "llm-orchestra/workers:2",
        "llm-service": "llm-orchestra/llm-service:2",
        "migrate": "llm-orchestra/gateway:2",
    }


def test_pods_do_not_restart_for_another_version_of_the_chart() -> None:
    """What a pod is made of does not name the chart's version: a service that keeps its tag is left alone."""
    for component in ("gateway", "workers", "llm-service"):
        metadata = deployment(component, ci("everything"))["template"]["metadata"]
        assert not any("chart" in label or "version" in label for label in metadata["labels"])


def test_names_are_short_enough() -> None:
    """With the longest name that helm allows a release, each name of an object is a DNS label."""
    name = "r" * 53
    rendered = helm("template", name, CHART, "--values", ci("everything"), "--kube-version", "1.34.0").stdout
    names = [each["metadata"]["name"] for each in yaml.safe_load_all(rendered) if each]

    assert max(map(len, names)) <= 63

"""The Helm chart agrees with the settings, the images and the routes. Nothing here needs helm; `make chart` does."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from fastapi import FastAPI

from gateway.app import create_app
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from llm_service.settings import LlmServiceSettings
from orchestra.settings import SettingsGroup
from tests.support.tree import ROOT
from workers.settings import WorkerSettings

CHART = ROOT / "deploy/helm/llm-orchestra"
TEMPLATES = {path.name: path.read_text("utf-8") for path in sorted((CHART / "templates").iterdir())}
ALL = "\n".join(TEMPLATES.values())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
PAGE = (ROOT / "docs/howto/run-on-kubernetes.md").read_text("utf-8")

SET = set(re.findall(r"- name: ([A-Z][A-Z0-9_]+)$", ALL, re.MULTILINE))
# Read by the drivers of Postgres.
OF_LIBPQ = {"PGSSLMODE", "PGSSLROOTCERT"}
SHARED = set(SCHEMA["properties"]["settings"]["properties"])
# Set by the images, or of no use: gateways always require credentials here, and the LLM service its token. Keys of
# providers are in `llmService.providerSecret`; temporary credentials of a bucket would expire.
WITHHELD = {
    *re.findall(r"(?:^ENV|\s)([A-Z_]+)=", DOCKERFILE, re.MULTILINE),
    *("ALLOWED_HOSTS", "OPEN_MODE", "AWS_SESSION_TOKEN"),
    *("ANTHROPIC_API_KEY", "EMBEDDED_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY"),
}
# What only probes and Prometheus read.
INSIDE = {"/healthz", "/metrics", "/readyz"}
SERVICES: dict[str, type[SettingsGroup]] = {
    "gateway": GatewaySettings,
    "workers": WorkerSettings,
    "llmService": LlmServiceSettings,
}


def names(settings: type[SettingsGroup]) -> set[str]:
    return {(field.alias or name).upper() for name, field in settings.model_fields.items()}


def dockerfile_of(image: str) -> str:
    (part,) = re.findall(rf"^FROM service AS {image}\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    return str(part)


def app() -> FastAPI:
    return create_app(GatewaySettings.model_validate({"orchestra_secret": "s" * 32}))


def test_each_variable_that_is_set_is_a_setting() -> None:
    """Each variable that a template sets is a setting of some service, or one that the drivers of Postgres read."""
    assert set().union(*map(names, SERVICES.values())) >= SET - OF_LIBPQ
    assert SHARED & SET == set()


@pytest.mark.parametrize("service", SERVICES)
def test_all_other_settings_can_be_values(service: str) -> None:
    """The schema lists exactly the settings of a service that the chart does not set: a misspelt one is refused."""
    listed = set(SCHEMA["properties"][service]["properties"]["settings"]["properties"])

    assert names(SERVICES[service]) - SET - SHARED - WITHHELD == listed


def test_shared_settings_are_those_that_must_agree() -> None:
    """A setting that all services read has one value. Of those that several read, `settings` has none for one alone."""
    assert set.intersection(*map(names, SERVICES.values())) - SET - WITHHELD <= SHARED
    assert all(sum(name in names(each) for each in SERVICES.values()) > 1 for name in SHARED)


@pytest.mark.parametrize(
    ("service", "template", "image", "settings"),
    [
        ("gateway", "gateway.yaml", "gateway", ["port", "tasks_port"]),
        ("workers", "workers.yaml", "workers", ["metrics_port"]),
        ("llmService", "llm-service.yaml", "llm_service", ["port"]),
    ],
    ids=SERVICES,
)
def test_ports(service: str, template: str, image: str, settings: list[str]) -> None:
    """Pods have the ports of the images, which are the defaults of the settings."""
    fields = SERVICES[service].model_fields
    ports = set(re.findall(r"containerPort: (\d+)", TEMPLATES[template]))

    assert {str(fields[name].default) for name in settings} == ports
    assert set(re.findall(r"^EXPOSE (.*)$", dockerfile_of(image), re.MULTILINE)[0].split()) == ports


@pytest.mark.parametrize(("template", "image"), [("gateway.yaml", "gateway"), ("llm-service.yaml", "llm_service")])
def test_readiness_is_that_of_the_image(template: str, image: str) -> None:
    """A gateway and the LLM service are ready when their images are healthy."""
    (path,) = re.findall(r"\+ '(/\w+)'", dockerfile_of(image))

    assert f"httpGet: {{path: {path}, port: http}}" in TEMPLATES[template]


def test_probe_of_workers_is_that_of_the_image() -> None:
    """A worker is looked at with the command that its image has."""
    (command,) = re.findall(r'^    "(import .*)"\]$', dockerfile_of("workers"), re.MULTILINE)

    assert f'[python, -c, \\"{command}\\"]' in TEMPLATES["workers.yaml"]


def test_grace_periods() -> None:
    """SIGKILL comes as late as in compose: 10 s after a worker's drain, 20 s after SIGTERM for a gateway."""
    drain = WorkerSettings.model_fields["drain_seconds"].default

    assert drain == VALUES["workers"]["drainSeconds"]
    assert f"{drain + 10}s" == COMPOSE["workers"]["stop_grace_period"]
    assert "terminationGracePeriodSeconds: {{ add .drainSeconds 10 }}" in TEMPLATES["workers.yaml"]
    assert COMPOSE["gateway"]["stop_grace_period"] == "20s"
    assert "terminationGracePeriodSeconds: {{ add .preStopSeconds 20 }}" in TEMPLATES["gateway.yaml"]


def test_values_are_the_defaults_of_their_settings() -> None:
    """A value that becomes a setting has its default, if that is of use in a cluster."""
    assert WorkerSettings.model_fields["worker_concurrency"].default == VALUES["workers"]["concurrency"]
    assert GatewaySettings.model_fields["aws_region"].default == VALUES["files"]["region"]
    assert GatewaySettings.model_fields["kafka_sasl_mechanism"].default == VALUES["kafka"]["sasl"]["mechanism"]


def test_pods_run_as_the_user_of_the_images() -> None:
    """The user and the group of the pods are those of the images."""
    user, group = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0]

    assert f"runAsUser: {user}\n  runAsGroup: {group}\n" in ALL


def test_the_images_are_those_that_are_built() -> None:
    """The images of the chart have the names that compose gives those that it builds."""
    built = {service["image"] for service in COMPOSE.values() if "build" in service}
    used = re.findall(r'"orchestra.image" \(list \$ "([\w-]+)"', ALL)

    assert {f"{VALUES['images']['repository']}/{name}" for name in used} == built


def test_an_ingress_leads_to_all_routes_for_clients() -> None:
    """Each route leads through the Ingress, except those that only probes and Prometheus read."""
    prefixes = re.findall(r'"(/[\w.]+)"', TEMPLATES["ingress.yaml"])
    paths = {path for path in _paths(app()) if path != "/"}

    assert {path for path in paths if not any(f"{path}/".startswith(f"{each}/") for each in prefixes)} == INSIDE
    assert {each for each in prefixes if not any(f"{path}/".startswith(f"{each}/") for path in paths)} == set()


def _paths(made: FastAPI) -> Iterator[str]:
    """The paths of all routes, also of those that the document does not list."""
    for route in made.routes:
        for inner in getattr(route, "original_router", made.router).routes:
            if path := getattr(inner, "path", None):
                yield path


def test_the_triggers_read_metrics_that_exist() -> None:
    """Each metric, and each value of a label, in the queries of the autoscaling is one that gateways have."""
    registry = Metrics().registry
    known = {metric.name for metric in registry.collect()}
    queried = re.findall(r"(orchestra_\w+)\{(?:state=~?\"([^\"]*)\")?", TEMPLATES["workers.yaml"])

    assert len(queried) == 4
    for name, states in queried:
        assert name in known
        values = set().union(*(label.values for label in registry.labels_of(name) if label.name == "state"))
        assert set(filter(None, states.split("|"))) <= values


@pytest.mark.parametrize("name", ["strimzi-values.yaml", "managed-values.yaml"])
def test_the_page_shows_values_that_are_checked(name: str) -> None:
    """The values on the page are those that `make chart` renders and validates."""
    text = (CHART / "ci" / name).read_text("utf-8").partition("\n")[2]

    assert f"```text\n{text}```\n" in PAGE

"""Each environment variable that a file of the project names is one that something reads."""

import re
from collections.abc import Iterator

import pytest

from orchestra.setting_names import SERVICES, setting_names, settings_of
from tests.support.tree import ROOT, project_files

EXAMPLE = (ROOT / "deploy/example.env").read_text("utf-8")
SETTING = re.compile(r"^#?([A-Z_]+)=(.*)$", re.MULTILINE)
# At least two words: one word in capitals is more often a method or a state.
NAME = re.compile(r"(?<![\w/.-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w-])")
# Read by programs beside ours: images, uv, Docker, CI, and the tools that operators and tests run.
FOREIGN = frozenset(
    """
    POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB UV_CACHE_DIR UV_COMPILE_BYTECODE UV_LINK_MODE UV_NO_CACHE
    UV_PYTHON_DOWNLOADS UV_SYSTEM_CERTS COMPOSE_FILE DOCKER_CERT_PATH DOCKER_HOST DOCKER_TLS_CERTDIR DOCKER_TLS_VERIFY
    GIT_DEPTH KAFKA_HOME MISTRAL_API_KEY NO_COLOR OLLAMA_HOST OLLAMA_MODELS RUNNER_GENERATE_ARTIFACTS_METADATA
    SLSA_PROVENANCE_SCHEMA_VERSION TESTCONTAINERS_RYUK_DISABLED TWINE_PASSWORD TWINE_REPOSITORY_URL TWINE_USERNAME
    """.split()
)
# CI's own; what the images of Grafana and Kafka take for any of their settings.
FOREIGN_KINDS = re.compile(
    r"(CI|GF)_\w+|KAFKA_(ADVERTISED_|AUTO_CREATE_|CONTROLLER_|DEFAULT_|GROUP_|INTER_BROKER_|LISTENER|LOG_DIRS|MIN_INSYNC_"
    r"|NODE_ID|OFFSETS_|PROCESS_ROLES|TRANSACTION_)\w*"
)
# Read by the tests.
OF_TESTS = frozenset({"OPEN_RESPONSES_DIR", "TEST_STACK"})
# In capitals, but no variables: values of settings, a capability, constants in the reference of the client, an example.
NO_VARIABLES = frozenset("CALL_ID NET_BIND_SERVICE RECONNECT_SECONDS RETRY_SECONDS SASL_PLAINTEXT SASL_SSL".split())
PUBLISHED = re.compile(r"127\.0\.0\.1:\$\{(\w+_PORT):-")


def named() -> Iterator[tuple[str, str]]:
    """Files that configure or document the system, with each name in them."""
    for path in project_files():
        file = str(path.relative_to(ROOT))
        configures = file in {"Dockerfile", ".gitlab-ci.yml"} or file.startswith(("compose", "deploy/"))
        documents = path.suffix == ".md" and not file.startswith("docs/decisions/")
        if documents or (configures and path.suffix != ".py"):
            text = path.read_bytes().decode("utf-8", "replace")
            yield from ((file, name) for name in set(NAME.findall(text)))


def test_every_variable_that_is_named_is_read() -> None:
    """No page, image, manifest or CI job names a variable that nothing reads, such as a setting's former name."""
    ports = {name for path in ROOT.glob("compose*.yaml") for name in PUBLISHED.findall(path.read_text("utf-8"))}
    known = setting_names() | FOREIGN | OF_TESTS | NO_VARIABLES | ports

    assert [each for each in sorted(named()) if each[1] not in known and not FOREIGN_KINDS.fullmatch(each[1])] == []


def test_the_example_has_every_setting() -> None:
    """The example environment has each setting of each service once, and nothing else but comments."""
    lines = [line for line in EXAMPLE.splitlines() if line and not line.startswith(("# ", "## "))]
    names = [name for name, _ in SETTING.findall(EXAMPLE)]

    assert [line for line in lines if not SETTING.fullmatch(line)] == []
    assert sorted({name.upper() for service in SERVICES for name in fields(service)}) == sorted(names)


@pytest.mark.parametrize("service", SERVICES)
def test_the_example_changes_nothing(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every line of the example in force, a service has its defaults, but for those in which services differ."""
    for name, value in SETTING.findall(EXAMPLE):
        monkeypatch.setenv(name, value)
    settings = settings_of(service)
    assert settings
    made = settings.model_validate({"orchestra_secret": "s" * 32})
    differ = {name for name, field in settings.model_fields.items() if getattr(made, name) != field.default}

    assert differ <= {"orchestra_secret", "port", "drain_seconds", "open_mode"}


def fields(service: str) -> set[str]:
    settings = settings_of(service)
    assert settings
    return set(settings.model_fields)

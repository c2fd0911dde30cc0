"""Promises of orchestra/setting_names.py: a misspelt setting is found, and a variable of another program is not one."""

import os
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestra.cli.doctor import doctor
from orchestra.cli.examine import Finding
from orchestra.setting_names import SERVICES, is_service_link, setting_names, settings_of, suspects, warn_of_suspects
from orchestra.settings import KafkaSettings, load

CANARY = "canary-of-32-bytes-or-more-0123456789"
# What shells, desktops, languages, CI systems, clouds and the programs beside ours keep in the environment.
USUAL = """
_ BASH_ENV COLORTERM COLUMNS DBUS_SESSION_BUS_ADDRESS DISPLAY EDITOR HISTFILE HISTSIZE HOME HOSTNAME HOSTTYPE IFS
INVOCATION_ID JOURNAL_STREAM LANG LANGUAGE LC_ALL LC_CTYPE LESS LESSOPEN LINES LOGNAME LS_COLORS MAIL MANPATH NO_COLOR
OLDPWD OSTYPE PAGER PATH POST PORTS PROMPT_COMMAND PS1 PWD SHELL SHLVL SSH_AUTH_SOCK SSH_CLIENT SSH_CONNECTION SSH_TTY
SSL_CERT_DIR SSL_CERT_FILE SUDO_USER SYSTEMD_EXEC_PID TERM TMPDIR TZ USER VISUAL XDG_DATA_DIRS XDG_RUNTIME_DIR
XDG_SESSION_ID all_proxy http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY CURL_CA_BUNDLE
CONDA_PREFIX GEM_HOME GOPATH GOPROXY GOROOT JAVA_HOME JAVA_TOOL_OPTIONS MAKEFLAGS MAKELEVEL MFLAGS NODE_ENV NODE_OPTIONS
NODE_PATH NODE_VERSION NPM_CONFIG_CACHE NVM_DIR PIP_CACHE_DIR PIP_INDEX_URL PIPENV_ACTIVE POETRY_HOME PYENV_ROOT
PYTHONDONTWRITEBYTECODE PYTHONHASHSEED PYTHONHOME PYTHONPATH PYTHONUNBUFFERED PYTHON_SHA256 PYTHON_VERSION
REQUESTS_CA_BUNDLE RUST_LOG RUSTUP_HOME UV_CACHE_DIR UV_INDEX_URL UV_SYSTEM_CERTS VIRTUAL_ENV GPG_KEY MODEL MODELS
CI CI_API_V4_URL CI_BUILDS_DIR CI_COMMIT_REF_NAME CI_COMMIT_SHA CI_COMMIT_TAG CI_JOB_ID CI_JOB_NAME CI_JOB_TOKEN
CI_JOB_URL CI_PAGES_URL CI_PIPELINE_ID CI_PIPELINE_SOURCE CI_PIPELINE_URL CI_PROJECT_DIR CI_PROJECT_URL CI_REGISTRY
CI_REGISTRY_IMAGE CI_REGISTRY_PASSWORD CI_REGISTRY_USER CI_REPOSITORY_URL CI_RUNNER_ID CI_SERVER_HOST CI_SERVER_PORT
CI_SERVER_URL FF_USE_FASTZIP GITLAB_CI GITLAB_USER_LOGIN GIT_DEPTH GIT_STRATEGY KUBERNETES_PORT RUNNER_TEMP_PROJECT_DIR
GITHUB_ACTION GITHUB_ACTIONS GITHUB_API_URL GITHUB_ENV GITHUB_OUTPUT GITHUB_PATH GITHUB_REF GITHUB_REPOSITORY GITHUB_SHA
GITHUB_TOKEN GITHUB_WORKSPACE RUNNER_ARCH RUNNER_OS RUNNER_TEMP RUNNER_TOOL_CACHE BUILD_ID BUILD_NUMBER BUILD_URL
EXECUTOR_NUMBER JENKINS_HOME JENKINS_URL JOB_BASE_NAME JOB_NAME NODE_NAME WORKSPACE CIRCLECI CIRCLE_JOB TRAVIS
KAFKA_ADVERTISED_LISTENERS KAFKA_AUTO_CREATE_TOPICS_ENABLE KAFKA_BROKERS KAFKA_BROKER_ID KAFKA_CLUSTER_ID
KAFKA_CONTROLLER_LISTENER_NAMES KAFKA_CONTROLLER_QUORUM_VOTERS KAFKA_HEAP_OPTS KAFKA_HOME KAFKA_HOST
KAFKA_INTER_BROKER_LISTENER_NAME KAFKA_JVM_PERFORMANCE_OPTS KAFKA_LISTENERS KAFKA_LISTENER_SECURITY_PROTOCOL_MAP
KAFKA_LOG4J_OPTS KAFKA_LOG_DIRS KAFKA_NODE_ID KAFKA_OPTS KAFKA_PORT KAFKA_PROCESS_ROLES KAFKA_SASL_ENABLED_MECHANISMS
KAFKA_SASL_JAAS_CONFIG KAFKA_SSL_KEYSTORE_LOCATION KAFKA_SSL_KEYSTORE_PASSWORD KAFKA_SSL_KEY_PASSWORD KAFKA_TOPIC
KAFKA_SSL_TRUSTSTORE_LOCATION KAFKA_SSL_TRUSTSTORE_PASSWORD KAFKA_VERSION KAFKA_ZOOKEEPER_CONNECT SCALA_VERSION
DATABASE DATABASE_HOST DATABASE_NAME DATABASE_PASSWORD DATABASE_PORT DATABASE_USER DB_HOST DB_URL LANG PGDATA PGDATABASE
PGHOST PGPASSWORD PGPORT PGSSLMODE PGUSER POSTGRES_DB POSTGRES_HOST POSTGRES_HOST_AUTH_METHOD POSTGRES_INITDB_ARGS
POSTGRES_PASSWORD POSTGRES_PORT POSTGRES_URL POSTGRES_USER PG_MAJOR PG_VERSION REDIS_URL MONGO_URL RABBITMQ_URL
AWS_ACCESS_KEY AWS_CA_BUNDLE AWS_CONFIG_FILE AWS_CONTAINER_CREDENTIALS_RELATIVE_URI AWS_DEFAULT_REGION
AWS_ENDPOINT_URL_S3 AWS_EXECUTION_ENV AWS_PROFILE AWS_ROLE_ARN AWS_ROLE_SESSION_NAME AWS_SDK_LOAD_CONFIG AWS_SECRET_KEY
AWS_SECURITY_TOKEN AWS_SHARED_CREDENTIALS_FILE AWS_STS_REGIONAL_ENDPOINTS AWS_WEB_IDENTITY_TOKEN_FILE ECS_AGENT_URI
AZURE_CLIENT_ID AZURE_OPENAI_API_KEY AZURE_OPENAI_ENDPOINT AZURE_TENANT_ID GCP_PROJECT GOOGLE_API_KEY
GOOGLE_APPLICATION_CREDENTIALS GOOGLE_CLOUD_PROJECT S3_BUCKET S3_ENDPOINT_URL MINIO_ROOT_PASSWORD MINIO_ROOT_USER
ANTHROPIC_AUTH_TOKEN ANTHROPIC_MODEL ANTHROPIC_SMALL_FAST_MODEL COHERE_API_KEY DEEPSEEK_API_KEY GROQ_API_KEY HF_HOME
HF_TOKEN HUGGING_FACE_HUB_TOKEN LANGCHAIN_API_KEY LANGSMITH_API_KEY LITELLM_MASTER_KEY LITELLM_SALT_KEY MISTRAL_API_KEY
OLLAMA_DEBUG OLLAMA_HOST OLLAMA_KEEP_ALIVE OLLAMA_MAX_LOADED_MODELS OLLAMA_MODELS OLLAMA_NUM_PARALLEL OLLAMA_ORIGINS
OPENAI_API_BASE OPENAI_API_TYPE OPENAI_API_URL OPENAI_API_VERSION OPENAI_MODEL OPENAI_ORGANIZATION OPENAI_ORG_ID
OPENAI_PROJECT_ID OPENROUTER_API_KEY TOGETHER_API_KEY VLLM_API_KEY XAI_API_KEY OPENAI_API_KEY_2 OPENAI_API_KEY_EU
OPENAI_API_KEY2 LLM_MODEL_2
COMPOSE_FILE COMPOSE_PROFILES COMPOSE_PROJECT_NAME DOCKER_BUILDKIT DOCKER_CONFIG DOCKER_HOST DOCKER_TLS_CERTDIR
GATEWAY_URL GATEWAY_URL_2 HELM_NAMESPACE HOST_IP KUBECONFIG MY_POD_NAME NAMESPACE NODE_IP POD_IP POD_NAME POD_NAMESPACE
TEST_STACK TESTCONTAINERS_RYUK_DISABLED METRICS METRICS_PATH METRICS_ENABLED METRICS_URL PROMETHEUS_MULTIPROC_DIR
DD_AGENT_HOST DD_SERVICE NEW_RELIC_LICENSE_KEY OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_HEADERS OTEL_LOG_LEVEL
OTEL_RESOURCE_ATTRIBUTES OTEL_SERVICE_NAME SENTRY_DSN SENTRY_ENVIRONMENT DYNO WEB_CONCURRENCY GUNICORN_CMD_ARGS
UVICORN_HOST UVICORN_PORT UVICORN_LOG_LEVEL SECRET SECRET_KEY API_KEY ALLOWED_ORIGINS CORS_ORIGIN_ALLOW_ALL DEBUG
"""


def links(service: str) -> dict[str, str]:
    """What the kubelet sets in each pod for a Service with the port 8080, named `http`."""
    address, port = "10.0.0.7", "8080"
    url = f"tcp://{address}:{port}"
    return {
        f"{service}_SERVICE_HOST": address,
        f"{service}_SERVICE_PORT": port,
        f"{service}_SERVICE_PORT_HTTP": port,
        f"{service}_PORT": url,
        f"{service}_PORT_8080_TCP": url,
        f"{service}_PORT_8080_TCP_PROTO": "tcp",
        f"{service}_PORT_8080_TCP_PORT": port,
        f"{service}_PORT_8080_TCP_ADDR": address,
    }


def test_usual_variables_are_no_mistakes() -> None:
    """Variables of shells, CI systems, clouds and other programs are not reported, whatever their values."""
    assert [] == suspects(dict.fromkeys(USUAL.split(), "x"))


def test_no_setting_is_a_mistake() -> None:
    """What any part of the system reads is not reported, in upper or lower case."""
    names = setting_names()

    assert {"DATABASE_URL", "LLM_PROVIDER", "WORKER_CONCURRENCY", "ORCHESTRA_GATEWAY", "ORCHESTRA_API_KEY"} <= names
    assert [] == suspects({each: "x" for name in names for each in (name, name.lower())})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("DATBASE_URL", "DATABASE_URL"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("DATABSAE_URL", "DATABASE_URL"),
        ("database_ulr", "DATABASE_URL"),
        ("LLM_SERVICE_TOKEM", "LLM_SERVICE_TOKEN"),
        ("FILE_URL", "FILES_URL"),
        ("OPENMODE", "OPEN_MODE"),
        ("ORCHESTRA_SECERT", "ORCHESTRA_SECRET"),
        ("ORCHESTRA_DATABASE_URL", "DATABASE_URL"),
        ("ORCHESTRA_LLM_MODLE", "LLM_MODEL"),
        ("ORCHESTRA_SECRET_2", None),
        ("ORCHESTRA_DEBUG", None),
    ],
)
def test_a_misspelt_setting_is_found(name: str, meant: str | None) -> None:
    """One or two characters too few, too many or wrong, and unknown names of ours, with the setting close to it."""
    assert [(name, meant)] == [(each.name, each.meant) for each in suspects({name: "x", "PATH": "/bin"})]


@pytest.mark.parametrize("service", ["GATEWAY", "METRICS", "TASKS", "LLM", "KAFKA", "ORCHESTRA_GATEWAY", "ORCHESTRA"])
def test_service_links_are_no_mistakes(service: str) -> None:
    """What Kubernetes sets for a Service is not reported, also if the Service has a name of ours."""
    assert [] == suspects(links(service))


def test_no_service_link_becomes_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a Service is called, what Kubernetes sets for it changes no setting of any service."""
    names = setting_names()
    services = {name.rpartition("_SERVICE_")[0] or name.removesuffix("_PORT") for name in names}
    told = {name: value for service in services for name, value in links(service).items()}
    monkeypatch.setattr(os, "environ", {})
    expected = [read(service) for service in SERVICES]
    monkeypatch.setattr(os, "environ", told)

    assert {"METRICS_PORT", "TASKS_PORT"} <= told.keys() & names
    assert [name for name in told.keys() & names if not is_service_link(name, told[name])] == []
    assert expected == [read(service) for service in SERVICES]


def read(service: str) -> dict[str, Any]:
    settings = settings_of(service)
    assert settings
    return settings.model_validate({"orchestra_secret": "s" * 32}).model_dump()


def test_the_log_names_what_is_misspelt() -> None:
    """One warning for each, with both names, without the value."""
    with capture_logs() as lines:
        warn_of_suspects({"DATBASE_URL": CANARY, "ORCHESTRA_DEBUG": CANARY})

    found = [(line["event"], line["log_level"], line["setting"], line["meant"]) for line in lines]
    assert [
        ("unknown_setting", "warning", "DATBASE_URL", "DATABASE_URL"),
        ("unknown_setting", "warning", "ORCHESTRA_DEBUG", None),
    ] == found
    assert CANARY not in str(lines)


def test_a_start_that_fails_names_what_is_misspelt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a setting is missing or wrong, the variable that was probably meant is named as well, without its value."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:99999")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVER", CANARY)

    with pytest.raises(SystemExit):
        load(KafkaSettings)

    said = capsys.readouterr().err
    assert "KAFKA_BOOTSTRAP_SERVER is not a setting: KAFKA_BOOTSTRAP_SERVERS was probably meant\n" in said
    assert CANARY not in said


def test_the_doctor_only_warns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that looks like a mistake is in the doctor's table, and the exit code is still 0."""
    found = [
        Finding("settings", "DATBASE_URL is not a setting", "correct it", works=True),
        Finding("secret", "32 bytes"),
    ]

    async def examine(*_: object) -> list[Finding]:
        return found

    monkeypatch.setattr("orchestra.cli.examine.examine", examine)
    monkeypatch.setenv("DATABASE_URL", "postgres://host/db")
    doctor()

    assert "DATBASE_URL is not a setting" in capsys.readouterr().out

"""Our own services as parts of the stack: started by name, configured only by their environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from orchestra.devstack.choice import Choice
from orchestra.devstack.folder import DataFolder
from orchestra.devstack.model import CONTEXT_TOKENS, MODEL_NAME, PARALLEL_SLOTS
from orchestra.devstack.part import Part, python_module
from orchestra.devstack.ports import HOST, Ports
from orchestra.devstack.probes import answers, exists

# As long as a lease; each renewal touches the file.
_WORKER_SILENCE_SECONDS = 15.0
# Settings that only some services read. The others do not get them, whatever their origin: some are credentials.
_READERS = {
    **dict.fromkeys(
        (
            "AGENTS_DIR", "DATABASE_URL", "FILES_URL", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_SECURITY_PROTOCOL",
            "ORCHESTRA_SECRET", "ORCHESTRA_SECRET_OLD",
        ),
        ("gateway", "worker"),
    ),
    **dict.fromkeys(("CONTEXT_DEFAULT", "CORS_ORIGINS"), ("gateway",)),
    **dict.fromkeys(("ALLOWED_HOSTS", "OPEN_MODE"), ("gateway", "llm")),
    **dict.fromkeys(
        (
            "ANTHROPIC_API_KEY", "EMBEDDED_API_KEY", "EMBEDDED_BASE_URL", "EMBEDDED_CONTEXT_TOKENS",
            "EMBEDDED_MAX_CONCURRENCY", "GEMINI_API_KEY", "LLM_PROVIDER", "MODELS_FILE", "OPENAI_API_KEY",
            "SIMULATED_OPTIONS",
        ),
        ("llm",),
    ),
    "LLM_SERVICE_TOKEN": ("llm", "worker"),
    "LLM_SERVICE_URL": ("worker",),
}  # fmt: skip
# Settings of the caller on which all processes of a stack must agree.
_PASSED_ON = (
    "AGENTS_DIR",
    "ALLOWED_HOSTS",
    "CONTEXT_DEFAULT",
    "CORS_ORIGINS",
    "LLM_SERVICE_TOKEN",
    "MODELS_FILE",
    "OPEN_MODE",
    "ORCHESTRA_SECRET_OLD",
)


def shared_environment(ports: Ports, database_url: str, folder: DataFolder, choice: Choice) -> dict[str, str]:
    """All that another gateway or worker of this stack needs.

    The LLM service requires a token of this stack, unless the caller sets another one, or an empty one.
    """
    return {
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{ports.kafka}",
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "ORCHESTRA_SECRET": folder.secret(),
        "FILES_URL": os.environ.get("FILES_URL") or folder.files.as_uri(),
        "LLM_SERVICE_URL": f"http://{HOST}:{ports.llm}",
        "LLM_SERVICE_TOKEN": folder.token("LLM service"),
        "LLM_MODEL": choice.model,
        "LLM_PROVIDER": choice.provider,
        # For experiments, whichever model is used.
        "SIMULATED_OPTIONS": os.environ.get("SIMULATED_OPTIONS") or "true",
        "EMBEDDED_BASE_URL": f"http://{HOST}:{ports.model}/v1",
        "EMBEDDED_API_KEY": folder.token(MODEL_NAME),
        "EMBEDDED_CONTEXT_TOKENS": str(CONTEXT_TOKENS),
        "EMBEDDED_MAX_CONCURRENCY": str(PARALLEL_SLOTS),
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    }


def llm_part(shared: Mapping[str, str], port: int) -> Part:
    """The LLM service."""
    address = f"http://{HOST}:{port}"
    return Part(
        name="llm",
        command=python_module("llm_service"),
        env=_environment("llm", shared, HOST=HOST, PORT=str(port)),
        ready=answers(f"{address}/healthz"),
        address=address,
    )


def worker_part(shared: Mapping[str, str], number: int, ready_file: Path, ports: Ports) -> Part:
    """One worker. It is killed only after the longest time that a drain may take."""
    return Part(
        name=f"worker-{number}",
        command=python_module("workers"),
        env=_environment(
            "worker",
            shared,
            READY_FILE=str(ready_file),
            METRICS_PORT=shared.get("METRICS_PORT", str(ports.of_worker(number))),
        ),
        ready=exists(ready_file, _WORKER_SILENCE_SECONDS),
        before_start=lambda: ready_file.unlink(missing_ok=True),
        stop_limit=65,
    )


def gateway_part(shared: Mapping[str, str], number: int, port: int, tasks_port: int) -> Part:
    """One gateway."""
    address = f"http://{HOST}:{port}"
    return Part(
        name=f"gateway-{number}",
        command=python_module("gateway"),
        env=_environment("gateway", shared, HOST=HOST, PORT=str(port), TASKS_PORT=str(tasks_port)),
        ready=answers(f"{address}/readyz"),
        stop_limit=20,
        address=address,
    )


def _environment(kind: str, shared: Mapping[str, str], **own: str) -> dict[str, str]:
    # The caller's Kafka variables belong to another cluster.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
    told = {**inherited, **shared, **own}
    return {name: value for name, value in told.items() if kind in _READERS.get(name, (kind,))}

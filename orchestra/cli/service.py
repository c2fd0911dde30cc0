"""``orchestra gateway``, ``worker``, ``llm``: one service in this process, loaded by name so that none is imported."""

import importlib.util
import runpy

from orchestra.cli.options import fail


def gateway() -> None:
    """Run one gateway: HTTP in, Kafka out. Reads PORT, TASKS_PORT, DATABASE_URL, KAFKA_BOOTSTRAP_SERVERS and more."""
    _run("gateway")


def worker() -> None:
    """Run one worker: from Kafka to the LLM service and Postgres. Reads DATABASE_URL, LLM_SERVICE_URL and more."""
    _run("workers")


def llm() -> None:
    """Run the LLM service: one API for all models. Reads PORT, LLM_PROVIDER, OPENAI_API_KEY, MODELS_FILE and more."""
    _run("llm_service")


def _run(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise fail(f"the package {package} is not installed here")
    runpy.run_module(package, run_name="__main__", alter_sys=True)

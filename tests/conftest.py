"""The ground that tests stand on: real Kafka and Postgres once per run, services as child processes."""

import gc
import signal
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from orchestra.kafka.records import read_any_record
from tests.support.services import Services
from tests.support.stack import Stack, open_model, open_stack

_LIVE = Path(__file__).parent / "live"


def pytest_configure() -> None:
    """Make a run the same however busy the machine is, and wherever it was started."""
    # A shell starts what runs in the background with Ctrl-C ignored, and the processes that tests start inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("ours")
    # Without this, what is logged before a test configures it has the value of every local variable, for seconds each.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, plain])
    gc.disable()  # Until all is collected, nothing that is made goes away.


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: looking through it again and again took a tenth of a run."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _one_reader() -> None:
    """Consumers of the tests read as ours do, from the first on."""
    read_any_record()


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """Kafka and Postgres, migrated, with all topics: where, TEST_STACK decides."""
    async with open_stack() as opened:
        yield opened


@pytest.fixture(scope="session")
async def model_url() -> AsyncIterator[str]:
    """OpenAI base URL of the embedded model, loaded once per run."""
    async with open_model() as url:
        yield url


@pytest.fixture
async def services(stack: Stack, tmp_path: Path) -> AsyncIterator[Services]:
    """Starts gateways, workers and LLM services for one test; kills them after it."""
    started = Services(stack.env, tmp_path)
    yield started
    await started.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Kafka, Postgres or the model, and what runs alone: `make fast` and `make test` leave it out."""
    for item in items:
        if {"stack", "model_url"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("stack")
        if item.path.is_relative_to(_LIVE):
            item.add_marker("long")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the services of a failed test have logged."""
    report = yield
    for started in getattr(item, "funcargs", {}).values():
        if report.failed and isinstance(started, Services):
            report.sections.extend((f"log of {service.name}", service.tail()) for service in started.started)
    return report

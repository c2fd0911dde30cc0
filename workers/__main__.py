"""`python -m workers`: one worker process, from environment variables."""

import asyncio
import os
import signal
import sys

import structlog
import uvloop
from prometheus_client import start_http_server

from orchestra.files.marker import ForeignHomeError, UnmarkedHomeError
from orchestra.process import allow_many_connections, look_for_garbage_rarely
from orchestra.setting_names import warn_of_suspects
from orchestra.settings import load, refuse_to_start
from orchestra.telemetry.logging import configure_logging
from workers.app import worker
from workers.metrics import Metrics
from workers.settings import WorkerSettings

log = structlog.get_logger()


async def _serve(settings: WorkerSettings) -> bool:
    """Serve until SIGTERM or SIGINT. False if a bug ended it."""
    metrics = Metrics()
    async with worker(settings, metrics) as running:
        _show(metrics, settings)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.stop)
        look_for_garbage_rarely()
        try:
            await running.run()
        finally:
            if settings.ready_file:
                settings.ready_file.unlink(missing_ok=True)
        return not running.failed


def _show(metrics: Metrics, settings: WorkerSettings) -> None:
    """Serve the metrics. If the port is taken, log a warning and work without them."""
    try:
        server, _ = start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
    except OSError as error:
        log.warning(
            "metrics_not_served", address=settings.metrics_host, port=settings.metrics_port, reason=error.strerror
        )
    else:
        log.info("metrics_served", address=settings.metrics_host, port=server.server_port)


def main() -> None:
    """Run until SIGTERM or Ctrl-C.

    Exit code 0 after that; 1 if it cannot start or if a bug caused the drain; 78 if a setting is wrong.
    """
    settings = load(WorkerSettings)
    configure_logging("worker", settings.log_level)
    warn_of_suspects(os.environ)
    allow_many_connections()
    try:
        good = uvloop.run(_serve(settings))
    except (UnmarkedHomeError, ForeignHomeError) as error:
        refuse_to_start(str(error))
    except Exception as error:  # Logged as one line each, not as a stack trace.
        for each in _leaves(error):
            log.error("worker_failed", exc_info=each)
        sys.exit(1)
    sys.exit(0 if good else 1)


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors inside nested exception groups: the group's own message is of no use in a log."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


if __name__ == "__main__":
    main()

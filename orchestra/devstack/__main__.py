"""The background supervisor that `orchestra up --detach` starts. Prints progress as JSON lines on stdout.

Takes one argument, the options as JSON. After the line with ``ready`` or ``failed`` it only logs. Until ``ready`` it
lives as long as who started it, who holds the other end of stdin; from then on it is on its own.
"""

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from orchestra.devstack.errors import PartFailedError, StackError
from orchestra.devstack.options import StackOptions
from orchestra.devstack.ports import Ports
from orchestra.devstack.progress import StartProgress
from orchestra.devstack.run import run_stack
from orchestra.telemetry.logging import configure_logging


def main() -> None:
    """Run a stack until it is asked to stop. Exit code 1 if it cannot be started."""
    given = json.loads(sys.argv[1])
    options = StackOptions(
        Path(given["data"]), workers=given["workers"], gateways=given["gateways"], ports=Ports(**given["ports"])
    )
    configure_logging("supervisor")
    logger = structlog.get_logger()

    def report(progress: StartProgress) -> None:
        logger.info("part", part=progress.part, state=progress.step, reason=progress.detail)
        _tell({"progress": asdict(progress)})

    async def when_ready(status: dict[str, Any]) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        _tell({"ready": status})
        # Nothing reads stdout from here on; further output must not block or fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    async def run() -> None:
        asyncio.get_running_loop().add_reader(sys.stdin, _starter_has_gone)
        await run_stack(options, report, when_ready)

    try:
        asyncio.run(run())
    except PartFailedError as error:
        _tell({"failed": str(error), "log": error.log_tail})
        raise SystemExit(1) from None
    except (StackError, OSError) as error:
        _tell({"failed": str(error), "log": ""})
        raise SystemExit(1) from None


def _starter_has_gone() -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin)
    signal.raise_signal(signal.SIGTERM)


def _tell(message: dict[str, Any]) -> None:
    try:
        print(json.dumps(message), flush=True)
    except BrokenPipeError:  # The caller has exited.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()

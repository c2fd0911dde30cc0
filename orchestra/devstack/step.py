"""One program of a start that runs to its end: Kafka's format, initdb, the migrations. It never outlives the start."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from orchestra.devstack.child import launched
from orchestra.devstack.part import Account


async def run_step(
    command: Sequence[str], env: Mapping[str, str], *, account: Account | None = None, stdin: str = ""
) -> tuple[int, str]:
    """Run a program. Returns its exit code and all that it wrote. If cancelled, it and what it started are killed."""
    process = await asyncio.create_subprocess_exec(
        *launched(command, account=account),
        env=dict(env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate(stdin.encode())
        return await process.wait(), output.decode(errors="replace")
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise

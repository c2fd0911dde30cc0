"""A program of the start: its output, and the tie to its starter."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from orchestra.devstack.step import run_step
from tests.support.waiting import eventually

# Starts a program of its own, as initdb and the migrations do, and says which.
PAIR = """
import subprocess, sys
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
unfinished = Path(sys.argv[1] + ".tmp")
unfinished.write_text(str(child.pid))
unfinished.rename(sys.argv[1])
child.wait()
"""
PARENT = """
import asyncio, sys
from orchestra.devstack.step import run_step
asyncio.run(run_step([sys.executable, "-c", sys.argv[1], sys.argv[2]], {}))
"""


def alive(pid: int) -> bool:
    """True while a process runs; a zombie does not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


async def test_it_returns_the_code_and_all_output() -> None:
    """Both streams, what was put in, and the exit code come back."""
    script = "import sys; print(input(), flush=True); sys.exit('wrong')"

    assert (1, "typed\nwrong\n") == await run_step([sys.executable, "-c", script], {}, stdin="typed\n")


async def test_one_that_is_cancelled_is_killed_with_what_it_started(tmp_path: Path) -> None:
    """Once a cancelled step has ended, neither the program nor its own child runs."""
    told = tmp_path / "pid"
    step = asyncio.create_task(run_step([sys.executable, "-c", PAIR, str(told)], dict(os.environ)))
    await eventually(told.exists)
    child = psutil.Process(int(told.read_text()))
    program = child.ppid()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step

    assert not alive(program)
    await eventually(lambda: not alive(child.pid))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_it_dies_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    """A starter that is killed with -9 in the middle of a step leaves no program behind."""
    told = tmp_path / "pid"
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, PAIR, str(told))
    await eventually(told.exists)
    child = psutil.Process(int(told.read_text()))
    program = child.ppid()
    starter.kill()
    await starter.wait()
    await eventually(lambda: not alive(program))
    with suppress(psutil.NoSuchProcess):
        child.kill()

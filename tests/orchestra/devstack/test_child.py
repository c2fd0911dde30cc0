"""A part's process: readiness, endings, the log, and the tie to its parent."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestra.devstack.child import Child, State
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.part import Part
from orchestra.devstack.probes import exists
from tests.support.llm_server import eventually

SERVE = "import pathlib, sys, time; print('up', flush=True); pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVE
PARENT = """
import asyncio, sys
from pathlib import Path
from orchestra.devstack.child import Child
from orchestra.devstack.part import Part
from orchestra.devstack.probes import exists

async def main(folder):
    command = [sys.executable, "-c", {script!r}, str(folder / "ready")]
    child = Child(Part("child", command, {{}}, exists(folder / "ready")), folder / "child.log")
    await child.start()
    print(child.pid, flush=True)
    await child.ended()

asyncio.run(main(Path(sys.argv[1])))
"""


def part(folder: Path, script: str, **more: Any) -> Part:
    ready = folder / "ready"
    settings: dict[str, Any] = {
        "start_limit": 10,
        "stop_limit": 10,
        "before_start": lambda: ready.unlink(missing_ok=True),
        **more,
    }
    return Part("part", [sys.executable, "-c", script, str(ready)], dict(os.environ), exists(ready), **settings)


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    running = Child(part(tmp_path, SERVE), tmp_path / "part.log")
    await running.start()
    yield running
    await running.kill()


async def test_one_that_is_frozen_is_silent(tmp_path: Path) -> None:
    """A process that lives and gives no more signs of life is silent, and ready again once it does."""
    beat = "import pathlib, sys, time\nwhile True: pathlib.Path(sys.argv[1]).touch(); time.sleep(0.02)"
    ready = tmp_path / "ready"
    command = [sys.executable, "-c", beat, str(ready)]
    child = Child(Part("part", command, dict(os.environ), exists(ready, seconds=1)), tmp_path / "part.log")
    await child.start()
    try:
        child.signal(signal.SIGSTOP)
        await looked(child, State.SILENT)
        child.signal(signal.SIGCONT)
        await looked(child, State.READY)
    finally:
        await child.kill()
    await child.look()

    assert child.state == State.STOPPED


async def looked(child: Child, state: State) -> None:
    """Look until it is in this state."""
    async with asyncio.timeout(60):
        while child.state != state:
            await asyncio.sleep(0)
            await child.look()


def gone(pid: int) -> bool:
    """True if no such process runs; a zombie does not count as running."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_it_is_ready_when_its_probe_says_so(child: Child) -> None:
    """After the start the process lives, is ready, and its output is in its log."""
    assert child.state == State.READY
    assert child.pid
    assert child.tail() == "up"


async def test_it_keeps_its_pid_through_the_launcher(child: Child) -> None:
    """The reported pid is the program's own."""
    assert child.pid
    assert psutil.Process(child.pid).cmdline()[2] == SERVE


async def test_it_stops_by_its_signal(child: Child) -> None:
    """A stop sends the part's signal and waits for the end."""
    await child.stop()

    assert await child.ended() == -signal.SIGTERM
    assert (child.state, child.pid) == (State.STOPPED, None)


async def test_one_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    """What ignores the signal for longer than it may is killed."""
    stubborn = Child(part(tmp_path, STUBBORN, stop_limit=0.2), tmp_path / "part.log")
    await stubborn.start()
    await stubborn.stop()

    assert await stubborn.ended() == -signal.SIGKILL


async def test_a_failed_start_tells_how_and_shows_the_log(tmp_path: Path) -> None:
    """A process that ends before it is ready is reported with its exit code and its last words."""
    failing = Child(part(tmp_path, "print('no disk'); raise SystemExit(7)"), tmp_path / "part.log")
    with pytest.raises(PartFailedError) as caught:
        await failing.start()

    assert (str(caught.value), caught.value.log_tail) == (
        "part ended with exit code 7 before it was ready",
        "no disk",
    )


async def test_one_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    """A start that takes longer than it may fails, and leaves no process."""
    endless = Child(part(tmp_path, "import time; time.sleep(600)", start_limit=0.2), tmp_path / "part.log")
    with pytest.raises(PartFailedError, match="was not ready within 0 s"):
        await endless.start()

    assert endless.pid is None


async def test_it_starts_again_after_a_kill(child: Child) -> None:
    """The same child can be started again, as another process."""
    first = child.pid
    await child.kill()
    await child.start()

    assert child.pid not in (None, first)


async def test_a_large_log_is_put_aside(child: Child) -> None:
    """A log of more than 10 MiB is kept once under another name, and a new one begun."""
    await child.kill()
    with child.log.open("ab") as log:
        log.truncate(10 * 1024 * 1024 + 1)
    await child.start()

    assert child.log.with_suffix(".log.1").stat().st_size > 10 * 1024 * 1024
    assert child.log.read_text() == "up\n"
    assert child.log.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """A parent that is killed with -9 leaves no child behind."""
    command = [sys.executable, "-c", PARENT.format(script=SERVE), str(tmp_path)]
    parent = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout
    pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    await eventually(lambda: gone(pid))

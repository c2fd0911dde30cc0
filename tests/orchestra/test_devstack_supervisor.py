"""Parts are kept alive."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestra.devstack.child import State
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.part import Part
from orchestra.devstack.probes import exists
from orchestra.devstack.progress import Progress
from orchestra.devstack.supervisor import Supervisor
from tests.support.llm_server import eventually

SERVE = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
DIE_AT_ONCE = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"


class Heard(list[Progress]):
    """All that was reported."""

    def steps(self, name: str) -> list[str]:
        return [progress.step for progress in self if progress.part == name]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def supervisor(tmp_path: Path, heard: Heard) -> AsyncIterator[Supervisor]:
    running = Supervisor(tmp_path, heard.append)
    yield running
    await running.remove(*running.children)


def part(folder: Path, name: str, script: str = SERVE) -> Part:
    ready = folder / f"{name}.ready"
    command = [sys.executable, "-c", script, str(ready)]
    forget = lambda: ready.unlink(missing_ok=True)  # noqa: E731
    return Part(name, command, dict(os.environ), exists(ready), start_limit=10, before_start=forget)


async def test_one_that_is_killed_is_started_again(supervisor: Supervisor, heard: Heard, tmp_path: Path) -> None:
    """After `kill -9` the part runs again under another pid, and both are told."""
    await supervisor.add(part(tmp_path, "one"))
    child = supervisor.children["one"]
    first = child.pid
    assert first
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: heard.steps("one")[-2:] == ["restarting", "ready"])

    assert child.state == State.READY
    assert child.pid not in (None, first)


async def test_one_that_dies_at_once_waits_longer_each_time(
    supervisor: Supervisor, heard: Heard, tmp_path: Path
) -> None:
    """A part that ends as soon as it is ready is tried again and again, and the rest goes on."""
    await supervisor.add(part(tmp_path, "other"))
    await supervisor.add(part(tmp_path, "sick", DIE_AT_ONCE))
    await eventually(lambda: heard.steps("sick").count("restarting") >= 3)

    assert supervisor.children["other"].state == State.READY


async def test_one_that_is_removed_stays_away(supervisor: Supervisor, heard: Heard, tmp_path: Path) -> None:
    """A part that is stopped on purpose is forgotten and not started again."""
    await supervisor.add(part(tmp_path, "one"))
    await supervisor.remove("one")

    assert heard.steps("one") == ["starting", "ready", "stopping", "stopped"]
    assert supervisor.children == {}


async def test_one_that_cannot_be_started_is_not_kept(supervisor: Supervisor, heard: Heard, tmp_path: Path) -> None:
    """A part whose first start fails is an error for the caller, and nothing is left of it."""
    with pytest.raises(PartFailedError):
        await supervisor.add(part(tmp_path, "one", "raise SystemExit(1)"))

    assert heard.steps("one") == ["starting", "failed"]
    assert supervisor.children == {}

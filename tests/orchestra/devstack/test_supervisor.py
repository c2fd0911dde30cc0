"""Parts are kept alive."""

import asyncio
import errno
import math
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.devstack.child import State
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.folder import open_private
from orchestra.devstack.part import Part
from orchestra.devstack.probes import exists
from orchestra.devstack.progress import StartProgress
from orchestra.devstack.supervisor import Supervisor
from tests.support.llm_server import eventually

SERVE = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
DIE_AT_ONCE = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"


class Heard(list[StartProgress]):
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
    """After `kill -9` the part runs again under another pid, and both are reported."""
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


class FullDisk:
    """Fails as writing to a full disk does, for the first few times or always."""

    def __init__(self, times: float) -> None:
        self.times = times

    def __call__(self, *_: object) -> None:
        if self.times > 0:
            self.times -= 1
            raise OSError(errno.ENOSPC, "No space left on device")


async def test_one_is_kept_though_nobody_can_be_told(tmp_path: Path) -> None:
    """A part is started again, and again, though every report of it fails."""
    deaf = Supervisor(tmp_path, FullDisk(math.inf))
    await deaf.add(part(tmp_path, "one"))
    child = deaf.children["one"]
    for _ in range(2):
        first = child.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await eventually(lambda first=first: child.pid not in (None, first) and child.state == State.READY)
    await deaf.remove("one")

    assert child.pid is None


@pytest.mark.parametrize("place", ["before_start", "log", "spawn", "ready"])
async def test_one_is_kept_though_its_start_fails_in_any_way(
    supervisor: Supervisor, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Any error at a start, even an unforeseen one, is reported, and the part is tried again."""
    fails = FullDisk(0)
    made = part(tmp_path, "one")
    before, ready = made.before_start, made.ready

    def before_start() -> None:
        before()
        if place == "before_start":
            fails()

    async def is_ready() -> bool:
        if place == "ready":
            fails()
        return await ready()

    await supervisor.add(replace(made, before_start=before_start, ready=is_ready))
    child = supervisor.children["one"]
    first = child.pid
    assert first
    fails.times = 2
    if place == "log":

        def opened(path: Path) -> Any:
            fails()
            return open_private(path)

        monkeypatch.setattr("orchestra.devstack.child.open_private", opened)
    if place == "spawn":
        spawn = asyncio.create_subprocess_exec

        async def spawned(*arguments: Any, **options: Any) -> Any:
            fails()
            return await spawn(*arguments, **options)

        monkeypatch.setattr(asyncio, "create_subprocess_exec", spawned)
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: heard.steps("one")[-2:] == ["restarting", "ready"] and child.state == State.READY)

    failures = [progress.detail for progress in heard if progress.step == "failed"]
    assert len(failures) == 2
    assert all("No space left on device" in each for each in failures)

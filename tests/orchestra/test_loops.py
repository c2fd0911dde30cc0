"""Promises of orchestra/loops.py: a loop outlives every error in it, and ends when it is stopped."""

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

from orchestra import loops
from orchestra.loops import beside, keep_running, regularly
from tests.support.fakes import no_pause, running, steps
from tests.support.tree import ROOT
from tests.support.waiting import eventually

ERRORS = [OSError(), TimeoutError(), asyncio.CancelledError(), asyncio.IncompleteReadError(b"", 1), RuntimeError()]


class Work:
    """Fails with these errors in turn, then succeeds; keeps the times at which it began, in pauses."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.runs = 0

    async def __call__(self) -> None:
        """Run once."""
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses."""
    no_pause(monkeypatch, loops, "FIRST_PAUSE_SECONDS", "LAST_PAUSE_SECONDS")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_work_is_done_again_whatever_it_fails_with(error: BaseException) -> None:
    """A CancelledError that a client lets out counts as an error: the loop itself was not cancelled."""
    work = Work(error, error)

    await asyncio.wait_for(keep_running(work, "failed"), 10)

    assert 3 == work.runs


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_regular_work_outlives_its_errors(error: BaseException) -> None:
    """The next time comes."""
    work = Work(error, error)
    async with running(regularly(0.001, work, "failed")) as (loop,):
        await eventually(lambda: work.runs > 3)
        assert not loop.done()


async def test_regular_work_rests_while_there_is_nothing_to_do() -> None:
    """While its event is not set, the work does not run and no timer is started for it."""
    work, due = Work(), asyncio.Event()
    async with running(regularly(0, work, "failed", when=due)):
        await steps()
        assert 0 == work.runs
        due.set()
        await eventually(lambda: work.runs > 1)


async def test_regular_work_may_have_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that takes long is followed by a rest in proportion, within a limit, and short work by the usual pause."""
    pauses: list[float] = []
    times = iter([0.0, 0.01, 1.0, 2.0, 3.0, 99.0])

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(loops, "LAST_PAUSE_SECONDS", 15.0)
    monkeypatch.setattr(loops.random, "uniform", lambda _low, high: high)
    clock = SimpleNamespace(time=lambda: next(times))
    faked = {"sleep": pause, "get_running_loop": lambda: clock, "CancelledError": asyncio.CancelledError}
    monkeypatch.setattr(loops, "asyncio", SimpleNamespace(**faked))
    with pytest.raises(asyncio.CancelledError):
        await regularly(5.0, Work(), "failed", rest=10.0)

    assert [5.0, 5.0, 10.0, 15.0] == pauses


async def test_pauses_grow_and_begin_anew_after_a_run_that_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """From half a second, doubled, to fifteen; a connection that held for long is worth a quick try."""
    pauses: list[float] = []

    async def pause(seconds: float, _until: object) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(loops, "FIRST_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(loops, "LAST_PAUSE_SECONDS", 15.0)
    monkeypatch.setattr(loops.random, "uniform", lambda _low, high: high)
    monkeypatch.setattr(loops, "_pause", pause)
    await keep_running(Work(*[OSError()] * 7), "failed", expected=(OSError,))
    assert [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0] == pauses

    pauses.clear()
    monkeypatch.setattr(loops, "LASTED_SECONDS", -1)
    await keep_running(Work(*[OSError()] * 3), "failed", expected=(OSError,))
    assert [0.5] * 3 == pauses


async def test_a_bug_is_told_apart_from_what_is_expected() -> None:
    """An expected error is a warning by its name; a bug is an error with its place, and is reported."""
    bugs: list[str] = []
    with structlog.testing.capture_logs() as lines:
        work = Work(OSError(), ValueError("secret"))
        await keep_running(work, "failed", expected=(OSError,), on_bug=lambda: bugs.append("bug"))

    assert [("failed", "warning", "OSError"), ("failed", "error", None)] == [
        (line["event"], line["log_level"], line.get("error")) for line in lines
    ]
    assert isinstance(lines[1]["exc_info"], ValueError)
    assert ["bug"] == bugs


async def test_work_that_is_over_is_not_begun_again() -> None:
    """It ends when it has returned or is stopped; a stop cuts a pause short."""
    done = Work()
    await keep_running(done, "failed")
    assert 1 == done.runs

    over, failing = asyncio.Event(), Work(*[OSError()] * 1000)
    over.set()
    await keep_running(failing, "failed", until=over)
    assert 1 == failing.runs


async def test_a_pause_ends_when_nobody_wants_the_work_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that drains does not wait for the next try."""
    monkeypatch.setattr(loops, "FIRST_PAUSE_SECONDS", 3600)
    over, failing = asyncio.Event(), Work(*[OSError()] * 2)
    async with running(keep_running(failing, "failed", until=over)) as (loop,):
        await eventually(lambda: failing.runs)
        over.set()
        await eventually(loop.done)


async def test_cancelling_ends_a_loop() -> None:
    """At work and in a pause; also when the work answers the cancel with an error of its own."""

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError from None

    for loop in (keep_running(stubborn, "failed"), keep_running(asyncio.Event().wait, "failed")):
        async with running(loop) as (task,):
            await steps()
            task.cancel()
            await eventually(task.done)


async def test_what_runs_beside_ends_with_the_body() -> None:
    """Also when that fails."""
    work, others, tasks = Work(), asyncio.all_tasks(), set[asyncio.Task[object]]()
    with pytest.raises(LookupError):
        async with beside(regularly(0.001, work, "failed")):
            await eventually(lambda: work.runs)
            tasks = asyncio.all_tasks() - others
            raise LookupError

    assert tasks
    assert all(task.done() for task in tasks)


# What may be started bare: it ends by itself, and its starter checks the result.
ONE_SHOT = {
    ("gateway/disconnects.py", "self._cancel(submission)"): "one cancel, tried a few times",
    ("gateway/people/cached_rows.py", "self._look(key)"): "one look into Postgres; its errors go to those who asked",
    ("gateway/http/kept_counts.py", "self._count(key, count)"): "one count; its errors go to those who asked",
    ("gateway/following/lookup.py", "self._ask()"): "one look into Postgres; its errors go to those who asked",
    ("llm_service/responses.py", "answer"): "one generation",
    ("orchestra/http/disconnect.py", "_left(receive)"): "one call",
    ("orchestra/kafka/clients.py", "stopping()"): "the end of one client",
    ("orchestra/kafka/records.py", "self._unpack_in_thread(waiting)"): "a few MiB; its errors go to the reader",
    ("orchestra/loops.py", "loop"): "a loop of this module",
    ("workers/app.py", "self._tell_ready()"): "tells it once",
    ("workers/flight.py", "work"): "one turn; its errors end it",
    ("workers/turn.py", "self._recall(wanted)"): "the histories of some turns, which wait for it",
    ("workers/turn.py", "self._next_attempt(flight.turn)"): "one number for one turn, which waits for it",
}
SPAWNING = {"create_task", "ensure_future", "beside"}
LOOPS = {"keep_running", "regularly"}


def spawned(path: Path) -> Iterator[str]:
    """What a file starts as a task and does not keep alive."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and _name(node.func) in SPAWNING:
            for what in node.args:
                if not (isinstance(what, ast.Call) and _name(what.func) in LOOPS):
                    yield ast.unparse(what)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


def services(*patterns: str) -> list[Path]:
    """The files of the services, and what they stand on."""
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    assert found
    return found


def test_every_task_that_lives_as_long_as_its_process_is_kept_alive() -> None:
    """A new task goes through ``keep_running`` or ``regularly``, or is named here with the reason why it ends."""
    common = ("orchestra/*.py", "orchestra/http/*.py", "orchestra/kafka/*.py", "orchestra/store/*.py")
    files = services("gateway/**/*.py", "workers/*.py", "llm_service/**/*.py", *common)
    bare = {(str(path.relative_to(ROOT)), what) for path in files for what in spawned(path)}

    assert ONE_SHOT.keys() == bare
    assert all(ONE_SHOT.values())


def test_no_loop_can_end_another() -> None:
    """A task group ends all of its tasks when one fails: no service has any."""
    files = services(
        "gateway/**/*.py",
        "workers/*.py",
        "llm_service/**/*.py",
        "orchestra/*.py",
        "orchestra/http/*.py",
        "orchestra/kafka/*.py",
    )

    assert [str(path) for path in files if "TaskGroup(" in path.read_text("utf-8")] == []

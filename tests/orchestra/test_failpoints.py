"""Failpoints: a process dies exactly where it is set to."""

import os
import re
import signal
import subprocess
import sys

import pytest

from orchestra.failpoints import FAILPOINTS, Order, environment, parse
from tests.support.tree import ROOT

REACHED = re.compile(r"\breach\(\"([^\"]+)\"\)")
PROGRAM = """
from orchestra.failpoints import reach
for time in range(1, 6):
    print(time, flush=True)
    reach("finish.after_commit")
    reach("publish.after_mark")
"""


def run(failpoints: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM]
    env = {**os.environ, "FAILPOINTS": failpoints}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_the_list_and_the_code_name_the_same_points() -> None:
    """Every point of the list is reached in exactly one place, and no other is."""
    sources = [path for folder in ("workers", "gateway", "orchestra") for path in (ROOT / folder).rglob("*.py")]
    reached = [name for path in sources for name in REACHED.findall(path.read_text("utf-8"))]

    assert sorted(FAILPOINTS) == sorted(reached)


def test_a_process_dies_at_its_point_at_the_time_that_was_said() -> None:
    """The third time at the point is its last moment, as under kill -9; other points are passed."""
    ended = run("finish.after_commit=kill@3,publish.after_mark=kill@9")

    assert (-9, "1\n2\n3\n") == (ended.returncode, ended.stdout)


def test_a_process_stands_still_at_its_point_until_it_is_woken() -> None:
    """Each second time at the point it freezes; woken, it goes on where it was."""
    env = {**os.environ, "FAILPOINTS": "finish.after_commit=freeze@2"}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        said = []
        for _ in range(2):
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            said.append(process.poll())
            process.send_signal(signal.SIGCONT)
        assert process.stdout
        assert ([None, None], "1\n2\n3\n4\n5\n") == (said, process.stdout.read())


def test_nothing_happens_without_failpoints() -> None:
    """An empty variable arms nothing."""
    assert (0, "1\n2\n3\n4\n5\n") == ((ended := run("")).returncode, ended.stdout)


@pytest.mark.parametrize("text", ["nowhere=kill@1", "finish.after_commit", "finish.after_commit=kill@0",
                                  "finish.after_commit=sleep@1", "finish.after_commit=kill"])  # fmt: skip
def test_a_wrong_order_is_refused(text: str) -> None:
    """A name that is nowhere or an action that cannot be read is an error, never a campaign without its danger."""
    with pytest.raises(ValueError, match="is not NAME=kill@TIMES"):
        parse(text)


def test_what_a_process_is_told_is_what_it_reads() -> None:
    """An environment made for points arms exactly these."""
    armed = {"intake.after_read": Order("kill", 2), "run.mid_stream": Order("freeze", 7)}

    assert armed == parse(environment(armed)["FAILPOINTS"])

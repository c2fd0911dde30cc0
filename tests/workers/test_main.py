"""Promises of workers/__main__.py."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.tree import ROOT
from workers.__main__ import _leaves


def test_the_log_names_what_failed_and_not_the_group_that_it_came_in() -> None:
    """Errors inside of groups inside of groups come out one by one, in their order."""
    first, second, third = ValueError("a"), KeyError("b"), OSError("c")
    nested = ExceptionGroup("outer", [first, ExceptionGroup("inner", [second]), third])

    assert [first, second, third] == _leaves(nested)
    assert [first] == _leaves(first)


def test_a_bad_agent_ends_the_process_with_one_line(tmp_path: Path) -> None:
    """Before it connects to anything, with the exit code of a bad configuration."""
    (tmp_path / "poet.toml").write_text('description = "d"\nsystem = "s"\nmax_token = 5\n')
    env = {**os.environ, "ORCHESTRA_SECRET": "s" * 32, "AGENTS_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "workers"]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert (78, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert "poet.toml: max_token: " in ended.stderr

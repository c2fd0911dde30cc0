"""Promises of workers/__main__.py."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from orchestra.files.marker import ForeignHomeError, UnmarkedHomeError
from tests.support.tree import ROOT
from workers import __main__ as main
from workers.__main__ import _leaves, _show
from workers.metrics import Metrics
from workers.settings import WorkerSettings


def test_the_log_names_what_failed_and_not_the_group_that_it_came_in() -> None:
    """Errors inside nested groups are logged one by one, in their order."""
    first, second, third = ValueError("a"), KeyError("b"), OSError("c")
    nested = ExceptionGroup("outer", [first, ExceptionGroup("inner", [second]), third])

    assert [first, second, third] == _leaves(nested)
    assert [first] == _leaves(first)


def test_a_bad_agent_ends_the_process_with_one_line(tmp_path: Path) -> None:
    """A bad agent ends the process with one line and exit code 78 before it connects to anything."""
    (tmp_path / "poet.toml").write_text('description = "d"\nsystem = "s"\nmax_token = 5\n')
    env = {**os.environ, "ORCHESTRA_SECRET": "s" * 32, "AGENTS_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "workers"]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert (78, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert "poet.toml: max_token: " in ended.stderr


@pytest.mark.parametrize("error", [UnmarkedHomeError, ForeignHomeError])
def test_a_folder_that_no_gateway_of_ours_has_marked_ends_the_process(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker that has another folder of files or secret than the gateways ends with one line and exit code 78."""

    async def serve(_settings: WorkerSettings) -> bool:
        raise error

    monkeypatch.setenv("ORCHESTRA_SECRET", "s" * 32)
    monkeypatch.setattr(main, "_serve", serve)
    monkeypatch.setattr(main, "configure_logging", lambda *_: None)

    with pytest.raises(SystemExit) as ended:
        main.main()

    assert 78 == ended.value.code
    assert "FILES_URL" in capsys.readouterr().err
    assert 1 == len(str(error()).splitlines())


def shown(**values: Any) -> list[dict[str, Any]]:
    """The log of a worker that serves its metrics."""
    settings = WorkerSettings.model_validate({"orchestra_secret": "s" * 32, **values})
    with structlog.testing.capture_logs() as lines:
        _show(Metrics(), settings)
    return list(lines)


def test_metrics_are_served_by_default_and_only_here() -> None:
    """Metrics are served by default on a fixed port of the loopback address."""
    settings = WorkerSettings.model_validate({"orchestra_secret": "s" * 32})

    assert ("127.0.0.1", 9464) == (settings.metrics_host, settings.metrics_port)


def test_metrics_are_served_where_the_settings_say() -> None:
    """Port 0 takes any free port, and the log names it."""
    (line,) = shown(metrics_host="127.0.0.2", metrics_port=0)
    page = httpx.get(f"http://127.0.0.2:{line['port']}/metrics", trust_env=False).raise_for_status().text

    assert "metrics_served" == line["event"]
    assert "orchestra_worker_in_flight 0.0" in page


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_a_port_that_is_taken_is_no_reason_not_to_work(host: str) -> None:
    """Without a usable address for metrics the worker warns and works without them."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (line,) = shown(metrics_host=host, metrics_port=taken.getsockname()[1])

    assert ("metrics_not_served", "warning") == (line["event"], line["log_level"])


def test_a_bug_ends_the_process_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug ends the process with exit code 1 after the drain; a normal stop ends it with 0."""

    class Running:
        def __init__(self, *, failed: bool) -> None:
            self.failed = failed

        def stop(self) -> None: ...

        async def run(self) -> None: ...

    monkeypatch.setenv("ORCHESTRA_SECRET", "s" * 32)
    monkeypatch.setenv("METRICS_PORT", "0")
    monkeypatch.setattr(main, "configure_logging", lambda *_: None)
    monkeypatch.setattr(main, "look_for_garbage_rarely", lambda: None)
    for failed, code in ((True, 1), (False, 0)):

        @asynccontextmanager
        async def worker(*_: object, failed: bool = failed) -> AsyncIterator[Running]:
            yield Running(failed=failed)

        monkeypatch.setattr(main, "worker", worker)
        with pytest.raises(SystemExit) as ended:
            main.main()
        assert code == ended.value.code

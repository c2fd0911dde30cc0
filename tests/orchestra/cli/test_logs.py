"""`orchestra logs` on the logs of a folder."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestra.cli import logs as module
from orchestra.cli.logs import Reader, readable
from orchestra.cli.main import build
from orchestra.cli.terminal import echo

WORKER = [
    {"service": "worker", "event": "worker_ready", "level": "info", "timestamp": "2026-01-31T12:00:01.500Z"},
    {"service": "worker", "event": "turn_failed", "level": "warning", "timestamp": "2026-01-31T12:00:05Z",
     "code": "auth", "seconds": 0.25, "outcome": "not tried again"},
]  # fmt: skip
LOGS = {
    "worker-1": "".join(f"{json.dumps(line)}\n" for line in WORKER),
    "worker-2": json.dumps(WORKER[0] | {"timestamp": "2026-01-31T12:00:09Z"}) + "\n",
    "kafka": "2026-01-31T14:00:02.000+02:00 [main] WARN kafka.Server - slow\n\tat kafka.Server.start\n",
    "postgres": "2026-01-31 12:00:03.000 UTC [7] LOG:  ready\n2026-01-31 12:00:04.000 UTC [7] FATAL:  no role\n",
    "model": "2026-01-31T12:00:00.000+00:00 smollm2 on 1\n0.00.1 W srv: odd\n0.00.2 I srv: fine\n",
}


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def run(tmp_path: Path, utc: None) -> Callable[..., Result]:
    (tmp_path / "logs").mkdir()
    for part, text in LOGS.items():
        (tmp_path / "logs" / f"{part}.log").write_text(text)
    return lambda *words: CliRunner().invoke(build(), ["logs", *words, "--data", str(tmp_path)])


def test_all_parts_in_the_order_of_time(run: Callable[..., Result]) -> None:
    """The lines of all parts are in the order of their times; a line without a time follows the one before it."""
    lines = run().stdout.splitlines()

    assert [line.split()[:2] for line in lines] == [
        ["12:00:00.000", "model"], ["12:00:00.000", "model"], ["12:00:00.000", "model"],
        ["12:00:01.500", "worker-1"], ["12:00:02.000", "kafka"], ["12:00:02.000", "kafka"],
        ["12:00:03.000", "postgres"], ["12:00:04.000", "postgres"], ["12:00:05.000", "worker-1"],
        ["12:00:09.000", "worker-2"],
    ]  # fmt: skip
    assert lines[8].split(maxsplit=2)[2] == 'warning  turn_failed code=auth seconds=0.25 outcome="not tried again"'


@pytest.mark.parametrize(
    ("level", "count"), [("debug", 10), ("info", 10), ("warning", 5), ("error", 1), ("critical", 1)]
)
def test_only_what_is_grave(run: Callable[..., Result], level: str, count: int) -> None:
    """`--level` hides what is less grave, of parts that are not ours too; a stack trace stays with its line."""
    lines = run("--level", level).stdout.splitlines()

    assert len(lines) == count
    assert level != "warning" or ["model", "kafka", "kafka", "postgres", "worker-1"] == [x.split()[1] for x in lines]


def test_programs_get_the_lines_as_they_are(run: Callable[..., Result]) -> None:
    """With `--json` each line is as it was logged, of one part and of several."""
    assert [json.loads(line) for line in run("worker-1", "--json").stdout.splitlines()] == WORKER
    assert sorted(run("--json").stdout.splitlines()) == sorted("".join(LOGS.values()).splitlines())


@pytest.mark.parametrize("word", ["worker", "workers"])
def test_all_parts_of_a_kind(run: Callable[..., Result], word: str) -> None:
    """The name of a kind shows all its parts, and no others."""
    assert {line.split()[1] for line in run(word).stdout.splitlines()} == {"worker-1", "worker-2"}


@pytest.mark.parametrize(("word", "meant"), [("workr-2", "worker-2"), ("wroker", "worker"), ("postgers", "postgres")])
def test_a_part_that_is_not_there(run: Callable[..., Result], word: str, meant: str) -> None:
    """An unknown part is reported with the nearest name and a list of those that there are."""
    done = run(word)

    assert (done.exit_code, done.stdout) == (1, "")
    assert f"Did you mean {meant}?" in done.stderr
    assert "kafka, model, postgres, worker-1, worker-2" in done.stderr


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\r"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, character: str) -> None:
    """Characters that end a line elsewhere are a part of the line that they are logged in."""
    text = json.dumps(WORKER[0] | {"event": f"a{character}b"}, ensure_ascii=False)
    plain = f"one{character}line"
    (tmp_path / "worker-1.log").write_bytes(f"{text}\n{plain}\n".encode())
    ours, other = Reader("worker-1", tmp_path / "worker-1.log").new_lines()

    assert (ours.fields or {})["event"] == f"a{character}b"
    assert other.text == plain


def test_a_log_gives_the_terminal_no_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of a log do not reach the terminal."""
    lines = [json.dumps(WORKER[0] | {"event": "a\x1b[2J", "code": "b\x1b[2J"}), "c\x1b[2J"]
    (tmp_path / "worker-1.log").write_text("".join(f"{line}\n" for line in lines))
    for line in Reader("worker-1", tmp_path / "worker-1.log").new_lines():
        echo(*readable(line))
    shown = capsys.readouterr().out

    assert (2, False) == (len(shown.splitlines()), "\x1b" in shown)


def test_a_log_is_read_on(tmp_path: Path) -> None:
    """Added lines are read once and whole; a rotated log is read from its start; one that is gone has no new lines."""
    log = tmp_path / "model.log"
    reader = Reader("model", log)
    assert reader.new_lines() == []
    log.write_text("one\ntwo")
    first = [line.text for line in reader.new_lines()]
    log.write_text("one\ntwo more\n\n")
    second = [line.text for line in reader.new_lines()]
    log.write_text("new\n")
    third = [line.text for line in reader.new_lines()]
    log.unlink()

    assert (first, second, third, reader.new_lines()) == (["one"], ["two more", ""], ["new"], [])


def test_of_a_large_log_only_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning of a large log is not read, and no half line of it is shown."""
    monkeypatch.setattr(module, "_MAX_BYTES", 10)
    (tmp_path / "model.log").write_text("a long first line\nsecond\n3\n")

    assert [line.text for line in Reader("model", tmp_path / "model.log").new_lines()] == ["second", "3"]


def test_a_terminal_shows_colours(tmp_path: Path) -> None:
    """On a terminal the level has a colour."""
    (tmp_path / "worker-1.log").write_text(LOGS["worker-1"])
    line = Reader("worker-1", tmp_path / "worker-1.log").new_lines()[1]

    assert "\x1b[33mwarning" in "".join(map(str, readable(line)))

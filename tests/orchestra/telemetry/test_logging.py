"""Promises of orchestra/telemetry/logging.py: what is logged, and what never is."""

import asyncio
import gc
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from orchestra.telemetry.logging import FIELDS, Repeats, configure_logging
from tests.support.tree import ROOT

CANARY = "canary-7d1f"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """What has been logged so far, line by line; logging is as before afterwards."""
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    configure_logging("service", "info")
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:], root.level = handlers, level
    structlog.configure(**config)


def raised() -> ValueError:
    """An error with secret text, raised from a line that a log may name."""
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        return error


def test_a_line_is_json_with_time_level_and_service(lines: Lines) -> None:
    """One object a line, so that machines can read it."""
    structlog.get_logger().info("something_happened", count=3, request_id="r")

    (line,) = lines()
    assert ("something_happened", 3, "r") == (line["event"], line["count"], line["request_id"])
    assert ("info", "service") == (line["level"], line["service"])
    assert line["timestamp"].endswith("Z")


def test_only_named_fields_are_logged(lines: Lines) -> None:
    """A field that is not on the list is left out, from any code and in any form."""
    structlog.contextvars.bind_contextvars(prompt=CANARY)
    structlog.get_logger().bind(reply=CANARY).warning("event", body=CANARY, password=CANARY, url=CANARY, code="x")
    structlog.contextvars.clear_contextvars()

    (line,) = lines()
    assert CANARY not in json.dumps(line)
    assert "x" == line["code"]
    assert set(line) <= FIELDS


def test_the_list_names_nothing_that_a_caller_sends() -> None:
    """Bodies, texts, credentials and addresses with either are not on it."""
    assert not FIELDS & set(
        "body prompt reply text content message messages password token secret url key headers".split()
    )


@pytest.mark.parametrize("how", ["error", "true", "tuple"])
def test_an_exception_is_its_name_and_place(lines: Lines, how: str) -> None:
    """Not its text, which may hold anything."""
    error = raised()
    infos: dict[str, Any] = {"error": error, "tuple": (type(error), error, error.__traceback__)}
    try:
        raise error
    except ValueError:
        structlog.get_logger().error("failed", exc_info=infos.get(how, True))

    (line,) = lines()
    assert line["exception"].startswith("ValueError at test_logging.py:")
    assert CANARY not in json.dumps(line)


def test_libraries_log_in_the_same_form(lines: Lines) -> None:
    """From warning on, as JSON, without the text or the trace of an exception, without fields of their own."""
    library = logging.getLogger("some.library")
    library.info("chatter")
    try:
        raise raised()
    except ValueError:
        library.exception("it broke after %d tries", 3, extra={"prompt": CANARY})

    (line,) = lines()
    assert ("it broke after 3 tries", "some.library", "service") == (line["event"], line["logger"], line["service"])
    assert line["exception"].startswith("ValueError at ")
    assert CANARY not in json.dumps(line)


async def test_a_forgotten_task_is_logged_without_its_text(lines: Lines) -> None:
    """asyncio reports errors that were never retrieved; the exceptions' texts in those reports are secret too."""

    async def fail() -> None:
        raise ValueError(CANARY)

    gc.collect()  # What other tests forgot is reported now, and is not this test's.
    earlier = len(lines())
    loop = asyncio.get_running_loop()
    task = loop.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()

    (line,) = lines()[earlier:]
    assert "ValueError" in line["exception"]
    assert CANARY not in json.dumps(line)


def test_the_level_is_respected(lines: Lines) -> None:
    """What is below it is not written."""
    structlog.get_logger().debug("detail")

    assert lines() == []


def test_the_same_line_over_and_over_is_written_every_few_seconds(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first at once, then one each five seconds, which tells how many were left out."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    for _ in range(58):
        structlog.get_logger().warning("kafka_connect_failed", error="KafkaConnectionError")
    now += 5
    for _ in range(2):
        structlog.get_logger().warning("kafka_connect_failed", error="KafkaConnectionError")

    assert [None, 57] == [line.get("repeated") for line in lines()]


def test_a_library_that_repeats_itself_is_held_back_by_its_template(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the numbers and addresses in its messages are."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    library = logging.getLogger("aiokafka.client")
    for port in range(9000, 9057):
        library.error("Unable connect to node with id %s: %s", port, "refused")
    library.error("Topic %s is not available", "t")
    now += 5
    library.error("Unable connect to node with id %s: %s", 9057, "refused")

    assert [
        ("Unable connect to node with id 9000: refused", None),
        ("Topic t is not available", None),
        ("Unable connect to node with id 9057: refused", 56),
    ] == [(line["event"], line.get("repeated")) for line in lines()]


def test_lines_about_different_things_are_all_written(lines: Lines) -> None:
    """Of two requests, with two codes, of two levels, or of two errors; and whatever is no warning."""
    ours, theirs = structlog.get_logger(), logging.getLogger("some.library")
    for id in ("a", "b"):
        ours.error("attempt_crashed", request_id=id, code="internal")
    ours.error("attempt_crashed", request_id="a", code="timeout")
    ours.warning("attempt_crashed", request_id="a", code="internal")
    for _ in range(3):
        ours.info("news")
    for error in (ValueError(), KeyError()):
        theirs.error("it broke", exc_info=error)

    assert 4 + 3 + 2 == len(lines())


def test_what_was_said_is_not_remembered_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of different lines costs no memory, and what is over is forgotten."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    repeats = Repeats()
    assert [0] * 5_000 == [repeats.left_out(number) for number in range(5_000)]
    assert 1_000 == len(repeats._seen)
    now += 5
    assert [0, None] == [repeats.left_out("later"), repeats.left_out("later")]
    assert 1 == len(repeats._seen)


SPEAKS_ONCE_AND_WORKS_ON = """
import logging, sys, structlog
from orchestra.telemetry.logging import configure_logging
configure_logging("service")
structlog.get_logger().info("ready")
structlog.get_logger().error("failed", exc_info=ValueError())
logging.getLogger("library").error("broke")
print("worked on")
"""


@pytest.mark.parametrize("stderr", ["/dev/full", "closed pipe", "closed"])
def test_a_line_that_cannot_be_written_fails_nothing(stderr: str) -> None:
    """A full disk, a pipe without a reader, no stderr at all: the line is lost, the work goes on."""
    command = [sys.executable, "-c", SPEAKS_ONCE_AND_WORKS_ON]
    if stderr == "closed":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    nobody_reads = os.open("/dev/full", os.O_WRONLY)
    if stderr == "closed pipe":
        reading, nobody_reads = os.pipe()
        os.close(reading)
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=nobody_reads, text=True, check=False)
    os.close(nobody_reads)

    assert (0, "worked on\n") == (ended.returncode, ended.stdout)

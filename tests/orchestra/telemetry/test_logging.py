"""Promises of orchestra/telemetry/logging.py: what is logged, and what never is."""

import asyncio
import gc
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from orchestra.telemetry.logging import FIELDS, configure_logging

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
    """An error whose text holds what nobody may see, from a place that has a line."""
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
    """What is not on the list is left out, whoever passes it on and however."""
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
    """asyncio tells of errors that nobody looked at; what it says of them is theirs too."""

    async def fail() -> None:
        raise ValueError(CANARY)

    loop = asyncio.get_running_loop()
    task = loop.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()

    (line,) = lines()
    assert "ValueError" in line["exception"]
    assert CANARY not in json.dumps(line)


def test_the_level_is_respected(lines: Lines) -> None:
    """What is below it is not written."""
    structlog.get_logger().debug("detail")

    assert lines() == []

"""``orchestra logs``: the logs of all parts, merged by time."""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.cli.terminal import Styled, echo, hand_over
from orchestra.devstack.folder import DataFolder

_LINES = 200
_POLL_SECONDS = 0.2
# Only the end of each log is read, at most this much.
_MAX_BYTES = 1024 * 1024
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_COLOURS = {"debug": "blue", "info": "green", "warning": "yellow", "error": "red", "critical": "red"}
# Names of levels in the logs of Kafka, Postgres, llama.cpp and uvicorn.
_LEVELS = {
    **dict.fromkeys(("DEBUG", "D", "TRACE"), "debug"),
    **dict.fromkeys(("INFO", "I", "LOG", "NOTICE"), "info"),
    **dict.fromkeys(("WARN", "WARNING", "W"), "warning"),
    **dict.fromkeys(("ERROR", "E"), "error"),
    **dict.fromkeys(("FATAL", "PANIC", "CRITICAL"), "critical"),
}
_PLAIN = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?)(?P<zone> ?(?:UTC|Z|[+-]\d\d:\d\d))"
    rf"(?: \[[^\]]*\])? *(?:(?P<level>{'|'.join(_LEVELS)})\b)?"
)
_LLAMA = re.compile(r"[\d.]+ ([DIWE]) ")


class Level(StrEnum):
    """Severity of a log line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Line:
    """One line of a log. ``fields``: its JSON, if one of our services wrote it."""

    time: datetime
    part: str
    level: Level
    text: str
    fields: dict[str, Any] | None = None


def logs(
    part: Annotated[
        str | None,
        typer.Argument(help="kafka, postgres, model, llm, worker-1, …, or a kind such as worker. Default: all parts."),
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines until Ctrl-C.")] = False,
    level: Annotated[Level, typer.Option(help="Minimum level.")] = Level.DEBUG,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: print the lines as logged.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show the last 200 log lines of all parts, merged by time.

    Times are in this machine's time zone. A line without a time stays after the line before it.
    """
    folder = DataFolder.at(data)
    readers: dict[str, Reader] = {}
    shown = _LINES
    try:
        while True:
            for name in _chosen(folder, part):
                readers.setdefault(name, Reader(name, folder.log(name)))
            lines = sorted((line for each in readers.values() for line in each.new_lines()), key=lambda line: line.time)
            for line in [each for each in lines if _grave(each.level) >= _grave(level)][-shown:]:
                if as_json:
                    hand_over(line.text)
                else:
                    echo(*readable(line))
            if not follow:
                return
            shown = sys.maxsize
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        return


def _chosen(folder: DataFolder, part: str | None) -> list[str]:
    """The parts to show, as names of their logs."""
    present = sorted(path.stem for path in folder.logs.glob("*.log"))
    if not present:
        raise fail(f"{folder.logs} has no logs")
    kinds = {name.rpartition("-")[0] for name in present} - {""}
    wanted = part.removesuffix("s") if part and part.removesuffix("s") in kinds else part
    chosen = [name for name in present if wanted in (None, name, name.rpartition("-")[0])]
    if not chosen:
        close = get_close_matches(str(part), [*present, *kinds], 1)
        meant = f"Did you mean {close[0]}? " if close else ""
        raise fail(f"no part is called {part}. {meant}Parts: {', '.join(present)}")
    return chosen


class Reader:
    """Reads the log of one part, continuing where the last call stopped."""

    def __init__(self, part: str, path: Path) -> None:
        self._part = part
        self._path = path
        self._offset: int | None = None
        self._last = Line(_BEGINNING, part, Level.INFO, "")

    def new_lines(self) -> list[Line]:
        """The complete lines logged since the last call; on the first call, those at the end of the log."""
        with suppress(FileNotFoundError):
            with self._path.open("rb") as log:
                size = log.seek(0, 2)
                first = self._offset is None
                # A log that is shorter than before was rotated.
                start = max(0, size - _MAX_BYTES) if self._offset is None else self._offset
                start = start if start <= size else 0
                log.seek(start)
                whole = log.read(size - start).rpartition(b"\n")[0]
            self._offset = start + len(whole) + 1 if whole else start
            # Only a line feed ends a line; other Unicode line breaks belong to the text.
            lines = whole.split(b"\n") if whole else []
            return [self._line(line) for line in (lines[1:] if first and start else lines)]
        return []

    def _line(self, raw: bytes) -> Line:
        text = raw.decode(errors="replace").removesuffix("\r")
        self._last = _ours(text, self._part) or _plain(text, self._last)
        return self._last


def _ours(text: str, part: str) -> Line | None:
    try:
        fields = json.loads(text)
        told = datetime.fromisoformat(fields["timestamp"])
        level = Level(fields["level"])
    except (ValueError, TypeError, KeyError):
        return None
    return Line(told if told.tzinfo else told.replace(tzinfo=UTC), part, level, text, fields)


def _plain(text: str, before: Line) -> Line:
    """A line of a part that is not ours. What it lacks is taken from the line before."""
    if found := _PLAIN.match(text):
        zone = found["zone"].strip().replace("UTC", "+00:00").replace("Z", "+00:00")
        with suppress(ValueError):
            told = datetime.fromisoformat(found["time"].replace(" ", "T") + zone)
            return Line(told, before.part, Level(_LEVELS.get(found["level"] or "INFO", "info")), text)
    llama = _LLAMA.match(text)
    return Line(before.time, before.part, Level(_LEVELS[llama[1]]) if llama else before.level, text)


def readable(line: Line) -> Iterator[str | Styled]:
    """The line for a person: time, part, level, event, fields. A line that is not ours is shown as it is."""
    told = line.time.astimezone().strftime("%H:%M:%S.%f")[:-3] if line.time != _BEGINNING else "-"
    yield from (Styled(f"{told:<12}", dim=True), " ", Styled(f"{line.part:<11}", bold=True), " ")
    if line.fields is None:
        yield Styled(line.text, dim=True)
        return
    yield from (Styled(f"{line.level:<8}", fg=_COLOURS[line.level]), " ", str(line.fields.get("event", "")))
    for name, value in line.fields.items():
        if name not in ("timestamp", "level", "event", "service"):
            yield from (" ", Styled(name, dim=True), f"={_value(value)}")


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if text and " " not in text else json.dumps(text, ensure_ascii=False)


def _grave(level: Level) -> int:
    return list(Level).index(level)

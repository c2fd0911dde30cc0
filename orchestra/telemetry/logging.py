"""Structured logs: one JSON object per line on stderr, with fields from an allow-list."""

import logging
import sys
import time
from collections.abc import Hashable
from contextlib import suppress
from typing import TextIO, cast

import structlog

# Never in a log: bodies, prompts, replies, query strings, credentials. Only these fields are written.
FIELDS = frozenset(
    "event level logger timestamp service request_id conversation_id tenant topic partition offset offsets records "
    "reason code status attempt tries fence worker_id pid part port address count seconds method route exception "
    "error outcome model provider provider_code signal state version deadline lag missing caller repeated actor "
    "action target trace_id setting meant".split()
)
# A repeated line, for example while Kafka is down, would fill the disk: it is written once per this many seconds.
REPEAT_SECONDS = 5.0
_MAX_REMEMBERED = 1_000
# Fields that may differ between two lines with the same meaning.
_MEASURED = frozenset(("timestamp", "seconds"))


class Repeats:
    """Decides which lines are written: for each key the first one, then one every ``REPEAT_SECONDS``.

    Memory is bounded: with more than 1,000 keys in that time, further lines are all written.
    """

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def left_out(self, key: Hashable) -> int | None:
        """How many lines with this key were left out before this one; None if this one is to be left out as well."""
        now = time.monotonic()
        written, count = self._seen.get(key, (now - REPEAT_SECONDS, 0))
        if now - written < REPEAT_SECONDS:
            self._seen[key] = written, count + 1
            return None
        if len(self._seen) >= _MAX_REMEMBERED:
            self._seen = {each: kept for each, kept in self._seen.items() if now - kept[0] < REPEAT_SECONDS}
        if len(self._seen) < _MAX_REMEMBERED:
            self._seen[key] = now, 0
        return count


def _allowed_only(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: value for key, value in entry.items() if key in FIELDS}


def _exception_name(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # The text of an exception may contain a caller's data or a URL with a password; its type and location do not.
    info = entry.pop("exc_info", None)
    if info:
        error = sys.exc_info()[1] if info is True else info
        if isinstance(error, tuple):
            error = error[1]
        if isinstance(error, BaseException):
            frame = error.__traceback__
            while frame and frame.tb_next:
                frame = frame.tb_next
            place = f" at {frame.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.tb_lineno}" if frame else ""
            entry["exception"] = f"{type(error).__name__}{place}"
    return entry


def _first_line(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # In further lines asyncio and aiohttp describe their objects, including the text of exceptions.
    entry["event"] = str(entry["event"]).partition("\n")[0]
    return entry


class _Unfailing:
    """A stream on which a line that cannot be written (full disk, closed pipe) is dropped, with no other effect."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream  # None: the process was started without one.

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: the stream was closed in the meantime.
            if self._stream:
                self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            if self._stream:
                self._stream.flush()


class _OurRepeats:
    """Drops repeated warnings and errors: same event, same fields."""

    def __init__(self) -> None:
        self._repeats = Repeats()

    def __call__(self, _logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if entry["level"] in ("debug", "info"):
            return entry
        key = tuple((name, str(value)) for name, value in entry.items() if name not in _MEASURED)
        left_out = self._repeats.left_out(key)
        if left_out is None:
            raise structlog.DropEvent
        return {**entry, "repeated": left_out} if left_out else entry


class _LibrariesRepeats(logging.Filter):
    """The same for libraries, whose messages differ in numbers and addresses: one template counts as one message."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats = Repeats()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info and record.exc_info[0]
        left_out = self._repeats.left_out((record.name, record.levelno, str(record.msg), error))
        record.repeated = left_out
        return left_out is not None


def _with_repeated(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    repeated = entry["_record"].repeated
    return {**entry, "repeated": repeated} if repeated else entry


def configure_logging(service: str, level: str = "info") -> None:
    """Send structlog and the standard library's logs to stderr as JSON lines.

    ``level`` is the minimum level; libraries log from ``warning``. A repeated warning or error is written at most every
    five seconds, with the number of lines left out (``repeated``). A line that cannot be written is dropped; it never
    fails the work that it reports.
    """
    stream = _Unfailing(sys.stderr)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_name,
    ]
    structlog.configure(
        processors=[
            *shared,
            _with_service(service),
            _allowed_only,
            _OurRepeats(),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, stream)),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _first_line, _with_repeated, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _with_service(service),
            _allowed_only,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(_LibrariesRepeats())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # At each start it logs errors that are harmless, and it recovers from all others by itself.
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.CRITICAL)


def _with_service(service: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"service": service, **entry}

    return add

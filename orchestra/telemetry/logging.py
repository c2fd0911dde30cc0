"""Structured logs: one JSON object a line on stderr, from an allow-list of fields."""

import logging
import sys

import structlog

# Never in a log: bodies, prompts, replies, query strings, credentials. What may be there is named here.
FIELDS = frozenset(
    "event level logger timestamp service request_id conversation_id tenant topic partition offset offsets records "
    "reason code status attempt tries fence worker_id pid part port address count seconds method route exception "
    "error outcome model provider provider_code signal state version deadline lag missing caller".split()
)


def _allowed_only(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: value for key, value in entry.items() if key in FIELDS}


def _exception_name(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # The text of an exception may hold a caller's data or a URL with a password; its type and place do not.
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
    # In the lines behind it asyncio and aiohttp describe their objects, and with them the text of exceptions.
    entry["event"] = str(entry["event"]).partition("\n")[0]
    return entry


def configure_logging(service: str, level: str = "info") -> None:
    """Send structlog and the standard library's logs to stderr as JSON lines.

    ``level`` is the least level shown; libraries speak from ``warning`` on.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_name,
    ]
    structlog.configure(
        processors=[*shared, _with_service(service), _allowed_only, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _first_line, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _with_service(service),
            _allowed_only,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # At each start it reports errors that are none, and mends by itself whatever else befalls it.
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.CRITICAL)


def _with_service(service: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"service": service, **entry}

    return add

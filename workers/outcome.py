"""The outcome of an attempt as a value, matched once in `turn.py`."""

from dataclasses import dataclass

from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage


@dataclass(frozen=True)
class Completed:
    """The model finished its answer or reached the token limit (``length``)."""

    text: str
    usage: Usage
    finish_reason: FinishReason


@dataclass(frozen=True)
class RetryLater:
    """Another attempt in ``delay`` seconds. ``give_try_back``: this attempt does not use up a try."""

    delay: float
    give_try_back: bool
    code: ErrorCode
    detail: str


@dataclass(frozen=True)
class Failed:
    """No further attempt can help, or no tries are left."""

    code: ErrorCode
    detail: str


@dataclass(frozen=True)
class Cancelled:
    """The request was cancelled by a client or together with its conversation."""


@dataclass(frozen=True)
class Expired:
    """The deadline passed, or the next attempt would start after it; then ``error`` is why this one failed."""

    error: tuple[ErrorCode, str] | None = None


@dataclass(frozen=True)
class Interrupted:
    """This worker is shutting down. The turn goes back as if it had not been claimed."""


@dataclass(frozen=True)
class LeaseLost:
    """Another worker may have the turn by now, so nothing is written."""


Stop = Cancelled | Interrupted | LeaseLost
"""Why a turn is stopped from outside."""

Outcome = Completed | RetryLater | Failed | Expired | Stop

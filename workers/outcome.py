"""How an attempt ends: a value, matched once in `turn.py`."""

from dataclasses import dataclass

from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage


@dataclass(frozen=True)
class Completed:
    """The model answered to its end, or to the limit of tokens (``length``)."""

    text: str
    usage: Usage
    finish_reason: FinishReason


@dataclass(frozen=True)
class RetryLater:
    """Another attempt in ``delay`` seconds. ``give_try_back``: the model asked to wait, which costs no try."""

    delay: float
    give_try_back: bool
    code: ErrorCode
    detail: str


@dataclass(frozen=True)
class Failed:
    """No further attempt can help, or none is left."""

    code: ErrorCode
    detail: str


@dataclass(frozen=True)
class Cancelled:
    """Somebody asked to stop."""


@dataclass(frozen=True)
class Expired:
    """The deadline passed, or the next attempt would come after it: then ``error`` is why this one failed."""

    error: tuple[ErrorCode, str] | None = None


@dataclass(frozen=True)
class Interrupted:
    """This worker stops. The turn goes back as if it had not been claimed."""


@dataclass(frozen=True)
class LeaseLost:
    """Somebody else has the turn by now. Nothing is to be written."""


Stop = Cancelled | Interrupted | LeaseLost
"""Why a turn is stopped from outside."""

Outcome = Completed | RetryLater | Failed | Expired | Stop

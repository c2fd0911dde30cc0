"""The outcome of an attempt as a value, matched once in `turn.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestra.store.endings import Said
from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage


class Completed(NamedTuple):  # Cheaper to make than a dataclass, and most attempts end so.
    """The model finished its answer or reached the token limit (``length``).

    ``said``: the messages of the request to store. ``output``: the items of the answer, if it is more than one text.
    ``state``: the provider's data, to be returned to it with this answer.
    """

    text: str
    usage: Usage
    finish_reason: FinishReason
    said: Sequence[Said]
    output: list[dict[str, Any]] | None = None
    state: dict[str, Any] | None = None


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

"""Progress of a stack that starts or stops; the command line shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Step = Literal["waiting", "downloading", "starting", "ready", "restarting", "stopping", "stopped", "failed", "note"]


@dataclass(frozen=True)
class StartProgress:
    """One event of one part. ``done`` and ``total`` count files during a download."""

    part: str
    step: Step
    detail: str = ""
    done: int = 0
    total: int = 0


Report = Callable[[StartProgress], None]

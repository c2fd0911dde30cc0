"""What the stack tells while it starts and stops; the command line draws it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Step = Literal["waiting", "downloading", "starting", "ready", "restarting", "stopping", "stopped", "failed", "note"]


@dataclass(frozen=True)
class Progress:
    """One thing that happened to one part. ``done`` and ``total`` count files while something downloads."""

    part: str
    step: Step
    detail: str = ""
    done: int = 0
    total: int = 0


Report = Callable[[Progress], None]

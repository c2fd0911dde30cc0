"""The states of a request and the legal moves between them."""

from enum import StrEnum


class Status(StrEnum):
    """Where a request stands, as everybody outside sees it."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """True for the four endings; an ending never changes."""
        return self in ENDINGS


ENDINGS = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})

# Inside the workers a turn behind another is `waiting`; outsiders see it as pending.
WAITING = "waiting"

# What the trigger in migrations/ enforces; tests hold the two together.
LEGAL_MOVES: dict[str, frozenset[str]] = {
    WAITING: frozenset({"pending", "failed", "cancelled", "expired"}),
    "pending": frozenset({"in_progress", "failed", "cancelled", "expired"}),
    "in_progress": frozenset({"pending", "completed", "failed", "cancelled", "expired"}),
    **{ending: frozenset() for ending in ENDINGS},
}

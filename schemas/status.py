"""The states of a request and the legal moves between them."""

from enum import StrEnum


class Status(StrEnum):
    """The state of a request, as clients see it."""

    # Accepted; it waits for its turn in the conversation, for a worker, or for its next attempt.
    PENDING = "pending"
    # A worker holds its lease and asks the model.
    IN_PROGRESS = "in_progress"
    # Answered: it has a reply.
    COMPLETED = "completed"
    # Given up: it has an error.
    FAILED = "failed"
    # Ended by a client, or with its conversation.
    CANCELLED = "cancelled"
    # Not answered before its deadline.
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """True for the four endings, which never change."""
        return self in ENDINGS


ENDINGS = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})

# Within the workers a turn behind another one is `waiting`; clients see it as pending.
WAITING = "waiting"

# The same moves as in the trigger in migrations/; a test compares the two.
LEGAL_MOVES: dict[str, frozenset[str]] = {
    WAITING: frozenset({"pending", "failed", "cancelled", "expired"}),
    "pending": frozenset({"in_progress", "failed", "cancelled", "expired"}),
    "in_progress": frozenset({"pending", "completed", "failed", "cancelled", "expired"}),
    **{ending: frozenset() for ending in ENDINGS},
}

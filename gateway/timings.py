"""The intervals and time limits of a gateway. Tests pass shorter ones."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Every value is in seconds. The values depend on each other, so none of them is a setting."""

    look_at_limits: float = 1.5
    """Between two looks at how old the queue is, which conversations are full and which models there are."""
    look_for_standstills: float = 5.0
    """Between two looks for topics from which workers read nothing."""
    look_at_files: float = 10.0
    """Between two checks of the home of files."""
    retry_files: float = 1.0
    """Between two such checks while it is unavailable."""
    look_for_row: float = 0.1
    """Between two looks for a row that a worker is about to write or to change."""
    row_of_task: float = 2.0
    """Limit of the wait for the row of a task that is to be removed, or for cancels to reach their tasks."""
    fresh_row: float = 20.0
    """Age up to which the cached row of a key or user is used without a query."""
    stale_row: float = 55.0
    """Age up to which it is used while Postgres is unavailable. A revoked key is refused everywhere after this time."""
    look_with_stale_row: float = 1.0
    """Limit of the query while there is a row that may be used instead."""
    look_without_row: float = 5.0
    """Limit of the query while there is none."""
    ask_again: float = 20.0
    """Between two checks whether the caller of a long call still has access."""
    note_used: float = 60.0
    """Between two statements that store when keys were last used."""
    keep_alive: float = 15.0
    """Between two comments on an idle stream."""
    frame: float = 1.0
    """Between two frames of the live stream."""
    measure: float = 5.0
    """Between two looks for the metrics of the queue, the workers and the topics."""
    retry_cancel: float = 2.0
    """Between two tries to cancel the request of a client that left."""
    look_for_way_in: float = 0.5
    """Between two checks at the start whether any credentials exist."""
    way_in: float = 60.0
    """Limit of the wait for Postgres in that check."""


TIMINGS = Timings()
"""The timings in production."""

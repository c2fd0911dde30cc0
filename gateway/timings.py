"""How long a gateway waits between two looks and remembers what it saw; a test passes shorter times in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Every value is in seconds. They fit each other, so none of them is a setting."""

    look_at_limits: float = 1.5
    """Between two looks at how old the queue is, which conversations are full and which models there are."""
    look_for_standstills: float = 5.0
    """Between two looks for topics that no worker reads."""
    look_at_files: float = 10.0
    """Between two checks of the home of files."""
    retry_files: float = 1.0
    """The same while it is away."""
    look_for_row: float = 0.1
    """Between two looks for a row that a worker is about to write or to change."""
    row_of_task: float = 2.0
    """At most, for the row of a task that is to be removed, or for cancels to reach their tasks."""
    fresh_row: float = 20.0
    """The age up to which the row of a key or user is used without a look."""
    stale_row: float = 55.0
    """The same while Postgres is away. What is revoked is dead everywhere within the longer of these."""
    look_with_stale_row: float = 1.0
    """At most, for a look while there is a row of that age."""
    look_without_row: float = 5.0
    """At most, for a look while there is none."""
    ask_again: float = 20.0
    """Between two checks whether the caller of a call that lasts would still be let in."""
    note_used: float = 60.0
    """Between two statements that keep when keys were last used."""
    keep_alive: float = 15.0
    """Between two comments on a stream on which nothing happens."""
    frame: float = 1.0
    """Between two frames of the live stream."""
    measure: float = 5.0
    """Between two looks for the metrics of the queue, the workers and the topics."""
    retry_cancel: float = 2.0
    """Between two tries to cancel the request of a client that left."""
    look_for_way_in: float = 0.5
    """Between two checks at the start whether any credentials exist."""
    way_in: float = 60.0
    """At most, for Postgres to answer that question."""


TIMINGS = Timings()
"""Those of every gateway that is no test's."""

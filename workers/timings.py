"""How long a worker waits between two looks, tries and reports; a test passes shorter waits in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Every value is in seconds. They fit each other, so none of them is a setting."""

    renew: float = 3.0
    """Between two renewals of the lease, which holds for 15 s."""
    retry_database: float = 1.0
    """Before the lease is taken, or endings are written, again when Postgres was away; half of it more or less."""
    look_for_turns: float = 0.1
    """Until free slots look for turns though nothing said that there are some; half of it more or less."""
    look_at_held: float = 0.25
    """Between two looks at turns whose model is held back."""
    look_for_credentials: float = 2.0
    """Between two looks whether anybody has credentials, so that shares are to be kept."""
    refresh_models: float = 30.0
    """Between two refreshes of the table of models."""
    retry_models: float = 1.0
    """Before the next refresh after one that failed."""
    connect: float = 5.0
    """At most, for a connection to the LLM service."""
    silence: float = 60.0
    """At most, without a byte from the LLM service."""
    attempt: float = 600.0
    """At most, for a whole answer."""
    gather: float = 0.015
    """For pieces of text to become one event."""
    quiet: float = 2.0
    """Before an attempt says anything of itself while somebody waits for the whole answer."""
    mark: float = 0.2
    """Between two statements that mark replies as published."""
    sweep: float = 2.0
    """Between two sweeps; five times as long between two looks at how much is open."""
    unpublished: float = 5.0
    """The age at which a reply that nobody marked as published is published again."""
    count_bytes: float = 60.0
    """Between two estimates of how much each owner has stored."""
    retention: float = 3600.0
    """Between two deletions of what has had its time."""
    flush: float = 5.0
    """At most, for what a worker that stops still owes, each part by itself."""


TIMINGS = Timings()
"""Those of every worker that is no test's."""

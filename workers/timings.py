"""The intervals and time limits of a worker. Tests pass shorter ones."""

from dataclasses import dataclass

from orchestra.store.erasures import SETTLES_SECONDS


@dataclass(frozen=True)
class Timings:
    """Every value is in seconds. The values depend on each other, so none of them is a setting."""

    renew: float = 3.0
    """Between two renewals of the lease, which is valid for 15 s."""
    retry_database: float = 1.0
    """Before a database operation is retried after an outage of Postgres; with ±50 % jitter."""
    look_for_turns: float = 0.1
    """Before free slots look for turns without having been woken; doubled after each look that finds none."""
    max_look_for_turns: float = 1.0
    """The longest time between two such looks."""
    look_at_held: float = 0.25
    """Between two looks at turns whose model is held back, while there is such a model."""
    look_for_credentials: float = 2.0
    """Between two checks whether credentials exist, so that shares apply."""
    look_for_pauses: float = 2.0
    """Between two looks for what operators have paused."""
    refresh_models: float = 30.0
    """Between two refreshes of the table of models."""
    retry_models: float = 1.0
    """Before the next refresh after one that failed."""
    connect: float = 5.0
    """Limit for connecting to the LLM service."""
    silence: float = 60.0
    """Limit for the time without a byte from the LLM service."""
    attempt: float = 600.0
    """Limit for a whole answer."""
    gather: float = 0.03
    """For which the text of all attempts is gathered, so that it travels together."""
    quiet: float = 2.0
    """Before the first event of an attempt while a client waits for the whole answer."""
    mark: float = 0.5
    """Between the acknowledgement of a reply by Kafka and the statement that marks it as published."""
    sweep: float = 2.0
    """Between two sweeps; the number of open requests is checked at every fifth interval."""
    unpublished: float = 5.0
    """Age at which a reply that is not marked as published is published again."""
    count_bytes: float = 60.0
    """Between two estimates of each owner's stored bytes."""
    retention: float = 3600.0
    """Between two deletions of rows past their retention time."""
    look_for_unused: float = 300.0
    """Between two checks whether a walk through all conversations is due."""
    walk_conversations: float = 3600.0
    """Between two such walks, by any worker."""
    remove_files: float = 30.0
    """Between two removals of the blobs of deleted and expired files."""
    look_for_orphans: float = 300.0
    """Between two checks whether a walk through all blobs is due."""
    walk_blobs: float = 3600.0
    """Between two such walks, by any worker."""
    erasure_settles: float = SETTLES_SECONDS
    """After which no one adds data of an erased owner any more: credentials are cached for shorter, and statements last
    for shorter."""
    erase_again: float = 5.0
    """Before another walk through everything for an erasure that has found something or is not settled."""
    find_marker: float = 60.0
    """Limit for a new worker to find the marker of a gateway in the folder of files."""
    flush: float = 5.0
    """Limit for each step of writing and publishing what is left when a worker stops."""


TIMINGS = Timings()
"""The timings in production."""

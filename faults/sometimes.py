"""The dangers that a campaign must have met; otherwise it has tested nothing."""

from faults.door import RESTARTED
from faults.index import Index, grouped
from faults.ledger import DOOR_WAYS
from schemas.errors import ErrorCode

NOTED_BY_INJECTORS = ("flood_capped", "bomb_refused", "forged_event_refused", "connection_refused")
COUNTED_ELSEWHERE = (
    "fenced_finish",
    "commit_unknown",
    "redelivery_dropped",
    "rebalance_while_running",
    "kafka_client_error",
    *NOTED_BY_INJECTORS,
)
SOMETIMES = (
    *COUNTED_ELSEWHERE,
    "lease_stolen",
    "duplicate_deduped",
    "half_stream",
    "zombie_frame",
    "restart_sent",
    "resumed_elsewhere",
    "answer_restarted",
    "still_running",
)


def dangers(index: Index) -> dict[str, float]:
    """How often each was met. Those counted elsewhere leave no trace: the campaign counts them while it runs."""
    evidence = index.evidence
    streams = [entry for entry in evidence.entries if entry.what == "stream"]
    return {
        **{name: evidence.counters.get(name, 0) for name in COUNTED_ELSEWHERE},
        "lease_stolen": sum(row.losses for row in evidence.requests),
        "duplicate_deduped": _duplicates(index),
        "half_stream": sum(call.ended == "cut" for call in evidence.calls),
        "zombie_frame": _zombie_frames(index),
        "restart_sent": sum(entry.status == "restart" for entry in streams),
        "resumed_elsewhere": sum(entry.status == "resumed" and entry.code == "other" for entry in streams),
        "answer_restarted": sum(entry.code == RESTARTED for entry in streams),
        "still_running": sum(
            entry.code == ErrorCode.STILL_RUNNING and entry.way in DOOR_WAYS for entry in evidence.entries
        ),
    }


def _duplicates(index: Index) -> int:
    """Records that repeated a request which already had a row from another record."""
    again = (record for record in index.evidence.records if record.kind == "message" and record.subject)
    return sum(
        row.body_hash == record.body_hash and row.place != record.place
        for record in again
        if record.subject and (row := index.row.get(record.subject))
    )


def _zombie_frames(index: Index) -> int:
    """Events of an attempt that came after those of a later attempt."""
    found = 0
    for events in grouped(index.evidence.events, lambda event: event.request_id).values():
        newest = 0
        for event in sorted(events, key=lambda event: event.place):
            found += event.attempt < newest
            newest = max(newest, event.attempt)
    return found

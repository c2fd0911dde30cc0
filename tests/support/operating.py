"""What a busy gateway answers an operator, as JSON: numbers, names and texts of ordinary lengths."""

import asyncio
import json
from typing import Any

from tests.support.scripted_gateway import ScriptedGateway

TIME = "2026-01-31T12:00:00Z"
ID, OTHER = "7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01", "3f9d2c74-51aa-4e0b-b0f7-8c6d1e2a4b90"
WORKER, LOST = "5d0b6a3e-9f0c-4c52-8a0e-2f1f5e7c9b11", "9a1c6a3e-9f0c-4c52-8a0e-2f1f5e7c9b12"
MODEL = "gemini-2.5-flash-lite"
NONE = {"count": 0, "more": False}
TIMES = {"mean": 1.0, "p50": 1.0, "p95": 200.0, "p99": None}

QUEUE: dict[str, Any] = {
    "open": 600, "parked": 0, "runnable": {"count": 500, "more": True}, "delayed": NONE, "waiting": NONE,
    "unread": 0,
    "in_progress": NONE, "oldest_seconds": 3.0,
    "by_priority": [
        {"priority": 5, "runnable": 500, "held": 0, "paused": 0, "delayed": 0, "oldest_seconds": 3.0, "more": True}
    ],
    "by_model": [{"model": MODEL, "runnable": 500, "held": 0, "paused": 0, "delayed": 0, "oldest_seconds": 3.0}],
    "by_both": [
        {"model": MODEL, "runnable": 500, "held": 0, "paused": 0, "delayed": 0, "oldest_seconds": 3.0, "priority": 5}
    ],
    "pauses": [{"model": "paused-one", "reason": "moved", "paused_by": "key:k", "paused_at": TIME, "until": None}],
    "held": [{"model": "gone", "workers": 1, "until": TIME, "code": "auth", "detail": "bad \x1b[2J key"}],
    "head": [
        {"id": ID, "conversation_id": OTHER, "owner": None, "model": MODEL, "priority": 5, "waited_seconds": 3.0,
         "last_error": None}
    ],
}  # fmt: skip
WORKERS: dict[str, Any] = {
    "data": [
        {"id": WORKER, "started_at": TIME, "lease_until": TIME, "alive": True, "drain_requested_at": None,
         "version": "1.2.3", "draining": False, "in_flight": 999, "capacity": 1000,
         "models": [{"model": MODEL, "in_flight": 3, "room": None, "held_until": None, "code": None, "detail": None}],
         "topics": [{"topic": "llm.requests", "partitions": [0, 1, 2]}]},
        {"id": LOST, "started_at": TIME, "lease_until": TIME, "alive": False, "drain_requested_at": None,
         "version": None, "draining": None, "in_flight": None, "capacity": None, "models": None, "topics": None},
    ],
    "more": False,
}  # fmt: skip
TOPICS: dict[str, Any] = {
    "data": [
        {"topic": "llm.requests", "lag": 2, "partitions": [
            {"partition": 7, "start": 0, "end": 9, "read": 7, "lag": 2, "read_up_to": TIME, "last_record_at": TIME}
        ]}
    ]
}  # fmt: skip
STATS: dict[str, Any] = {
    "counted_at": "2026-01-31T12:01:05Z", "step": 600, "data": [
        {"at": TIME, "key": None, "requests": 4, "completed": 3, "failed": 1, "cancelled": 0, "expired": 0,
         "input_tokens": 1000, "output_tokens": 5, "cost": 0.5, "queue_seconds": TIMES, "model_seconds": TIMES}
    ],
}  # fmt: skip
FRAME: dict[str, Any] = {
    "at": TIME, "open": 600, "parked": 0, "runnable": {"count": 500, "more": True}, "delayed": NONE,
    "unread": 0, "in_progress": {"count": 12, "more": False}, "oldest_seconds": 75.0, "held_models": ["gone"],
    "workers": {"alive": 2, "in_flight": 12, "draining": 0, "capacity": 1000},
    "dead_letters": {"count": 3, "more": False},
    "minutes": [
        {"minute": TIME, "completed": 40, "failed": 10, "cancelled": 0, "expired": 0, "input_tokens": 8000,
         "output_tokens": 2100, "cost": 0.31}
    ],
}  # fmt: skip
OWN_FRAME: dict[str, Any] = {"at": TIME, "open": 3, "parked": 1, "oldest_seconds": 2.0}


def told(done: int, next: str | None = None, **skipped: int) -> dict[str, Any]:
    """The answer to a call that acts on many requests."""
    codes = [{"code": code, "count": count} for code, count in skipped.items()]
    matched = done + sum(skipped.values())
    counts = {"matched": matched, "more": next is not None, "done": done}
    return {"scope": "tenant", **counts, "skipped": codes, "next": next}


class Busy:
    """A gateway that answers an operator so. ``frames``: what it streams, from connection to connection."""

    def __init__(self, script: ScriptedGateway) -> None:
        self.script = script
        self.frames: asyncio.Queue[str | None] = asyncio.Queue()
        self.rows = [
            {"id": ID, "status": "failed", "owner": "ada", "priority": 5, "created_at": TIME, "started_at": TIME,
             "finished_at": TIME, "model": "m\x1b[2J\u202eevil\n", "error": {"code": "timeout", "detail": "slow"}},
            {"id": OTHER, "status": "pending", "owner": None, "priority": 7, "created_at": TIME, "model": MODEL},
        ]  # fmt: skip
        script.answers = {
            "GET /v1/live": self.frames, "GET /v1/queue": QUEUE, "GET /v1/workers": WORKERS, "GET /v1/topics": TOPICS,
            "GET /v1/stats": STATS, "GET /v1/requests": lambda _: {"data": self.rows, "next": None, "newest": None},
        }  # fmt: skip
        self.show(FRAME)

    def show(self, frame: dict[str, Any]) -> None:
        """Stream a frame."""
        self.frames.put_nowait(f"event: frame\ndata: {json.dumps(frame)}\n\n")

    def asked(self, method_and_path: str) -> list[Any]:
        """What was sent with each call of a route."""
        return [sent for name, sent in self.script.asked if name == method_and_path]

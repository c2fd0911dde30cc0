"""The calls that each page of the console makes, when it opens and every few seconds; and all filters of its lists."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from random import Random
from typing import Any

from benchmarks.console.call import Call
from benchmarks.console.seeds import LONG_TALK, OLDEST, PAUSED, UNKNOWN, USERS, WORKER
from gateway.http.cursors import write_cursor
from orchestra.store.database import Database

_SAMPLES = """
SELECT ARRAY(SELECT id FROM requests WHERE tenant = 'default' ORDER BY created_at DESC LIMIT 50) AS newest,
    (SELECT id FROM requests WHERE tenant = 'default' AND status = 'pending' ORDER BY run_at LIMIT 1) AS pending,
    (SELECT id FROM requests WHERE tenant = 'default' AND status = 'failed' AND fence = 1 LIMIT 1) AS failed,
    (SELECT id FROM dead_letters ORDER BY id LIMIT 1) AS letter
"""


async def calls(database: Database) -> list[Call]:
    """The calls of every page."""
    (at,) = await database.run(_SAMPLES)
    talk, one = {"conversation_id": str(LONG_TALK), "limit": 100}, "/v1/requests/{}"
    minutes, models = {"step": 60}, {"step": 3600, "by": "model"}
    newest, people = {"limit": 50}, {"limit": 1000}
    now = datetime.now(UTC)
    cursor = write_cursor(now - timedelta(days=14), UNKNOWN)
    return [
        Call("all", "/v1/session"),
        *(Call("overview", "/v1/stats", query) for query in (minutes, models)),
        Call("overview, queue, models", "/v1/queue"),
        Call("overview, queue", "/v1/topics", of_postgres=False),
        *(
            Call("requests", "/v1/requests", query)
            for query in (
                newest,
                {**newest, "cursor": cursor},
                {**newest, "newer_than": write_cursor(now, UNKNOWN)},
                {"id": [str(id) for id in at.newest], "limit": 100},
                {**newest, "status": "failed"},
                {**newest, "status": "pending"},
                {**newest, "owner": "key:user-0", "model": "large"},
            )
        ),
        Call("requests, as a user", "/v1/requests", newest, "user-0"),
        *(Call("request", one.format(id)) for id in (at.failed, at.pending)),
        Call("request", f"{one.format(at.pending)}/waiting"),
        Call("conversations", "/v1/conversations", newest),
        Call("conversation", f"/v1/conversations/{LONG_TALK}"),
        Call("conversation", "/v1/requests", talk),
        Call("conversation", f"/v1/conversations/{LONG_TALK}/messages", {"limit": 100}),
        Call("dead letters", "/v1/dead-letters", newest),
        Call("dead letter", f"/v1/dead-letters/{at.letter}"),
        Call("queue, workers", "/v1/workers"),
        Call("models, playground", "/openai/v1/models", of_postgres=False),
        Call("people, keys, audit", "/v1/users", people),
        Call("keys", "/v1/keys", {"limit": 100}),
        Call("audit", "/v1/audit", newest),
        Call("agents", "/v1/agents"),
    ]


def _filters(now: datetime) -> Mapping[str, Mapping[str, Sequence[Any]]]:
    """Values of each filter of each list: what matches nothing, what only the oldest rows have, what very many have."""
    half, later = now - timedelta(days=14), now + timedelta(days=1)
    old = now - timedelta(days=28) + timedelta(seconds=50)
    return {
        "/v1/requests": {
            "status": ("in_progress", "failed", "completed", "pending", "cancelled"),
            "model": ("none", OLDEST, "large", PAUSED),
            "conversation_id": (str(UNKNOWN), str(LONG_TALK)),
            "task_type": ("none", OLDEST, "analyst"),
            "door": ("responses", "chat"),
            "owner": ("none", f"key:{OLDEST}", "key:user-0"),
            "error_code": ("not_json", "content_filter", "timeout"),
            "worker": (str(UNKNOWN), str(WORKER)),
            "priority": (0, 9, 5),
            "attempts_min": (9, 7, 1),
            "waited_min": (100_000, 3000, 0.1),
            "created_after": (later, half, old),
            "created_before": (old, half, later),
            "cursor": (write_cursor(old, UNKNOWN), write_cursor(half, UNKNOWN)),
            "newer_than": (write_cursor(old, UNKNOWN), write_cursor(half, UNKNOWN)),
            "user": USERS,
        },
        "/v1/dead-letters": {
            "reason": ("unavailable", "bad_header", "not_json"),
            "topic": ("none", OLDEST, "llm.requests"),
            "replayed": ("false", "true"),
            "created_after": (later, half, old),
            "created_before": (old, half, later),
            "cursor": (write_cursor(old, 1), write_cursor(half, 1)),
        },
        "/v1/audit": {
            "actor": ("none", "user:0"),
            "action": ("user.delete", "request.cancel", "request.retry"),
            "target": ("none", "requests/1"),
            "created_after": (later, half, old),
            "created_before": (old, half, later),
            "cursor": (write_cursor(old, 1), write_cursor(half, 1)),
        },
    }  # fmt: skip


def filtered(triples: int) -> Iterator[Call]:
    """Every value of every filter alone and in pairs, and this many random combinations of three."""
    draw = Random(40)
    for path, filters in _filters(datetime.now(UTC)).items():
        values = [(name, value) for name, values in filters.items() for value in values]
        single = [(each,) for each in values]
        pairs = [pair for pair in combinations(values, 2) if pair[0][0] != pair[1][0]]
        some = [
            tuple((name, draw.choice(filters[name])) for name in draw.sample(list(filters), min(3, len(filters))))
            for _ in range(triples)
        ]
        for given in (*single, *pairs, *some):
            yield _filtered(path, dict(given))


def _filtered(path: str, given: Mapping[str, Any]) -> Call:
    query = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in given.items()}
    user = query.pop("user", None)
    return Call("", path, {"limit": 50, **query}, user)

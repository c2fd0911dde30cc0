"""Promises of the searches in orchestra/store/pages.py: any combination of filters reads a bounded number of rows."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations, product
from typing import Any

import pytest

from orchestra.store import audit, dead_letters, pages, queue
from orchestra.store.database import Database
from orchestra.store.pages import Found
from schemas.api.audit import AuditFilter
from schemas.api.dead_letters import DeadLetterFilter
from tests.support.plans import noted, rows_read

ROWS, LIMIT, SEARCHED = 1000, 5, 50
_PLACE = "'{tenant}', md5('{tenant}' || n)::uuid, now() {sign} n * interval '1 minute'"
_FILL = {
    "dead letters": "INSERT INTO dead_letters (tenant, request_id, created_at, topic, partition, record_offset,"
    " record_timestamp, reason, detail, headers, replayed_at, replayed_as)"
    f" SELECT {_PLACE}, CASE WHEN n > 990 THEN 'old' ELSE 'new' END, length('{{tenant}}'), n, 0,"
    " CASE WHEN n > 990 THEN 'tombstone' ELSE 'not_json' END, '', '[]',"
    " CASE WHEN n <= 990 THEN now() END, CASE WHEN n <= 990 THEN md5(n::text)::uuid END"
    f" FROM generate_series(1, {ROWS}) AS n",
    "audit": "INSERT INTO audit (tenant, event_id, created_at, actor, action, target)"
    f" SELECT {_PLACE}, 'user:' || n % 2, CASE n % 2 WHEN 0 THEN 'request.cancel' ELSE 'request.retry' END,"
    f" 'requests/' || n % 2 FROM generate_series(1, {ROWS}) AS n",
}
FILLED = {kind: sql.format(tenant="default", sign="-") for kind, sql in _FILL.items()}
NEWER = {kind: sql.format(tenant="other", sign="+") for kind, sql in _FILL.items()}
"""As many rows of another tenant, all of them newer."""
# What nothing has, what only the oldest have, and what nearly all have.
CHOICES: dict[str, dict[str, Sequence[Any]]] = {
    "dead letters": {
        "reason": ["unsigned", "tombstone", "not_json"],
        "topic": ["none", "old", "new"],
        "replayed": [True, False],
        "created_before": [datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)],
    },
    "audit": {
        "actor": ["user:9", "user:0"],
        "action": ["user.delete", "request.cancel", "request.retry"],
        "target": ["none", "requests/1"],
        "created_after": [datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)],
    },
}


async def page(database: Database, kind: str, wanted: dict[str, Any], before: Any = None) -> Found[Any]:
    """A page of the list of this kind."""
    if kind == "audit":
        return await audit.page(database, "default", AuditFilter.model_validate(wanted), before, LIMIT)
    filter = DeadLetterFilter.model_validate({name: wanted[name] for name in wanted if name != "replayed"})
    return await dead_letters.page(database, "default", filter, before, LIMIT, replayed=wanted.get("replayed"))


@pytest.mark.parametrize("statistics", ["none", "of an empty table", "before another tenant", "of all"])
@pytest.mark.parametrize("kind", list(FILLED))
async def test_a_page_reads_a_bounded_number_of_rows(
    database: Database, monkeypatch: pytest.MonkeyPatch, kind: str, statistics: str
) -> None:
    """Whatever filters it has, and whenever Postgres took statistics, a page reads no more rows than it may look at."""
    analyze = f"VACUUM ANALYZE {kind.replace(' ', '_')}"
    if statistics == "of an empty table":
        await database.run(analyze)
    await database.run(FILLED[kind])
    if statistics == "before another tenant":
        await database.run(analyze)
    await database.run(NEWER[kind])
    if statistics == "of all":
        await database.run(analyze)
    monkeypatch.setattr(pages, "MAX_SEARCHED", SEARCHED)
    with noted("run_in_order") as asked:
        for count in range(4):
            for names in combinations(CHOICES[kind], count):
                for values in product(*(CHOICES[kind][name] for name in names)):
                    await page(database, kind, dict(zip(names, values, strict=True)))

    for sql, given in asked:
        assert await rows_read(database.run_in_order, sql, **given) <= SEARCHED, given


@pytest.mark.parametrize(
    ("kind", "wanted"), [("dead letters", {"topic": "old"}), ("audit", {"actor": "user:0", "action": "request.cancel"})]
)
async def test_pages_of_a_search_miss_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch, kind: str, wanted: dict[str, Any]
) -> None:
    """A page that is not full says how far it searched, and the pages together have all that match, newest first."""
    await database.run(FILLED[kind])
    monkeypatch.setattr(pages, "MAX_SEARCHED", SEARCHED)
    seen: list[datetime] = []
    early = 0
    found = await page(database, kind, wanted)
    while True:
        seen += [each.created_at for each in found.data]
        if found.next is None:
            break
        if len(found.data) < LIMIT:
            assert found.searched_to == found.next[0]
            early += 1
        else:
            assert found.searched_to is None
        found = await page(database, kind, wanted, found.next)

    assert seen == sorted(set(seen), reverse=True)
    assert {"dead letters": 10, "audit": ROWS // 2}[kind] == len(seen)
    assert {"dead letters": True, "audit": False}[kind] == (early > 0)


@pytest.mark.parametrize("filter", [{}, {"reason": "tombstone"}, {"topic": "old"}], ids=["all", "reason", "topic"])
async def test_a_replay_reads_none_of_the_replayed_letters(database: Database, filter: dict[str, Any]) -> None:
    """However many letters were replayed, the next ones to replay are found among the open ones."""
    await database.run(FILLED["dead letters"])
    await database.run("ANALYZE dead_letters")
    wanted, until = DeadLetterFilter.model_validate(filter), datetime(2100, 1, 1, tzinfo=UTC)

    with noted("run_in_order") as asked:
        found = await dead_letters.to_replay(database, "default", wanted, None, until, LIMIT)

    assert LIMIT == len(found)
    for sql, values in asked:
        assert await rows_read(database.run_in_order, sql, **values) <= SEARCHED


@pytest.mark.parametrize("tenant", ["default", None])
async def test_open_letters_are_counted_without_the_replayed_ones(database: Database, tenant: str | None) -> None:
    """However many newer letters were replayed, the old open ones count, and no others are read."""
    await database.run(FILLED["dead letters"])
    await database.run("ANALYZE dead_letters")

    with noted("run") as asked:
        found = await queue.open_letters(database, tenant)

    assert queue.Counted(10, more=False) == found
    for sql, values in asked:
        assert await rows_read(database.run, sql, **values) <= SEARCHED

"""Promises of orchestra/store/dead_letters.py: a record that could not become a request is kept whole."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from orchestra.store import dead_letters
from orchestra.store.database import Database
from orchestra.store.dead_letters import RawRecord
from schemas.api.dead_letters import DeadLetterFilter, DeadLetterSummary
from schemas.dead_letters import RawHeaders
from schemas.errors import ErrorCode
from schemas.topics import MAX_RECORD_BYTES
from tests.support.store import letter, request, take

BYTES = bytes(range(256))
EVERYTHING = DeadLetterFilter()


async def test_a_record_is_kept_whole(database: Database) -> None:
    """Any bytes in key, value and header values; headers that repeat or have no value; and why."""
    headers = [("name", BYTES), ("name", b""), ("none", None)]
    dead = letter(key=BYTES, value=BYTES, headers=headers, partition=3, offset=7).because(ErrorCode.NOT_JSON, "bad")

    await take(database, dead_letters=[dead])

    (kept,) = await database.run("SELECT * FROM dead_letters")
    assert (BYTES, BYTES, "not_json", "bad") == (kept.record_key, kept.value, kept.reason, kept.detail)
    assert ("llm.requests", 3, 7, dead.timestamp_ms) == (
        kept.topic,
        kept.partition,
        kept.record_offset,
        kept.record_timestamp,
    )
    assert headers == [(name, None if value is None else base64.b64decode(value)) for name, value in kept.headers]


async def test_nothing_stays_nothing(database: Database) -> None:
    """No key and no value are not empty ones."""
    await take(database, dead_letters=[letter(key=None, value=None), letter(key=b"", value=b"")])

    kept = await database.run("SELECT record_key, value FROM dead_letters ORDER BY record_offset")

    assert [(None, None), (b"", b"")] == [tuple(each) for each in kept]


async def test_a_header_name_that_cannot_be_kept_loses_nothing_else(database: Database) -> None:
    """Bad characters of a header name are replaced; the record is kept."""
    await take(database, dead_letters=[letter(headers=[("a\0b", b"1"), ("\ud800", b"2")])])

    (kept,) = await database.run("SELECT headers FROM dead_letters")
    assert ["a\N{REPLACEMENT CHARACTER}b", "?"] == [name for name, _ in kept.headers]


async def test_the_reason_is_found_by_request(database: Database) -> None:
    """A reason is that of its own tenant's letter: the first one if there are several."""
    id = uuid4()
    first = letter(request_id=id).because(ErrorCode.NOT_JSON, "first")
    await take(database, dead_letters=[first, letter(request_id=id).because(ErrorCode.TOMBSTONE, "second")])

    assert (ErrorCode.NOT_JSON, "first") == await dead_letters.reason_of(database, "default", id)
    assert await dead_letters.reason_of(database, "other", id) is None
    assert await dead_letters.reason_of(database, "default", uuid4()) is None


async def test_the_reasons_of_many_are_found_at_once(database: Database) -> None:
    """The reasons of many requests are the first of each that has one, of its own tenant."""
    one, other = letter().because(ErrorCode.NOT_JSON, "one"), letter(tenant="them").because(ErrorCode.UNSIGNED, "two")
    again = letter(request_id=one.request_id).because(ErrorCode.TOMBSTONE, "later")
    await take(database, dead_letters=[one, other, again])
    mine, theirs = ("default", one.request_id), ("them", other.request_id)

    found = await dead_letters.reasons_of(database, [mine, theirs, ("default", other.request_id)])

    assert {mine: (ErrorCode.NOT_JSON, "one"), theirs: (ErrorCode.UNSIGNED, "two")} == found
    assert await dead_letters.reasons_of(database, []) == {}


async def test_a_letter_says_nothing_of_a_request_that_was_taken_in(database: Database) -> None:
    """The letter is about another body under the same id: the request itself is not reported as failed."""
    await take(database, asked := request(), dead_letters=[letter(request_id=(id := asked.id), tenant="default")])

    assert await dead_letters.reason_of(database, "default", id) is None


async def listed(database: Database, filter: DeadLetterFilter = EVERYTHING, **more: Any) -> list[DeadLetterSummary]:
    """The first page."""
    fields = {"before": None, "limit": 100, "replayed": None, **more}
    return (await dead_letters.page(database, "default", filter, **fields)).data


async def born(database: Database, *days: int) -> None:
    """Act as if the letters had been kept on these days of January, in their order."""
    for place, day in enumerate(days):
        at = datetime(2026, 1, day, tzinfo=UTC)
        await database.run(
            "UPDATE dead_letters SET created_at = :at WHERE id = (SELECT id FROM dead_letters ORDER BY id OFFSET :place"
            " LIMIT 1)",
            at=at,
            place=place,
        )


async def test_a_list_shows_what_was_refused_and_not_what_it_says(database: Database) -> None:
    """Letters are listed newest first, with reason, place and length, and without those of another tenant."""
    first = letter(value=b"12345", partition=3, offset=7).because(ErrorCode.NOT_JSON, "bad")
    second = letter(value=None).because(ErrorCode.TOMBSTONE, "")
    await take(database, dead_letters=[first, second, letter(tenant="them")])
    await born(database, 1, 2, 3)

    newest, oldest = await listed(database)

    assert (ErrorCode.TOMBSTONE, None) == (newest.reason, newest.value_bytes)
    assert {
        "request_id": first.request_id, "reason": "not_json", "detail": "bad", "topic": "llm.requests", "partition": 3,
        "offset": 7, "timestamp_ms": first.timestamp_ms, "value_bytes": 5,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC), "edited_at": None, "replayed_at": None, "replayed_as": None,
    } == oldest.model_dump(exclude={"id"})  # fmt: skip


@pytest.mark.parametrize(
    ("filter", "more", "places"),
    [
        ({"reason": "not_json"}, {}, {0, 2}),
        ({"topic": "theirs"}, {}, {1}),
        ({"reason": "not_json", "topic": "theirs"}, {}, set()),
        ({"created_after": "2026-01-02T00:00:00Z"}, {}, {1, 2}),
        ({"created_before": "2026-01-02T00:00:00Z"}, {}, {0}),
        ({}, {"replayed": True}, {2}),
        ({}, {"replayed": False}, {0, 1}),
    ],
)
async def test_filters(database: Database, filter: dict[str, Any], more: dict[str, Any], places: set[int]) -> None:
    """Every condition of a filter must hold."""
    made = [
        letter().because(ErrorCode.NOT_JSON, ""),
        letter(topic="theirs").because(ErrorCode.TOMBSTONE, ""),
        letter().because(ErrorCode.NOT_JSON, ""),
    ]
    await take(database, dead_letters=made)
    await born(database, 1, 2, 3)
    newest = (await listed(database))[0]
    await dead_letters.note_replayed(database, "default", {newest.id: uuid4()})

    found = await listed(database, DeadLetterFilter.model_validate(filter), **more)

    assert {made[place].request_id for place in places} == {each.request_id for each in found}


async def test_pages_go_on_where_the_last_one_ended(database: Database) -> None:
    """Pages show each letter once, even among those of the same moment, in both directions."""
    await take(database, dead_letters=[letter() for _ in range(5)])
    await born(database, 1, 1)
    seen: list[int] = []
    before = None
    while page := await listed(database, before=before, limit=2):
        seen += [each.id for each in page]
        before = page[-1].created_at, page[-1].id
    forth: list[int] = []
    after, until = None, datetime.now(UTC) + timedelta(days=1)
    while letters := await dead_letters.to_replay(database, "default", EVERYTHING, after, until, 2):
        forth += [each.summary.id for each in letters]
        after = letters[-1].place

    assert (5, seen) == (len(set(seen)), list(reversed(forth)))
    assert (
        await dead_letters.to_replay(database, "default", EVERYTHING, None, datetime(2026, 1, 1, tzinfo=UTC), 9) == []
    )


async def test_an_edit_keeps_what_came(database: Database) -> None:
    """However often a letter is edited, its original bytes are kept."""
    headers: RawHeaders = [("name", BYTES), ("none", None)]
    await take(database, dead_letters=[letter(key=BYTES, value=BYTES, headers=headers)])
    (summary,) = await listed(database)

    for value in (b"first", None, b"last"):
        await dead_letters.edit(database, "default", summary.id, RawRecord(None, value, [("a", BYTES), ("b", None)]))
        await dead_letters.edit(database, "them", summary.id, RawRecord(b"theirs", b"theirs", []))
        kept = await dead_letters.get(database, "default", summary.id)
        assert kept is not None
        assert (RawRecord(BYTES, BYTES, headers), kept.edited) == (kept.came, kept.to_send)
        assert RawRecord(None, value, [("a", BYTES), ("b", None)]) == kept.edited
        assert kept.summary.edited_at is not None
    assert await dead_letters.get(database, "them", summary.id) is None


async def test_a_value_longer_than_a_record_may_be_is_not_read_whole(database: Database) -> None:
    """The value is cut after the limit, and its full length is shown."""
    await take(database, dead_letters=[letter(value=bytes(3 * 1024 * 1024))])
    (summary,) = await listed(database)

    kept = await dead_letters.get(database, "default", summary.id)

    assert kept is not None
    assert (3 * 1024 * 1024, MAX_RECORD_BYTES + 1) == (kept.summary.value_bytes, len(kept.came.value or b""))


async def test_a_value_that_was_not_kept_has_its_length(database: Database) -> None:
    """A value that was not kept shows its length, if that is known."""
    await take(database, dead_letters=[letter(value=None, value_bytes=2**40), letter(value=None)])

    unknown, known = await listed(database)

    assert (None, 2**40) == (unknown.value_bytes, known.value_bytes)


async def test_after_a_replay_the_old_reason_is_none_any_more(database: Database) -> None:
    """A replay under the same id removes the old reason until a new refusal; under another id the old reason stays."""
    id = uuid4()
    await take(database, dead_letters=[letter(request_id=id).because(ErrorCode.NOT_JSON, "first")])
    (summary,) = await listed(database)
    assert await dead_letters.last_replay(database, "default", id) is None

    await dead_letters.note_replayed(database, "default", {summary.id: uuid4()})
    assert (ErrorCode.NOT_JSON, "first") == await dead_letters.reason_of(database, "default", id)
    await dead_letters.note_replayed(database, "them", {summary.id: id})
    assert (ErrorCode.NOT_JSON, "first") == await dead_letters.reason_of(database, "default", id)
    await dead_letters.note_replayed(database, "default", {summary.id: id})
    assert await dead_letters.reason_of(database, "default", id) is None
    assert await dead_letters.last_replay(database, "default", id) == (await listed(database))[0].replayed_at
    assert await dead_letters.last_replay(database, "them", id) is None

    await take(database, dead_letters=[letter(request_id=id).because(ErrorCode.BAD_HEADER, "second")])
    assert (ErrorCode.BAD_HEADER, "second") == await dead_letters.reason_of(database, "default", id)

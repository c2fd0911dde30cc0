"""Promises of orchestra/store/dead_letters.py: a record that was not taken in is kept whole."""

import base64
from uuid import uuid4

from orchestra.store import dead_letters
from orchestra.store.database import Database
from schemas.errors import ErrorCode
from tests.support.store import letter, request, take

BYTES = bytes(range(256))


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
    """Its bad characters are replaced; the record is there."""
    await take(database, dead_letters=[letter(headers=[("a\0b", b"1"), ("\ud800", b"2")])])

    (kept,) = await database.run("SELECT headers FROM dead_letters")
    assert ["a\N{REPLACEMENT CHARACTER}b", "?"] == [name for name, _ in kept.headers]


async def test_the_reason_is_found_by_request(database: Database) -> None:
    """Its own tenant's only; the first one, should there be several."""
    id = uuid4()
    first = letter(request_id=id).because(ErrorCode.NOT_JSON, "first")
    await take(database, dead_letters=[first, letter(request_id=id).because(ErrorCode.TOMBSTONE, "second")])

    assert (ErrorCode.NOT_JSON, "first") == await dead_letters.reason_of(database, "default", id)
    assert await dead_letters.reason_of(database, "other", id) is None
    assert await dead_letters.reason_of(database, "default", uuid4()) is None


async def test_the_reasons_of_many_are_found_at_once(database: Database) -> None:
    """The first one of each, for those that have one, of their own tenant."""
    one, other = letter().because(ErrorCode.NOT_JSON, "one"), letter(tenant="them").because(ErrorCode.UNSIGNED, "two")
    again = letter(request_id=one.request_id).because(ErrorCode.TOMBSTONE, "later")
    await take(database, dead_letters=[one, other, again])
    mine, theirs = ("default", one.request_id), ("them", other.request_id)

    found = await dead_letters.reasons_of(database, [mine, theirs, ("default", other.request_id)])

    assert {mine: (ErrorCode.NOT_JSON, "one"), theirs: (ErrorCode.UNSIGNED, "two")} == found
    assert await dead_letters.reasons_of(database, []) == {}


async def test_a_letter_says_nothing_of_a_request_that_was_taken_in(database: Database) -> None:
    """It is about another body under the same id: whoever asks for the request is not told that it failed."""
    await take(database, asked := request(), dead_letters=[letter(request_id=(id := asked.id), tenant="default")])

    assert await dead_letters.reason_of(database, "default", id) is None

"""Promises of gateway/large_bodies.py: a body is taken apart and put together again without a change."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.http.body_room import BodyRoom
from gateway.large_bodies import LargeBodies
from gateway.people.principal import nameless
from gateway.submission import Submission, trace
from orchestra.store import files
from orchestra.store.claims import Owner
from orchestra.store.files import StoredFile
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import MessageRequested
from tests.support.homes import MIB

OWNER = nameless().owner
BODY = {
    "model": "m",
    "metadata": {"case": "17"},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2}}}],
    "messages": [
        {"role": "system", "content": "x" * 5000},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "y" * 5000},
                {"type": "image_url", "image_url": {"url": "data:,\N{SNOWMAN}" + "i" * 5000, "detail": "low"}},
                {"type": "file", "file": {"file_data": "data:,f", "filename": "small.txt"}},
                {"type": "file", "file": {"file_data": "data:," + "f" * 300_000, "filename": "a.txt"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/" + "u" * 5000}},
                {"type": "input_audio", "input_audio": {"data": "w" * 9000, "format": "wav"}},
            ],
        },
    ],
}


class Kept:
    """The files of a gateway, without a home and without Postgres."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blobs: dict[str, bytes] = {}
        self.by_messages: list[bool] = []
        self.discarded: list[str] = []
        monkeypatch.setattr(files, "named", self._named)
        monkeypatch.setattr(files, "discard", self._discard)

    async def keep_body(
        self, _owner: Owner, id: str, _request: UUID, chunks: AsyncIterator[bytes], *, kept_by_messages: bool
    ) -> None:
        """Keep it."""
        found = [chunk async for chunk in chunks]
        assert all(0 < len(chunk) <= MIB for chunk in found)
        self.blobs[id] = b"".join(found)
        self.by_messages.append(kept_by_messages)

    async def content(self, file: StoredFile, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes of a part."""

        async def chunks() -> AsyncIterator[bytes]:
            yield self.blobs[file.blob][start:stop]

        return chunks()

    async def _named(self, _database: object, _owner: Owner, ids: Sequence[str]) -> dict[str, StoredFile]:
        now = datetime.now(UTC)
        found = {}
        for id in ids:
            whole, start, length = id.split("x")
            found[id] = StoredFile(
                "default", id, "", "request", "", "", int(length, 16), "", whole, now, now, uuid4(), int(start, 16)
            )
        return found

    async def _discard(self, _database: object, _tenant: str, id: str) -> None:
        self.discarded.append(id)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(monkeypatch)


def large(kept: Kept) -> LargeBodies:
    nothing: Any = None
    files: Any = kept
    return LargeBodies(nothing, files, BodyRoom(MIB, shared=False))


def submission(**changes: Any) -> Submission:
    body = MessageRequested.model_validate({**BODY, **changes})
    return Submission(nameless(), uuid4(), body, body.body_hash(), trace(None), caller_waits=False)


async def test_a_body_comes_back_as_it_was(kept: Kept) -> None:
    """With its media or with their ids, in the order of its members; the record has the rest, and its hash."""
    bodies, asked, values = large(kept), submission(), list[bytes]()

    async def write(value: bytes) -> None:
        values.append(value)

    await bodies.write(asked, write)
    record = json.loads(values[0])
    whole = await bodies.read(OWNER, record, media=True)
    named = await bodies.read(OWNER, record, media=False)

    assert BODY == whole
    assert json.dumps(BODY["tools"]) == json.dumps(whole["tools"])
    assert {"model", "metadata", "body_ref"} == record.keys()
    assert asked.body_hash == record["body_ref"]["body_hash"]
    assert [True] == kept.by_messages
    parts = named["messages"][1]["content"]
    assert [["detail", "file_id"], ["file_id", "filename"], ["file_id", "format"]] == [
        sorted(part[part["type"]]) for part in (parts[1], parts[3], parts[5])
    ]
    for stays in (2, 4):
        assert BODY["messages"][1]["content"][stays] == parts[stays]  # type: ignore[index]
    assert len(json.dumps(named)) < 17_000


async def test_a_body_without_media_goes_with_its_request(kept: Kept) -> None:
    """Messages hold nothing of it."""

    async def write(_value: bytes) -> None:
        pass

    await large(kept).write(submission(messages=[{"role": "user", "content": "long"}]), write)

    assert [False] == kept.by_messages


@pytest.mark.parametrize(("code", "discarded"), [(ErrorCode.UNAVAILABLE, 1), (ErrorCode.OUTCOME_UNKNOWN, 0)])
async def test_what_is_not_accepted_is_not_kept(kept: Kept, code: ErrorCode, discarded: int) -> None:
    """If the record was surely not written, the body goes; if it may have been, it stays."""

    async def write(_value: bytes) -> None:
        raise OrchestraError(code)

    with pytest.raises(OrchestraError):
        await large(kept).write(submission(), write)

    assert discarded == len(kept.discarded)


async def test_what_a_record_must_have_may_be_too_large(kept: Kept) -> None:
    """Nothing is kept then."""

    async def write(_value: bytes) -> None:
        raise AssertionError

    with pytest.raises(OrchestraError) as refused:
        await large(kept).write(submission(asked={"instructions": "z" * (2 * MIB)}), write)

    assert ErrorCode.TOO_LARGE == refused.value.code
    assert {} == kept.blobs

"""Bodies that exceed a record: their text goes to the home of files, and the record names it (a claim check)."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import orjson

from gateway.files import Files
from gateway.http.body_room import BodyRoom, Hold
from gateway.submission import Submission
from orchestra.files.home import MAX_CHUNK_BYTES
from orchestra.store import files
from orchestra.store.claims import Owner
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.files import StoredFile, new_id, part_id
from schemas.content import DATA_FIELDS, file_id_of, is_web_url
from schemas.envelope import parse_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import BodyRef
from schemas.topics import MAX_RECORD_BYTES

# Media from this length on are kept apart from the rest of the body, so that stored messages can name them.
_MIN_MEDIA_BYTES = 4096
# Characters that have at most 1 MiB as UTF-8.
_CHUNK = 256 * 1024
# What is kept with the rest of the body, because it may be as long as the body.
_APART = frozenset({"messages", "tools", "response_format"})


class LargeBodies:
    """Keeps large bodies and reads them again."""

    def __init__(self, database: Database, kept: Files, room: BodyRoom) -> None:
        self._database = database
        self._kept = kept
        self._room = room

    async def write(self, submission: Submission, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Keep the body, then ``write`` the value of its record.

        Raises ``TOO_LARGE``, ``QUOTA_EXCEEDED``, ``TOO_MANY_CALLS``, ``UNAVAILABLE``, and what ``write`` raises.
        """
        caller, id = submission.caller, new_id()
        kept = await self._room.apart(lambda: _Kept(submission, id))
        if len(kept.value) > MAX_RECORD_BYTES:
            raise OrchestraError(ErrorCode.TOO_LARGE)
        await self._kept.keep_body(caller.owner, id, submission.id, kept.chunks(), kept_by_messages=bool(kept.media))
        try:
            await write(kept.value)
        except OrchestraError as error:
            if error.code is not ErrorCode.OUTCOME_UNKNOWN:
                with suppress(DatabaseUnavailableError):  # Then it expires.
                    await files.discard(self._database, caller.tenant, id)
            raise

    async def read(self, owner: Owner, body: dict[str, Any], *, media: bool) -> dict[str, Any]:
        """The whole of a stored body. ``media``: with the data of its media; otherwise with the ids of their parts.

        Raises ``FILE_NOT_FOUND``, ``UNAVAILABLE``, ``OVERLOADED`` and ``DatabaseUnavailableError``.
        """
        ref = BodyRef.model_validate(body["body_ref"])
        with self._room.hold(owner) as hold:
            text = await self._text((await self._named(owner, [ref.file_id]))[ref.file_id], hold)
            whole: dict[str, Any] = await self._room.apart(lambda: parse_json(text))
            if media:
                await self._fill(owner, whole["messages"], hold)
        return {**{name: value for name, value in body.items() if name != "body_ref"}, **whole}

    async def _fill(self, owner: Owner, messages: Sequence[dict[str, Any]], hold: Hold) -> None:
        parts = [(part, id) for part in _parts(messages) if (id := file_id_of(part))]
        found = await files.named(self._database, owner, [id for _, id in parts])
        for part, id in parts:
            if (file := found.get(id)) and file.of_body:
                text, kind = (await self._text(file, hold)).decode(), part["type"]
                rest = {name: value for name, value in part[kind].items() if name != "file_id"}
                part[kind] = {DATA_FIELDS[kind]: text, **rest}

    async def _named(self, owner: Owner, ids: Sequence[str]) -> dict[str, StoredFile]:
        found = await files.named(self._database, owner, ids)
        if len(found) < len(set(ids)):
            raise OrchestraError(ErrorCode.FILE_NOT_FOUND, "the body of the request is no longer kept")
        return found

    async def _text(self, file: StoredFile, hold: Hold) -> bytes:
        hold.add(file.bytes)
        return b"".join([chunk async for chunk in await self._kept.content(file, file.start, file.start + file.bytes)])


async def whole_body(large: LargeBodies | None, owner: Owner, stored: dict[str, Any], *, media: bool) -> dict[str, Any]:
    """A stored body with what a large one keeps apart. ``large`` None: files are not offered.

    Raises what ``LargeBodies.read`` raises.
    """
    if "body_ref" not in stored:
        return stored
    if large is None:
        raise OrchestraError(ErrorCode.UNAVAILABLE, "the body is kept in files, which are not offered here")
    return await large.read(owner, stored, media=media)


class _Kept:
    """A body, taken apart: its ``media``, the ``text`` of the rest, and the ``value`` of its record."""

    def __init__(self, submission: Submission, id: str) -> None:
        body = submission.body.model_dump(mode="json", exclude_none=True)
        self.media, at = _set_apart(body["messages"], id)
        self.text = orjson.dumps(body)
        ref = BodyRef(
            file_id=part_id(id, at, len(self.text)),
            sha256=hashlib.sha256(self.text).hexdigest(),
            bytes=len(self.text),
            body_hash=submission.body_hash,
        )
        rest = {name: value for name, value in body.items() if name not in _APART}
        self.value = orjson.dumps({**rest, "body_ref": ref.model_dump()})

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it, in chunks of at most 1 MiB."""
        for each in self.media:
            for at in range(0, len(each), _CHUNK):
                yield each[at : at + _CHUNK].encode()
        for at in range(0, len(self.text), MAX_CHUNK_BYTES):
            yield self.text[at : at + MAX_CHUNK_BYTES]


def _set_apart(messages: Sequence[dict[str, Any]], id: str) -> tuple[list[str], int]:
    """Replace the data of media by ids of parts of the file ``id``. Returns the data in order, and their length."""
    media, at = [], 0
    for part in _parts(messages):
        kind = part["type"]
        data = part[kind].get(DATA_FIELDS[kind]) if kind in DATA_FIELDS else None
        if data is None or len(data) < _MIN_MEDIA_BYTES or is_web_url(part):
            continue
        length = len(data) if data.isascii() else len(data.encode())
        rest = {name: value for name, value in part[kind].items() if name != DATA_FIELDS[kind]}
        part[kind] = {"file_id": part_id(id, at, length), **rest}
        media.append(data)
        at += length
    return media, at


def _parts(messages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if isinstance(message.get("content"), list):
            yield from message["content"]

"""Files: add within the owner's limit, find, list, delete; and what the sweep needs. Their bytes are elsewhere.

The body of a large request is a file, too (decision 0038). It is in no list, and callers cannot find it by its id.
"""

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Integer,
    Text,
    and_,
    any_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from orchestra.store.audit import Author, changing
from orchestra.store.claims import Owner
from orchestra.store.compose import composed, matches, parameters
from orchestra.store.database import Database, Transaction
from orchestra.store.pages import applied
from orchestra.store.tables import files, messages, requests, totals_due

_ID = re.compile(r"file-[0-9a-f]{32}")
# A part of a file: where it starts and how long it is, in hex.
_PART_ID = re.compile(r"(file-[0-9a-f]{32})x([0-9a-f]{1,8})x([0-9a-f]{1,8})")
# Until a body is taken in, which Kafka and deadlines allow 14 days; then the sweep renews it while it is needed.
_BODY_DAYS = 30
_RENEW_DAYS = 7


@dataclass(frozen=True)
class NewFile:
    """A file whose blob is stored. ``sha256`` in hex; ``blob``: its key in the home of files.

    ``request_id``: it is the body of this request. ``kept_by_messages``: stored messages name parts of it.
    """

    purpose: str
    filename: str
    media_type: str
    bytes: int
    sha256: str
    blob: str
    request_id: UUID | None = None
    kept_by_messages: bool = False


@dataclass(frozen=True)
class StoredFile:
    """A file's row, or a part of a request's body: ``bytes`` from ``start`` of its blob."""

    tenant: str
    id: str
    owner: str
    purpose: str
    filename: str
    media_type: str
    bytes: int
    sha256: str
    blob: str
    created_at: datetime
    expires_at: datetime
    request_id: UUID | None = None
    start: int = 0

    @property
    def of_body(self) -> bool:
        """Whether it is a text of a request's body, to be put in its place as it is."""
        return self.request_id is not None


_COLUMNS = tuple(column for column in files.c if column.key not in ("deleted_at", "kept_by_messages"))
_THERE = and_(files.c.deleted_at.is_(None), files.c.expires_at > func.now())
_UPLOADED = and_(_THERE, files.c.request_id.is_(None))
# A body lasts as long as its row: it expires only if nothing needs it.
_NEEDED = and_(files.c.deleted_at.is_(None), or_(files.c.expires_at > func.now(), files.c.request_id.is_not(None)))

_SUM = composed(
    select(func.coalesce(func.sum(files.c.bytes), 0).label("bytes")).where(
        matches(files.c.tenant, files.c.owner), _THERE
    )
)
# Two uploads of one owner at the same time must not both find room for the last bytes.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('files ' || :tenant || ' ' || :owner, 0))"
_NEW = {
    **parameters(
        "tenant", "id", "owner", "purpose", "filename", "media_type", "bytes", "blob", "request_id", "kept_by_messages"
    ),
    "sha256": bindparam("digest"),
}
_ADD = composed(
    insert(files)
    .values(**_NEW, expires_at=func.now() + func.make_interval(0, 0, 0, bindparam("days")))
    .returning(*_COLUMNS)
)

_OWNER = matches(files.c.owner)
_FIND = select(*_COLUMNS).where(matches(files.c.tenant, files.c.id), _UPLOADED)
_DELETE = update(files).values(deleted_at=func.now()).where(matches(files.c.tenant, files.c.id), _UPLOADED)
_FIND_ANY, _FIND_OWNED = composed(_FIND), composed(_FIND.where(_OWNER))
_DELETE_ANY, _DELETE_OWNED = (composed(each.returning(files.c.id)) for each in (_DELETE, _DELETE.where(_OWNER)))

_NAMED = composed(
    select(*_COLUMNS).where(
        matches(files.c.tenant, files.c.owner), files.c.id == any_(bindparam("ids", type_=ARRAY(Text))), _NEEDED
    )
)

_DISCARD = composed(
    update(files)
    .values(deleted_at=func.now())
    .where(matches(files.c.tenant, files.c.id), files.c.request_id.is_not(None))
)

_OF_TENANT = select(*_COLUMNS).where(matches(files.c.tenant), _UPLOADED)
_CONDITIONS = {
    "owner": _OWNER,
    "purpose": matches(files.c.purpose),
    "after": files.c.id > bindparam("after"),
    "before": files.c.id < bindparam("before"),
}

_ANSWERED = exists().where(
    messages.c.tenant == files.c.tenant, messages.c.request_id == files.c.request_id, messages.c.role == "assistant"
)
_OPEN_OR_KEPT = exists().where(
    requests.c.tenant == files.c.tenant, requests.c.id == files.c.request_id, requests.c.deleted_at.is_(None)
)
_RENEW = composed(
    update(files)
    .values(expires_at=func.now() + func.make_interval(0, 0, 0, _BODY_DAYS))
    .where(
        files.c.expires_at <= func.now() + func.make_interval(0, 0, 0, _RENEW_DAYS),
        files.c.request_id.is_not(None),
        files.c.deleted_at.is_(None),
        or_(_OPEN_OR_KEPT, and_(files.c.kept_by_messages, _ANSWERED)),
    )
)

_LIMIT = bindparam("limit", type_=Integer)
_GONE = composed(
    select(
        union_all(
            select(files.c.blob).where(files.c.deleted_at.is_not(None)).limit(_LIMIT).subquery().select(),
            select(files.c.blob)
            .where(files.c.deleted_at.is_(None), files.c.expires_at <= func.now())
            .limit(_LIMIT)
            .subquery()
            .select(),
        )
        .subquery("gone")
        .c.blob
    ).limit(_LIMIT)
)
_BLOBS = bindparam("blobs", type_=ARRAY(Text))
_FORGET = composed(
    delete(files).where(
        files.c.blob == any_(_BLOBS), or_(files.c.deleted_at.is_not(None), files.c.expires_at <= func.now())
    )
)
_KNOWN = composed(select(files.c.blob).where(files.c.blob == any_(_BLOBS)))
_DUE = composed(
    update(totals_due)
    .values(due_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("every")))
    .where(totals_due.c.what == "files", totals_due.c.due_at <= func.now())
    .returning(totals_due.c.what)
)


def new_id() -> str:
    """An id for a new file, later than all before it, that cannot be guessed."""
    return f"file-{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def is_id(text: str) -> bool:
    """Whether a file could have this id."""
    return _ID.fullmatch(text) is not None


def part_id(id: str, start: int, length: int) -> str:
    """The id of a part of a file."""
    return f"{id}x{start:x}x{length:x}"


async def add(
    database: Database, owner: Owner, file: NewFile, *, days: int = _BODY_DAYS, max_bytes: int, id: str | None = None
) -> StoredFile | None:
    """Add a file that expires in ``days``. None if its owner would have more than ``max_bytes``."""
    tenant, name = owner
    async with database.transaction() as tx:
        await tx.run(_LOCK, tenant=tenant, owner=name)
        if await _sum(tx, owner) + file.bytes > max_bytes:
            return None
        values = {**vars(file), "tenant": tenant, "owner": name, "id": id or new_id(), "digest": file.sha256}
        rows = await tx.run(_ADD, **values, days=days)
    return _stored(rows[0])


async def stored_bytes(database: Database, owner: Owner) -> int:
    """The bytes that an owner's files take."""
    return await _sum(database, owner)


async def find(database: Database, tenant: str, id: str, owner: str | None) -> StoredFile | None:
    """A file that is neither deleted nor expired; ``owner``: only if it is theirs. None if there is no such file."""
    rows = await database.run(_FIND_ANY if owner is None else _FIND_OWNED, tenant=tenant, id=id, owner=owner)
    return _stored(rows[0]) if rows else None


async def named(database: Database, owner: Owner, ids: Sequence[str]) -> dict[str, StoredFile]:
    """Those of these files that are this owner's and neither deleted nor expired, by id.

    The body of a request is never found by its own id, only in parts: by ids of the form of ``part_id``.
    """
    tenant, name = owner
    parts = {id: part for id in ids if (part := _PART_ID.fullmatch(id))}
    wanted = {parts[id][1] if id in parts else id for id in ids}
    rows = await database.run(_NAMED, tenant=tenant, owner=name, ids=list(wanted))
    whole = {row.id: _stored(row) for row in rows}
    found = {id: file for id in ids if (file := whole.get(id)) and not file.of_body}
    return found | {id: file for id, part in parts.items() if (file := _part(whole.get(part[1]), part))}


async def page(
    database: Database,
    tenant: str,
    owner: str | None,
    *,
    purpose: str | None,
    place: str | None,
    oldest_first: bool,
    limit: int,
) -> list[StoredFile]:
    """Files behind the id ``place``, newest first unless ``oldest_first``. ``owner`` None: of the whole tenant."""
    behind = {"after" if oldest_first else "before": place}
    where, values = applied(_CONDITIONS, owner=owner, purpose=purpose, **behind)
    rows = await database.run(_page(where, oldest_first=oldest_first), **values, tenant=tenant, limit=limit)
    return [_stored(row) for row in rows]


async def mark_deleted(database: Database, tenant: str, id: str, owner: str | None, by: Author | None = None) -> bool:
    """Delete a file; ``owner``: only if it is theirs. Its blob goes with the next sweep. False: no such file."""
    statement = _DELETE_ANY if owner is None else _DELETE_OWNED
    async with changing(database) as tx:
        rows = await tx.run(statement, tenant=tenant, id=id, owner=owner)
        if rows:
            tx.note(by, f"files/{id}")
        return bool(rows)


async def discard(database: Database, tenant: str, id: str) -> None:
    """Delete the body of a request that was not accepted."""
    await database.run(_DISCARD, tenant=tenant, id=id)


async def renew(database: Database) -> None:
    """Keep the bodies of requests that are still there from expiring, and those that stored messages name."""
    await database.run(_RENEW)


async def gone(database: Database, limit: int) -> list[str]:
    """Blobs of files that are deleted or expired, at most ``limit``."""
    return [row.blob for row in await database.run(_GONE, limit=limit)]


async def forget(database: Database, blobs: Sequence[str]) -> None:
    """Delete the rows of deleted and expired files whose blobs are gone."""
    await database.run(_FORGET, blobs=list(blobs))


async def unknown(database: Database, blobs: Sequence[str]) -> list[str]:
    """Those of the blobs that no row names."""
    known = {row.blob for row in await database.run(_KNOWN, blobs=list(blobs))}
    return [blob for blob in blobs if blob not in known]


async def take_walk(database: Database, every: float) -> bool:
    """Whether this process is to look through all blobs now. Then the next look is due in ``every`` seconds."""
    return bool(await database.run(_DUE, every=every))


@lru_cache
def _page(where: tuple[ColumnElement[bool], ...], *, oldest_first: bool) -> str:
    order = files.c.id if oldest_first else files.c.id.desc()
    return composed(_OF_TENANT.where(*where).order_by(order).limit(_LIMIT))


async def _sum(run: Database | Transaction, owner: Owner) -> int:
    tenant, name = owner
    return int((await run.run(_SUM, tenant=tenant, owner=name))[0].bytes)


def _part(file: StoredFile | None, part: re.Match[str]) -> StoredFile | None:
    if file is None or not file.of_body:
        return None
    start, length = int(part[2], 16), int(part[3], 16)
    return replace(file, id=part[0], start=start, bytes=length) if start + length <= file.bytes else None


def _stored(row: Any) -> StoredFile:
    return StoredFile(**dict(row))

"""Deletes what an erased owner has, in statements and transactions of a bounded size. Each of them can be repeated.

Tables are walked in the order of their keys: no index leads to all rows of an owner, and a walk cannot miss a row that
was there when it began.
"""

import base64
import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestra.signing import OwnerHasher
from orchestra.store import erasures
from orchestra.store.cancels import CancelledBatch, cancel, conversations_of
from orchestra.store.database import Database, Transaction
from orchestra.store.erasures import StoredErasure
from orchestra.store.turns import HIDDEN, KEYS, ConversationRef, RequestRef, lock_conversations, refs_json
from schemas import envelope
from schemas.api.erasures import MOST_COUNTED

_PAGE = 2000
_AT_ONCE = 100
_REQUESTS_AT_ONCE = 500
_MESSAGES_AT_ONCE = 2000

_OWNER_OF = {"conversations": "coalesce(t.owner, t.user_id::text)", "requests": "t.user_name"}
# A name may be used again: in a restored database what came later, which was read again, is not what was erased.
_EARLIER = "(CAST(:until AS timestamptz) IS NULL OR t.created_at <= :until)"
_CAME_EARLIER = {
    "conversations": _EARLIER,
    "requests": "(CAST(:until AS timestamptz) IS NULL "
    "OR t.src_timestamp <= 1000 * extract(epoch FROM CAST(:until AS timestamptz)))",
}
# The last key of a page, and those of the page's rows that are the owner's.
_WALK = """
SELECT (array_agg(p.id ORDER BY p.id DESC))[1] AS last, coalesce(array_agg(p.id) FILTER (WHERE p.theirs), '{{}}') AS ids
FROM (
    SELECT t.id, coalesce({owner} = :owner, false) AND {earlier} AS theirs FROM {table} t
    WHERE t.tenant = :tenant AND t.id > :after ORDER BY t.id LIMIT :limit
) AS p
"""
_OWNERS = """
SELECT (array_agg(p.id ORDER BY p.id DESC))[1] AS last, array_agg(DISTINCT p.owner) AS owners
FROM (
    SELECT t.id, {owner} AS owner FROM {table} t WHERE t.tenant = :tenant AND t.id > :after ORDER BY t.id LIMIT :limit
) AS p
"""
_WITH_ACCESS = """
SELECT id::text AS owner FROM users WHERE tenant = :tenant
UNION SELECT 'key:' || name FROM api_keys WHERE tenant = :tenant AND user_id IS NULL
"""
_NAMED_ELSEWHERE = f"""
SELECT owner FROM ({_WITH_ACCESS}
    UNION SELECT owner FROM files WHERE tenant = :tenant
    UNION SELECT owner FROM early_cancels WHERE tenant = :tenant
) AS o WHERE owner IS NOT NULL
"""

_HIDE = f"""
UPDATE conversations c SET deleted_at = coalesce(c.deleted_at, now()), metadata = '{{}}' FROM {KEYS} AS k
WHERE c.tenant = k.tenant AND c.id = k.id AND (c.deleted_at IS NULL OR c.metadata <> '{{}}')
"""
# The head of a conversation last: its end makes the next turn run.
_OPEN = f"""
SELECT r.tenant, r.id FROM {KEYS} AS k JOIN requests r ON r.tenant = k.tenant AND r.{{on}} = k.id
WHERE r.status IN ('waiting', 'pending') OR (r.status = 'in_progress' AND r.cancel_requested_at IS NULL)
ORDER BY r.seq DESC LIMIT :limit
"""
# A cancel returns every reply that is not published yet, and their texts must not go out any more.
_FORGET_REPLIES = f"""
UPDATE outbox o SET value = (CAST(o.value AS jsonb) - 'metadata' - 'output' || '{{{{"reply": null}}}}')::text
FROM {KEYS} AS k WHERE o.tenant = k.tenant AND o.{{on}} = k.id AND o.published_at IS NULL
"""
_FORGET_BODIES = f"""
UPDATE requests r SET body = NULL, deleted_at = coalesce(r.deleted_at, now()) FROM {KEYS} AS k
WHERE r.tenant = k.tenant AND r.id = k.id
"""
_ENDED = f"""
SELECT r.tenant, r.id FROM {KEYS} AS k JOIN requests r ON r.tenant = k.tenant AND r.{{on}} = k.id
WHERE r.finished_at IS NOT NULL LIMIT :limit
"""
_DELETE_REQUESTS = f"""
WITH gone AS (
    DELETE FROM requests r USING {KEYS} AS k WHERE r.tenant = k.tenant AND r.id = k.id AND r.finished_at IS NOT NULL
    RETURNING r.tenant, r.id, r.conversation_id
), said AS (
    DELETE FROM messages m USING gone g
    WHERE m.tenant = g.tenant AND m.conversation_id = g.conversation_id AND m.request_id = g.id
    RETURNING 1
), replies AS (
    DELETE FROM outbox o USING gone g WHERE o.tenant = g.tenant AND o.request_id = g.id
), cancels AS (
    DELETE FROM early_cancels e USING gone g WHERE e.tenant = g.tenant AND e.id = g.id
), letters AS (
    DELETE FROM dead_letters d USING gone g WHERE d.tenant = g.tenant AND d.request_id = g.id
    RETURNING 1
), replayed AS (
    DELETE FROM dead_letters d USING gone g
    WHERE d.tenant = g.tenant AND d.replayed_as = g.id AND d.request_id IS DISTINCT FROM g.id
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS requests, (SELECT count(*) FROM said) AS messages,
    (SELECT count(*) FROM letters) + (SELECT count(*) FROM replayed) AS dead_letters
"""
_DELETE_MESSAGES = f"""
DELETE FROM messages WHERE id IN (
    SELECT m.id FROM messages m JOIN {KEYS} AS k ON m.tenant = k.tenant AND m.conversation_id = k.id LIMIT :limit
) RETURNING 1
"""
_OF_THEM = "t.tenant = c.tenant AND t.conversation_id = c.id"
_CUT = f"""
DELETE FROM branches b USING {KEYS} AS k
WHERE b.tenant = k.tenant AND (b.conversation_id = k.id OR b.parent_id = k.id)
"""
_DELETE_CONVERSATIONS = f"""
DELETE FROM conversations c USING {KEYS} AS k
WHERE c.tenant = k.tenant AND c.id = k.id AND NOT EXISTS (SELECT FROM requests t WHERE {_OF_THEM})
    AND NOT EXISTS (SELECT FROM messages t WHERE {_OF_THEM})
RETURNING c.id
"""

# In JSON a header is a pair of its name and its value in base64.
_WROTE = " OR ".join(f"coalesce(t.{name} @> CAST(:header AS jsonb), false)" for name in ("headers", "edited_headers"))
_DELETE_LETTERS = f"""
WITH page AS MATERIALIZED (
    SELECT t.id, ({_WROTE}) AND {_EARLIER} AS theirs FROM dead_letters t
    WHERE t.tenant = :tenant AND t.id > :after ORDER BY t.id LIMIT :limit
), gone AS (
    DELETE FROM dead_letters d USING page p WHERE d.id = p.id AND p.theirs RETURNING 1
)
SELECT (SELECT max(id) FROM page) AS last, (SELECT count(*) FROM gone) AS found
"""
# A line of a failed call names its request, which is there as long as the line.
_NAMES = "substring(t.message FROM '^request ([0-9a-f-]{36}) ')"
_DELETE_LOGS = f"""
WITH page AS MATERIALIZED (
    SELECT t.id, CAST({_NAMES} AS uuid) AS request_id FROM logs t
    WHERE t.tenant = :tenant AND t.id > :after ORDER BY t.id LIMIT :limit
), gone AS (
    DELETE FROM logs d USING page p WHERE d.id = p.id AND p.request_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM requests r WHERE r.tenant = :tenant AND r.id = p.request_id)
    RETURNING 1
)
SELECT (SELECT max(id) FROM page) AS last, (SELECT count(*) FROM gone) AS found
"""

_DELETE_FILES = f"""
UPDATE files SET deleted_at = now() WHERE (tenant, id) IN (
    SELECT tenant, id FROM files t
    WHERE tenant = :tenant AND owner = :owner AND deleted_at IS NULL AND {_EARLIER} LIMIT :limit
) RETURNING id
"""
_ANY_FILE = f"SELECT EXISTS (SELECT FROM files t WHERE tenant = :tenant AND owner = :owner AND {_EARLIER}) AS found"
_DELETE_EARLY_CANCELS = "DELETE FROM early_cancels WHERE tenant = :tenant AND owner = :owner RETURNING 1"
_DELETE_TOTALS = "DELETE FROM owner_totals WHERE tenant = :tenant AND NOT whole AND owner = :owner"

# Keys are deleted with their user; then only the audit knows that they were the user's.
_CREDENTIALS = """
SELECT 'user:' || CAST(:owner AS text) AS actor
UNION SELECT 'key:' || id FROM api_keys WHERE tenant = :tenant AND (
    user_id::text = :owner OR (user_id IS NULL AND 'key:' || name = :owner))
UNION SELECT 'key:' || substr(target, 6) FROM audit
WHERE tenant = :tenant AND action = 'key.create' AND after ->> 'user_id' = :owner
"""
_IDS = "CAST('{user_id,request_id,retried_as,branch_of,copy_of}' AS text[])"
_FORGET_ACTORS = """
UPDATE audit SET actor = 'erased' WHERE id IN (
    SELECT id FROM audit WHERE tenant = :tenant AND actor = ANY(:actors) LIMIT :limit
) RETURNING 1
"""
_FORGET_TARGETS = f"""
UPDATE audit SET target = split_part(target, '/', 1) || '/erased', before = before - {_IDS}, after = after - {_IDS}
WHERE tenant = :tenant AND target = ANY(:targets)
"""
# Entries about what is another owner's, which name what was made of it.
_FORGET_MENTIONS = f"""
UPDATE audit SET after = after - {_IDS}
WHERE tenant = :tenant AND action = ANY('{{conversation.branch,conversation.copy,dead_letter.replay,request.retry}}')
    AND ARRAY[after ->> 'branch_of', after ->> 'copy_of', after ->> 'request_id', after ->> 'retried_as']
        && CAST(:ids AS text[])
"""
_FORGET_PAUSES = (
    "UPDATE pauses SET paused_by = 'erased', reason = '' WHERE tenant = :tenant AND paused_by = ANY(:actors)"
)
_DELETE_ACCOUNT = f"""
WITH programs AS (
    DELETE FROM api_keys t WHERE tenant = :tenant AND user_id IS NULL AND 'key:' || name = :owner AND {_EARLIER}
)
DELETE FROM users WHERE tenant = :tenant AND id = CAST(:user_id AS uuid)
"""

# A dry run reads what lists show, by their indexes and in their order, so that it takes no longer in a larger table.
_REQUESTS = """(
    SELECT id, conversation_id FROM requests WHERE tenant = :tenant AND user_name = :owner AND deleted_at IS NULL
    ORDER BY created_at DESC, id DESC LIMIT :most
) AS t"""
# Hidden ones are not in the index of conversations. Each has one request, which has its id.
_CONVERSATIONS = f"""(
    (
        SELECT id FROM conversations WHERE tenant = :tenant AND coalesce(owner, user_id::text) = :owner
            AND deleted_at IS NULL AND NOT {HIDDEN.format(id="id")}
        ORDER BY created_at DESC, id LIMIT :most
    )
    UNION ALL SELECT id FROM {_REQUESTS} WHERE id = conversation_id AND {HIDDEN.format(id="id")}
) AS c"""
_LETTERS_LOOKED_AT = 50_000
_COUNTS = {
    "conversations": _CONVERSATIONS,
    "messages": f"{_CONVERSATIONS} JOIN messages m ON m.tenant = :tenant AND m.conversation_id = c.id",
    "requests": _REQUESTS,
    "files": "files WHERE tenant = :tenant AND owner = :owner AND deleted_at IS NULL AND request_id IS NULL",
    "dead_letters": f"""(
        SELECT headers, edited_headers FROM dead_letters WHERE tenant = :tenant
        ORDER BY created_at DESC, id DESC LIMIT {_LETTERS_LOOKED_AT}
    ) AS t WHERE {_WROTE}""",
}
_COUNT = "SELECT count(*) AS n FROM (SELECT FROM {rows} LIMIT :most) AS t"


@dataclass(frozen=True)
class Step:
    """What a step cancelled. ``left``: there is more to do of the same."""

    cancelled: CancelledBatch | None
    left: bool


async def count(database: Database, tenant: str, owner: str) -> dict[str, int]:
    """How much an owner has of what lists show, by kind: up to ``MOST_COUNTED``, of the newest 50,000 dead letters."""
    values = {"tenant": tenant, "owner": owner, "header": _header(owner), "most": MOST_COUNTED}
    return {kind: (await database.run(_COUNT.format(rows=rows), **values))[0].n for kind, rows in _COUNTS.items()}


async def names_of(database: Database, erasure: StoredErasure, hasher: OwnerHasher) -> list[str]:
    """Whose data an erasure is about. Of one that was read back from Kafka only the hash of the name is known."""
    if erasure.owner is not None:
        return [erasure.owner]
    everyone = _owners(database, erasure.tenant)
    return list({each async for each in everyone if erasure.owner_hash in hasher.hashes(erasure.tenant, each)})


async def end_access(database: Database, hasher: OwnerHasher) -> None:
    """End the access of owners whose erasure was read back from Kafka, and is not done here yet."""
    ledger = await erasures.ledger(database)
    unnamed = [each for each in ledger.erasures if each.owner is None and each.finished_at is None]
    for tenant in {each.tenant for each in unnamed}:
        for row in await database.run(_WITH_ACCESS, tenant=tenant):
            hashes = hasher.hashes(tenant, row.owner)
            for erasure in (each for each in unnamed if each.owner_hash in hashes):
                async with database.transaction() as tx:
                    await erasures.end_access(tx, tenant, row.owner, until=erasure.refuses_until)


async def _owners(database: Database, tenant: str) -> AsyncIterator[str]:
    """All owners that have anything in a tenant, each at least once."""
    for row in await database.run(_NAMED_ELSEWHERE, tenant=tenant):
        yield row.owner
    for table, owner in _OWNER_OF.items():
        statement, after = _OWNERS.format(table=table, owner=owner), UUID(int=0)
        while (found := (await database.run(statement, tenant=tenant, after=after, limit=_PAGE))[0]).last:
            for each in found.owners:
                if each is not None:
                    yield each
            after = found.last


async def conversations(database: Database, erasure: StoredErasure, owner: str) -> AsyncIterator[list[ConversationRef]]:
    """The owner's conversations, hidden and deleted ones included, some at a time."""
    async for ids in _walk(database, "conversations", erasure, owner):
        yield [ConversationRef(erasure.tenant, id) for id in ids]


async def requests(database: Database, erasure: StoredErasure, owner: str) -> AsyncIterator[list[RequestRef]]:
    """The owner's requests, whatever conversation they are in, some at a time."""
    async for ids in _walk(database, "requests", erasure, owner):
        yield [RequestRef(erasure.tenant, id) for id in ids]


async def erase_conversations(database: Database, id: UUID, refs: Collection[ConversationRef]) -> Step:
    """Delete a bounded part of these conversations, and cancel what is open in them. Running requests end first."""
    async with database.transaction() as tx:
        await lock_conversations(tx, refs)
        keys = refs_json(refs)
        await tx.run(_HIDE, refs=keys)
        step = await _erase_requests(tx, id, "conversation_id", keys)
        messages = len(await tx.run(_DELETE_MESSAGES, refs=keys, limit=_MESSAGES_AT_ONCE))
        await tx.run(_CUT, refs=keys)
        gone = [row.id for row in await tx.run(_DELETE_CONVERSATIONS, refs=keys)]
        await _forget_in_audit(tx, refs, "conversations", gone)
        await erasures.add(tx, id, {"conversations": len(gone), "messages": messages})
    return Step(step.cancelled, step.left or messages == _MESSAGES_AT_ONCE)


async def erase_requests(database: Database, id: UUID, refs: Collection[RequestRef]) -> Step:
    """Delete these requests, which are in conversations of others, and cancel those that are open."""
    async with database.transaction() as tx:
        await lock_conversations(tx, await conversations_of(tx, refs))
        return await _erase_requests(tx, id, "id", refs_json(refs))


async def erase_files(database: Database, erasure: StoredErasure, owner: str) -> int:
    """Have the sweep of files delete all files of the owner. Returns how many that were not deleted before."""
    tenant, found = erasure.tenant, 0
    of = {"tenant": tenant, "owner": owner, "until": erasure.refuses_until}
    while True:
        async with database.transaction() as tx:
            rows = await tx.run(_DELETE_FILES, **of, limit=_REQUESTS_AT_ONCE)
            if rows:
                await tx.run(_FORGET_TARGETS, tenant=tenant, targets=[f"files/{row.id}" for row in rows])
                await erasures.add(tx, erasure.id, {"files": len(rows)})
        found += len(rows)
        if len(rows) < _REQUESTS_AT_ONCE:
            return found


async def any_file(database: Database, erasure: StoredErasure, owner: str) -> bool:
    """Whether a file of the owner is left in the home of files."""
    of = {"tenant": erasure.tenant, "owner": owner, "until": erasure.refuses_until}
    return bool((await database.run(_ANY_FILE, **of))[0].found)


async def erase_letters(database: Database, erasure: StoredErasure, owner: str) -> int:
    """Delete dead letters that a gateway wrote for the owner, and log lines of requests that are gone."""
    values = {"tenant": erasure.tenant, "header": _header(owner), "until": erasure.refuses_until}
    found = 0
    for statement, kind in ((_DELETE_LETTERS, "dead_letters"), (_DELETE_LOGS, None)):
        after = 0
        while (page := (await database.run(statement, **values, after=after, limit=_PAGE))[0]).last:
            after = page.last
            if page.found and kind:
                await erasures.add(database, erasure.id, {kind: page.found})
                found += page.found
    return found


async def erase_traces(database: Database, tenant: str, owner: str) -> int:
    """Forget the owner in the audit, in early cancels, totals and pauses."""
    of = {"tenant": tenant, "owner": owner}
    found = len(await database.run(_DELETE_EARLY_CANCELS, **of))
    await database.run(_DELETE_TOTALS, **of)
    actors = [row.actor for row in await database.run(_CREDENTIALS, **of)]
    named = {"tenant": tenant, "actors": actors}
    await database.run(_FORGET_PAUSES, **named)
    targets = [f"users/{owner}", *(f"keys/{actor[4:]}" for actor in actors if actor.startswith("key:"))]
    while changed := len(await database.run(_FORGET_ACTORS, **named, limit=_REQUESTS_AT_ONCE)):
        found += changed
    await database.run(_FORGET_TARGETS, tenant=tenant, targets=targets)
    return found


async def finish(database: Database, erasure: StoredErasure, owners: Sequence[str], until: datetime | None) -> None:
    """Delete the account and keys of an owner, and end the erasure. ``owners``: all names that the owner has.

    ``until``: the owner's records are refused if Kafka got them up to then. None: always.
    """
    async with database.transaction() as tx:
        # First, as it locks the ledger: the transaction that notes an erasure locks it before the accounts, too.
        await erasures.finish(tx, erasure.id, until)
        for owner in owners:
            user_id = erasures.user_id_of(owner)
            of = {"tenant": erasure.tenant, "owner": owner, "user_id": user_id, "until": until}
            await tx.run(_DELETE_ACCOUNT, **of)


async def _erase_requests(tx: Transaction, id: UUID, on: str, keys: str) -> Step:
    open_ones = _refs(await tx.run(_OPEN.format(on=on), refs=keys, limit=_REQUESTS_AT_ONCE))
    cancelled = None
    if open_ones:
        await tx.run(_FORGET_BODIES, refs=refs_json(open_ones))
        await tx.run(_FORGET_REPLIES.format(on="request_id" if on == "id" else on), refs=keys)
        cancelled = await cancel(tx, open_ones)
    ended = _refs(await tx.run(_ENDED.format(on=on), refs=keys, limit=_REQUESTS_AT_ONCE))
    if ended:
        await erasures.add(tx, id, dict((await tx.run(_DELETE_REQUESTS, refs=refs_json(ended)))[0]))
        await _forget_in_audit(tx, ended, "requests", [each.id for each in ended])
    return Step(cancelled, _REQUESTS_AT_ONCE in (len(open_ones), len(ended)))


async def _forget_in_audit(
    tx: Transaction, refs: Collection[RequestRef] | Collection[ConversationRef], kind: str, ids: Sequence[UUID]
) -> None:
    if ids:
        (tenant,) = {ref[0] for ref in refs}
        await tx.run(_FORGET_TARGETS, tenant=tenant, targets=[f"{kind}/{id}" for id in ids])
        await tx.run(_FORGET_MENTIONS, tenant=tenant, ids=[str(id) for id in ids])


async def _walk(database: Database, table: str, erasure: StoredErasure, owner: str) -> AsyncIterator[list[UUID]]:
    statement = _WALK.format(table=table, owner=_OWNER_OF[table], earlier=_CAME_EARLIER[table])
    of, after = {"tenant": erasure.tenant, "owner": owner, "until": erasure.refuses_until}, UUID(int=0)
    while (page := (await database.run(statement, **of, after=after, limit=_PAGE))[0]).last:
        for first in range(0, len(page.ids), _AT_ONCE):
            yield page.ids[first : first + _AT_ONCE]
        after = page.last


def _header(owner: str) -> str:
    return json.dumps([[envelope.USER, base64.b64encode(owner.encode()).decode()]])


def _refs(rows: Sequence[Any]) -> list[RequestRef]:
    return [RequestRef(row.tenant, row.id) for row in rows]

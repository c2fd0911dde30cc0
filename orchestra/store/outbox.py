"""⑧ The outbox: find unpublished replies, and mark published ones."""

from collections.abc import Sequence

from orchestra.store.database import Database
from orchestra.store.turns import Announcement

# A prefix of the index of what is unpublished: while Kafka is away, there may be any number behind it. It has the first
# replies of each conversation in it, so their order is kept.
_UNPUBLISHED = """
SELECT id, tenant, request_id, conversation_id, event_id, value, headers FROM (
    SELECT * FROM outbox WHERE published_at IS NULL ORDER BY tenant, conversation_id, id LIMIT :read
) AS o
WHERE created_at < now() - make_interval(secs => :older_than)
ORDER BY id LIMIT :limit
"""

_MARK = "UPDATE outbox SET published_at = coalesce(published_at, now()) WHERE id = ANY(:ids)"


async def unpublished(database: Database, older_than: float, limit: int) -> list[Announcement]:
    """Replies still unpublished ``older_than`` seconds after they were written, oldest first.

    Of more than ten times ``limit`` that are unpublished, the others are found once some of these are published.
    """
    rows = await database.run(_UNPUBLISHED, older_than=older_than, limit=limit, read=10 * limit)
    return [Announcement(**row) for row in rows]


async def mark_published(database: Database, ids: Sequence[int]) -> None:
    """Mark replies as published, once Kafka has acknowledged them."""
    await database.run(_MARK, ids=list(ids))

"""Measures how long it takes until what a fault broke works again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from faults.ground import Scene
from orchestra.store.database import DatabaseUnavailableError

_LOOK_SECONDS = 0.25
_GIVE_UP_SECONDS = 120.0

_HELD = """
SELECT id, fence FROM requests WHERE worker_id = CAST(:worker AS uuid) AND status = 'in_progress' AND losses = 0
"""
_UNTAKEN = """
SELECT count(*) AS n FROM requests r JOIN unnest(CAST(:ids AS uuid[]), CAST(:fences AS int[])) AS h(id, fence)
ON r.id = h.id AND r.fence = h.fence AND (r.status = 'in_progress' OR r.status = 'pending')
"""
_TAKEN_IN = "SELECT count(*) AS n FROM requests WHERE created_at > to_timestamp(:since)"
_FINISHED = "SELECT count(*) AS n FROM requests WHERE finished_at > to_timestamp(:since)"

_WAITING_FOR_FILES = """
SELECT id FROM requests WHERE status = 'pending' AND error_detail = 'files are unavailable'
"""
_NOT_ENDED = "SELECT count(*) AS n FROM requests WHERE id = ANY(:ids) AND finished_at IS NULL"


async def waiting_for_files(scene: Scene) -> list[UUID]:
    """The turns whose last attempt found the home of files away."""
    return [row.id for row in await scene.database.run(_WAITING_FOR_FILES)]


async def until_ended(scene: Scene, ids: Sequence[UUID], since: float) -> float:
    """Seconds from ``since`` until all of these have ended."""
    return await _until(scene, since, _NOT_ENDED, lambda n: n == 0, ids=list(ids))


async def held(scene: Scene, worker: str | None) -> list[tuple[UUID, int]]:
    """A worker's running turns as (request, fence), only those that have not lost a worker before."""
    if worker is None:
        return []
    try:
        return [(row.id, row.fence) for row in await scene.database.run(_HELD, worker=worker)]
    except DatabaseUnavailableError:
        return []


async def holder(scene: Scene, id: UUID) -> str | None:
    """The worker that runs this request now."""
    rows = await scene.database.run("SELECT worker_id FROM requests WHERE id = :id AND status = 'in_progress'", id=id)
    return str(rows[0].worker_id) if rows else None


async def in_progress(scene: Scene) -> int:
    """The number of turns running now; 0 if it cannot be determined."""
    try:
        (row,) = await scene.database.run("SELECT count(*) AS n FROM requests WHERE status = 'in_progress'")
    except DatabaseUnavailableError:
        return 0
    return int(row.n)


async def until_retaken(scene: Scene, taken: Sequence[tuple[UUID, int]], since: float) -> float:
    """Seconds until each of these was taken by another worker, or has ended."""
    ids, fences = [id for id, _ in taken], [fence for _, fence in taken]
    return await _until(scene, since, _UNTAKEN, lambda n: n == 0, ids=ids, fences=fences)


async def until_finished(scene: Scene, since: float, *, after: float) -> float:
    """Seconds from ``since`` until a request has ended later than ``after``."""
    return await _until(scene, since, _FINISHED, lambda n: n > 0, since=after)


async def until_taken_in(scene: Scene, since: float, *, after: float) -> float:
    """Seconds from ``since`` until a request was taken in later than ``after``."""
    return await _until(scene, since, _TAKEN_IN, lambda n: n > 0, since=after)


async def _until(scene: Scene, began: float, sql: str, enough: Callable[[int], bool], **parameters: object) -> float:
    while time.time() - began < _GIVE_UP_SECONDS:
        try:
            (row,) = await scene.database.run(sql, **parameters)
            if enough(row.n):
                break
        except DatabaseUnavailableError:
            pass
        await asyncio.sleep(_LOOK_SECONDS)
    return time.time() - began

"""Reads what decides when a request is claimed, and explains it (``gateway/reasons.py``)."""

import asyncio

from gateway.pulse import MAX_WORKERS
from gateway.reasons import Scene, explain_row, explain_without_row
from orchestra.store import leases, pauses, progress, waiting
from orchestra.store.database import Database
from orchestra.store.turns import RequestRef
from schemas.api.requests import RequestResource
from schemas.api.waiting import WaitingState
from schemas.topics import REQUESTS


async def explain(database: Database, ref: RequestRef, known: RequestResource) -> WaitingState:
    """Why a request waits. ``known``: the request as its caller sees it. Raises ``DatabaseUnavailableError``."""
    if known.status.terminal:
        return WaitingState(id=ref.id, status=known.status)
    turn, workers, running, paused = await asyncio.gather(
        waiting.place(database, ref),
        leases.every(database, MAX_WORKERS),
        waiting.running(database),
        pauses.in_force(database),
    )
    if turn is None:
        scene = Scene(workers, running, paused)
        read_up_to = await progress.read_up_to(database, REQUESTS.name)
        return explain_without_row(ref.id, scene, read_up_to, cancelling=known.cancel_requested)
    held_by = await pauses.holding(database, ref.tenant, turn.model) if paused else ()
    scene = Scene(workers, running, paused, held_by)
    line = pace = None
    if turn.status == "pending" and turn.run_at <= turn.now:
        line, pace = await asyncio.gather(waiting.line(database, turn), waiting.pace(database))
    return explain_row(ref, turn, scene, line, pace)

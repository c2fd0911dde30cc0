"""The queue, the workers and what has ended, for operators; and a live view, for every caller."""

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response

from gateway.http import openapi
from gateway.http.responses import json_answer
from gateway.http.route import Call, Route
from gateway.pulse import MAX_WORKERS, Pulse, count_of, counted, oldest
from orchestra.store import leases, minutes, pauses, queue
from orchestra.store.database import Database
from orchestra.store.leases import KnownWorker
from orchestra.store.minutes import BOUNDS, Ended
from orchestra.store.pauses import Pause
from orchestra.store.queue import Depth, Group, Totals
from orchestra.store.turns import RequestRef
from orchestra.store.worker_state import StateOfModel, StateOfTopic
from schemas.api.keys import Scope
from schemas.api.live import MAX_IDS, LiveFrame, LiveQuery
from schemas.api.pauses import PauseResource
from schemas.api.queue import DepthOfBoth, DepthOfModel, DepthOfPriority, HeldModel, NextRequest, QueueState
from schemas.api.stats import MAX_DAYS, MAX_POINTS, Durations, StatsAnswer, StatsPoint, StatsQuery
from schemas.api.workers import ModelOfWorker, TopicOfWorker, WorkerList, WorkerResource
from schemas.errors import ErrorCode, OrchestraError

_MAX_MODELS = 20
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
# Of each bucket, seconds.
_MIDDLES = (BOUNDS[0] / 2, *(math.sqrt(lower * upper) for lower, upper in pairwise(BOUNDS)), BOUNDS[-1])


class QueueRoutes:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, pulse: Pulse) -> None:
        self._database = database
        self._pulse = pulse

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        state = {"model": QueueState, "description": "The queue"}
        workers = {"model": WorkerList, "description": "The workers"}
        stats = {"model": StatsAnswer, "description": "The statistics"}
        live: openapi.Responses = {200: openapi.data_stream("One frame a second", LiveFrame)}
        busy = [ErrorCode.TOO_MANY_STREAMS]
        return [
            Route("GET", "/v1/queue", self.get_queue, Scope.OPERATE, {200: state}, lists=True),
            Route("GET", "/v1/workers", self.list_workers, Scope.OPERATE, {200: workers}, lists=True),
            Route("GET", "/v1/stats", self.get_stats, Scope.OPERATE, {200: stats}, lists=True),
            Route("GET", "/v1/live", self.stream_live, Scope.READ, live, also=busy),
        ]

    async def get_queue(self, call: Call[None]) -> Response:
        """Get the state of the queue.

        The call reads a bounded number of rows, however long the queue is.
        """
        tenant = call.caller.tenant
        found, waiting, head, totals, paused = await asyncio.gather(
            self._pulse.look(),
            queue.waiting(self._database, tenant),
            queue.head(self._database, tenant),
            queue.totals(self._database, [(tenant, None)]),
            pauses.of_tenant(self._database, tenant),
        )
        depth, total = found.depth, totals.get((tenant, None), Totals())
        mine = [group for group in depth.groups if group.tenant == tenant]
        state = QueueState(
            open=total.open_turns,
            parked=total.parked_turns,
            runnable=counted(depth, tenant, "runnable"),
            delayed=counted(depth, tenant, "delayed"),
            unread=self._pulse.unread,
            waiting=count_of(waiting),
            in_progress=count_of(found.running.get(tenant)),
            oldest_seconds=oldest(depth, tenant, total),
            by_priority=_by_priority(mine, depth),
            by_model=_by_model(mine),
            by_both=_by_both(mine),
            held=_held(found.workers),
            pauses=[shown_pause(each) for each in paused],
            head=[NextRequest(**{**vars(each), "last_error": each.error_code}) for each in head],
        )
        return json_answer(state)

    async def list_workers(self, call: Call[None]) -> Response:  # noqa: ARG002  every operator sees them all
        """List the workers, with the state that each reported when it last renewed its lease."""
        found = await leases.every(self._database, MAX_WORKERS + 1)
        return json_answer(
            WorkerList(data=[shown_worker(each) for each in found[:MAX_WORKERS]], more=len(found) > MAX_WORKERS)
        )

    async def get_stats(self, call: Call[None], query: Annotated[StatsQuery, Query()]) -> Response:
        """Get statistics of the requests that ended in a period.

        They include all requests that ended up to `counted_at`, usually a few seconds ago.
        """
        before = _rounded_up(query.to or datetime.now(UTC))
        after = query.from_.replace(second=0, microsecond=0) if query.from_ else before - _HOUR
        if not timedelta(0) < before - after <= timedelta(days=MAX_DAYS):
            raise OrchestraError(ErrorCode.INVALID_REQUEST, f"from: must lie before `to`, at most {MAX_DAYS} days")
        if (before - after).total_seconds() > MAX_POINTS * query.step:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, f"step: too short for more than {MAX_POINTS} points")
        counted_at = await minutes.counted_at(self._database)
        found = await minutes.ended(self._database, call.caller.tenant, after, before, query.step, query.by)
        return json_answer(StatsAnswer(counted_at=counted_at, step=query.step, data=[_point(each) for each in found]))

    async def stream_live(self, call: Call[None], query: Annotated[LiveQuery, Query()]) -> Response:
        """Stream the current numbers, one event `frame` a second.

        Operators see the numbers of the tenant, other callers their own. With `ids`, events `changed` name those of the
        given requests that changed their state or began another attempt.
        """
        return await self._pulse.open(call.caller, call.standing(), _refs(call.caller.request, query.ids))


def _refs(request: Callable[[UUID], RequestRef], text: str) -> list[RequestRef]:
    texts = text.split(",", MAX_IDS) if text else []
    if len(texts) > MAX_IDS:
        raise OrchestraError(ErrorCode.INVALID_REQUEST, f"ids: more than {MAX_IDS}")
    try:
        return [request(UUID(each)) for each in texts]
    except ValueError:
        raise OrchestraError(ErrorCode.INVALID_REQUEST, "ids: not ids separated by commas") from None


def _by_priority(mine: Sequence[Group], depth: Depth) -> list[DepthOfPriority]:
    found = []
    for priority in range(9, -1, -1):
        groups = [group for group in mine if group.priority == priority]
        if groups:
            found.append(DepthOfPriority(priority=priority, more=priority in depth.cut, **_summed(groups)))
    return found


def _by_model(mine: Sequence[Group]) -> list[DepthOfModel]:
    models: dict[str, list[Group]] = {}
    for group in mine:
        models.setdefault(group.model, []).append(group)
    longest = sorted(models, key=lambda model: -sum(group.runnable + group.delayed for group in models[model]))
    found = [DepthOfModel(model=model, **_summed(models[model])) for model in longest[:_MAX_MODELS]]
    rest = [group for model in longest[_MAX_MODELS:] for group in models[model]]
    return [*found, DepthOfModel(model=None, **_summed(rest))] if rest else found


def _by_both(mine: Sequence[Group]) -> list[DepthOfBoth]:
    shown = {each.model for each in _by_model(mine)}
    cells: dict[tuple[str | None, int], list[Group]] = {}
    for group in mine:
        cells.setdefault((group.model if group.model in shown else None, group.priority), []).append(group)
    return [
        DepthOfBoth(model=model, priority=priority, **_summed(groups))
        for (model, priority), groups in sorted(cells.items(), key=lambda cell: (-cell[0][1], cell[0][0] or ""))
    ]


def _summed(groups: Sequence[Group]) -> dict[str, Any]:
    ages = [group.oldest_seconds for group in groups if group.oldest_seconds is not None]
    return {
        "runnable": sum(group.runnable for group in groups),
        "held": sum(group.held for group in groups),
        "paused": sum(group.paused for group in groups),
        "delayed": sum(group.delayed for group in groups),
        "oldest_seconds": max(ages, default=None),
    }


def _held(workers: Sequence[KnownWorker]) -> list[HeldModel]:
    found: dict[str, HeldModel] = {}
    for worker in workers:
        for model in worker.state.models if worker.alive and worker.state else ():
            if model.held_seconds is None:
                continue
            until, before = worker.until(model.held_seconds), found.get(model.model)
            found[model.model] = HeldModel(
                model=model.model,
                workers=1 + (before.workers if before else 0),
                until=max(until, before.until) if before else until,
                code=model.code,
                detail=model.detail,
            )
    return list(found.values())


def shown_pause(pause: Pause) -> PauseResource:
    """A pause as it is shown."""
    return PauseResource(
        model=pause.model,
        reason=pause.reason,
        paused_by=pause.paused_by,
        paused_at=pause.paused_at,
        until=pause.until,
    )


def shown_worker(worker: KnownWorker) -> WorkerResource:
    """A worker as it is shown."""
    state = worker.state
    return WorkerResource(
        id=worker.id,
        started_at=worker.started_at,
        lease_until=worker.lease_until,
        alive=worker.alive,
        drain_requested_at=worker.drain_requested_at,
        version=state.version if state else None,
        draining=state.draining if state else None,
        in_flight=state.in_flight if state else None,
        capacity=state.capacity if state else None,
        models=[_model(worker, each) for each in state.models] if state else None,
        topics=[_topic(each) for each in state.topics] if state else None,
    )


def _model(worker: KnownWorker, model: StateOfModel) -> ModelOfWorker:
    return ModelOfWorker(
        model=model.model,
        in_flight=model.in_flight,
        room=model.room,
        held_until=None if model.held_seconds is None else worker.until(model.held_seconds),
        code=model.code,
        detail=model.detail,
    )


def _topic(topic: StateOfTopic) -> TopicOfWorker:
    return TopicOfWorker(topic=topic.topic, partitions=topic.partitions)


def _point(ended: Ended) -> StatsPoint:
    fields = dict(vars(ended))
    queued, ran = fields.pop("queue_buckets"), fields.pop("model_buckets")
    fields["queue_seconds"] = _durations(fields["queue_seconds"], queued)
    fields["model_seconds"] = _durations(fields["model_seconds"], ran)
    return StatsPoint(**fields)


def _durations(seconds: float, buckets: Sequence[int]) -> Durations:
    measured = sum(buckets)
    if not measured:
        return Durations(mean=None, p50=None, p95=None, p99=None)
    return Durations(
        mean=seconds / measured, p50=quantile(0.5, buckets), p95=quantile(0.95, buckets), p99=quantile(0.99, buckets)
    )


def quantile(share: float, buckets: Sequence[int]) -> float:
    """The time that this share of the requests did not exceed, within 14 % of it: the middle of its bucket.

    In the bucket without a bound it is the last bound. Below the first bound the error is at most 5 ms.
    """
    wanted = share * sum(buckets)
    place = next(place for place, below in enumerate(accumulate(buckets)) if below and below >= wanted)
    return _MIDDLES[place]


def _rounded_up(moment: datetime) -> datetime:
    start = moment.replace(second=0, microsecond=0)
    return start if start == moment else start + _MINUTE

"""What this worker says of itself with each renewal of its lease."""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from orchestra.store.worker_state import (
    MAX_MODELS,
    MAX_PARTITIONS,
    MAX_TOPICS,
    StateOfModel,
    StateOfTopic,
    WorkerState,
    short,
)
from orchestra.version import version
from workers.shares import Shares
from workers.throttle import Throttle


class Reporter:
    """Describes a worker. ``assignment``: the partitions that it reads now; ``tenants``: of each topic."""

    def __init__(
        self,
        throttle: Throttle,
        shares: Shares,
        capacity: int,
        tenants: Mapping[str, str],
        assignment: Callable[[], AbstractSet[Any]],
        draining: Callable[[], bool],
    ) -> None:
        self._version = version()
        self._throttle = throttle
        self._shares = shares
        self._capacity = capacity
        self._tenants = tenants
        self._assignment = assignment
        self._draining = draining

    def state(self) -> WorkerState:
        """The present state. All its lists and texts have a maximum length."""
        in_flight = self._throttle.in_flight
        owner_slots, tenant_slots = self._shares.max_held or (None, None)
        return WorkerState(
            version=self._version,
            in_flight=sum(in_flight.values()),
            capacity=self._capacity,
            draining=self._draining(),
            owner_slots=owner_slots,
            tenant_slots=tenant_slots,
            models=list(self._models(in_flight)),
            topics=list(self._topics()),
        )

    def _models(self, in_flight: Mapping[str, int]) -> Iterator[StateOfModel]:
        held = {each.model: each for each in self._throttle.held()}
        room = {limit.model: limit.room for limit in self._throttle.limits()}
        busiest = sorted(in_flight, key=lambda model: -in_flight[model])
        for model in list(dict.fromkeys([*held, *room, *busiest]))[:MAX_MODELS]:
            hold = held.get(model)
            yield StateOfModel(
                model=short(model),
                in_flight=in_flight.get(model, 0),
                room=room.get(model),
                held_seconds=round(hold.seconds, 3) if hold else None,
                code=hold.code if hold else None,
                detail=short(hold.detail) if hold else None,
            )

    def _topics(self) -> Iterator[StateOfTopic]:
        mine: dict[str, list[int]] = {topic: [] for topic in self._tenants}
        for place in self._assignment():
            mine.setdefault(place.topic, []).append(place.partition)
        for topic, partitions in list(mine.items())[:MAX_TOPICS]:
            tenant = self._tenants.get(topic, "")
            yield StateOfTopic(topic=topic, tenant=tenant, partitions=sorted(partitions)[:MAX_PARTITIONS])

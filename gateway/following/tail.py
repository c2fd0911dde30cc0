"""⑨ Reads every partition of ``llm.events`` and hands each record to the hub; reconnects indefinitely."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from gateway.following.events import Hub
from gateway.metrics import Metrics
from orchestra.kafka.clients import KAFKA_ERRORS, check_reading, make_broker, started, tail_reader
from orchestra.loops import keep_running
from orchestra.settings import KafkaSettings
from schemas.topics import EVENTS

BACK_SECONDS = 15 * 60
_MAX_RECORDS = 500
_LAG_SECONDS = 1.0


@asynccontextmanager
async def open_consumer(settings: KafkaSettings) -> AsyncIterator[Any]:
    """A started consumer of every partition of ``llm.events``."""
    broker = make_broker(settings, "orchestra-gateway")
    subscriber = tail_reader(broker, EVENTS.name)
    async with started(broker, settings):
        yield subscriber.consumer


class Tail:
    """Reads ``llm.events`` from 15 minutes ago on. ``open_reader`` returns a started consumer."""

    def __init__(self, open_reader: Callable[[], AbstractAsyncContextManager[Any]], hub: Hub, metrics: Metrics) -> None:
        self._open_reader = open_reader
        self._hub = hub
        self._metrics = metrics
        self._next: dict[Any, int] = {}
        self._to_catch_up: dict[Any, int] | None = None
        self._assigned: set[Any] = set()
        self._lag_seen = 0.0

    @property
    def caught_up(self) -> bool:
        """True once every record that was there at the start has been read."""
        return self._to_catch_up is not None and not self._to_catch_up

    async def run(self) -> None:
        """Read until cancelled, with a new consumer whenever one fails."""
        await keep_running(self._read, "events_tail_failed", expected=(*KAFKA_ERRORS, LookupError))

    async def _read(self) -> None:
        async with self._open_reader() as consumer:
            await self._follow(consumer)

    async def _follow(self, consumer: Any) -> None:
        await self._seek(consumer)
        while True:
            batches = await consumer.getmany(timeout_ms=500, max_records=_MAX_RECORDS)
            if consumer.assignment() != self._assigned:
                # Partitions were added, and the client has lost its position in all of them.
                await self._seek(consumer)
                continue
            if not batches:
                check_reading(consumer)
            for partition, records in batches.items():
                for record in records:
                    self._hub.take(record.key, record.headers, record.value)
                self._next[partition] = records[-1].offset + 1
            await self._note_progress(consumer)
            await asyncio.sleep(0)  # A long backlog must not delay the callers.

    async def _seek(self, consumer: Any) -> None:
        assigned = set(consumer.assignment())
        new = assigned - self._next.keys()
        if not assigned:
            raise LookupError("the topic is not there")
        if new:
            since = int((time.time() - BACK_SECONDS) * 1000)
            found = await consumer.offsets_for_times(dict.fromkeys(new, since))
            ends = await consumer.end_offsets(list(new))
            starts = {partition: found[partition].offset if found[partition] else ends[partition] for partition in new}
            self._next |= starts
            if self._to_catch_up is None:
                self._to_catch_up = {
                    partition: ends[partition] for partition in new if starts[partition] < ends[partition]
                }
        for partition in assigned:
            consumer.seek(partition, self._next[partition])
        self._assigned = assigned

    async def _note_progress(self, consumer: Any) -> None:
        if self._to_catch_up:
            # The position also passes offsets without a record, such as a transaction's marker.
            behind = {p: end for p, end in self._to_catch_up.items() if await consumer.position(p) < end}
            self._to_catch_up = behind
        if time.monotonic() - self._lag_seen > _LAG_SECONDS:
            self._lag_seen = time.monotonic()
            lags = [(consumer.highwater(p) or 0) - self._next[p] for p in self._assigned]
            self._metrics.events_lag.set(sum(lag for lag in lags if lag > 0))

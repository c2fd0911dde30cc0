"""What the parts have used so far: processor time, memory, Kafka records, Postgres commits."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from orchestra.store.database import Database
from schemas.topics import Topic

# Pids of the first process of each part, by the group that it counts for.
Groups = Mapping[str, Sequence[int]]
# Our parts, in the order in which a request meets them; everything else is the harness.
PARTS = ("gateway", "worker", "llm_service", "kafka", "postgres")
OFFSETS_TOPIC, _OFFSETS_PARTITIONS = "__consumer_offsets", 50
_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


@dataclass(frozen=True)
class Process:
    """One process: its parent, and the processor seconds of itself and of its ended children."""

    parent: int
    cpu: float


@dataclass(frozen=True)
class Reading:
    """Counters at one moment. ``cpu``: seconds by group; ``busy`` and ``total``: seconds of the whole machine."""

    cpu: Mapping[str, float]
    busy: float
    total: float
    records: Mapping[str, int]
    commits: int


class Meters:
    """Reads all counters."""

    def __init__(self, database: Database, offsets: AIOKafkaConsumer, topics: Sequence[Topic]) -> None:
        self._database = database
        self._offsets = offsets
        self._places = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
        self._places += [TopicPartition(OFFSETS_TOPIC, number) for number in range(_OFFSETS_PARTITIONS)]

    async def read(self, groups: Groups) -> Reading:
        """All counters now. Processes that descend from no group count as strangers."""
        ends = await self._offsets.end_offsets(self._places)
        records = {
            topic: sum(end for place, end in ends.items() if place.topic == topic)
            for topic in {place.topic for place in ends}
        }
        (row,) = await self._database.run(_COMMITS)
        busy, total = machine_seconds()
        return Reading(attribute(processes(), groups), busy, total, records, row.xact_commit)


@asynccontextmanager
async def open_meters(database: Database, bootstrap: str, topics: Sequence[Topic]) -> AsyncIterator[Meters]:
    """Meters for this database and this Kafka."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as offsets:
        yield Meters(database, offsets, topics)


def processes() -> dict[int, Process]:
    """All readable processes of the machine."""
    found = {}
    for each in psutil.process_iter(["ppid", "cpu_times"]):
        if times := each.info["cpu_times"]:
            ended = times.children_user + times.children_system
            found[each.pid] = Process(each.info["ppid"], times.user + times.system + ended)
    return found


def owners(found: Mapping[int, Process], groups: Groups) -> dict[int, str]:
    """The group of each process: that of its nearest ancestor in one, itself included."""
    group_of = {pid: name for name, pids in groups.items() for pid in pids}
    nearest = {pid: next((each for each in _line(pid, found) if each in group_of), None) for pid in found}
    return {pid: group_of[owner] for pid, owner in nearest.items() if owner}


def attribute(found: Mapping[int, Process], groups: Groups) -> dict[str, float]:
    """Processor seconds by group."""
    seconds = dict.fromkeys(groups, 0.0)
    for pid, group in owners(found, groups).items():
        seconds[group] += found[pid].cpu
    return seconds


def _line(pid: int, found: Mapping[int, Process]) -> Iterable[int]:
    while pid in found:
        yield pid
        pid = found[pid].parent


def machine_seconds() -> tuple[float, float]:
    """Processor seconds of the machine so far: busy, and total."""
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    return busy, busy + times.idle + times.iowait + times.steal


def memory_mb(groups: Groups) -> dict[str, float]:
    """PSS by group: shared pages are divided among the processes that share them."""
    used = dict.fromkeys(groups, 0.0)
    for pid, group in owners(processes(), groups).items():
        used[group] += _pss(pid)
    return used


def _pss(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_full_info().pss) / 1024 / 1024
    except psutil.Error:  # It has ended in the meantime.
        return 0.0

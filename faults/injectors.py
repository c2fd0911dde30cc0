"""The faults: each function injects one kind a number of times under load, and reports what it did."""

import asyncio
import itertools
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Collection, Sequence
from uuid import UUID, uuid4

from faults.client import Http
from faults.ground import Scene
from faults.injected import Injected, Limit
from faults.processes import Process
from faults.recovery import (
    held,
    in_progress,
    until_ended,
    until_finished,
    until_retaken,
    until_taken_in,
    waiting_for_files,
)
from orchestra.failpoints import FAILPOINTS, Order, environment

_MAX_SECONDS_AT_A_POINT = 45.0
# A lease of 15 s, plus the time to notice that it expired.
_MAX_RETAKE_SECONDS = 20.0
WHILE_RUNNING = "while turns ran"
_FAULT = re.compile(rb'"part": "([a-z_.]+)",[^}\n]*"kafka_fault"')
_DRAIN = "drain.after_leaving"
_ONCE_IN_A_LIFE = (_DRAIN, "sweep.after_give_back")


async def kill_workers(scene: Scene, times: int, limit: Limit, at_once: int) -> Injected:
    """`kill -9` several workers within seconds, the busiest first; recovery: a victim's turns run elsewhere.

    Then rest until all turns have been retaken: a group that loses members faster than their sessions end (10 s) takes
    nothing in, and there would be no turns to lose.
    """
    done = Injected("worker kill -9", times)
    while done.done < times and not limit.over:
        async with asyncio.TaskGroup() as watching:
            for _ in range(min(at_once, times - done.done)):
                await limit.pause(random.uniform(0.0, 1.0))
                ready = [worker for worker in scene.workers if worker.ready]
                worker, taken = await _busiest(scene, ready)
                worker = worker or random.choice(ready or scene.workers)
                if worker.signal(signal.SIGKILL):
                    since = done.note()
                    done.counts[WHILE_RUNNING] += bool(taken)
                    if taken:
                        watching.create_task(_note_retake(scene, done, taken, since))
        await limit.pause(random.uniform(0.0, 4.0))
    return done


class Zombies:
    """Workers that freeze for longer than a lease and wake up with endings of old attempts.

    Those named in ``freezing`` freeze themselves where it hurts most, just before they write endings. Of the others a
    few at a time are stopped anywhere.
    """

    def __init__(self, seconds: tuple[float, float], at_once: int, freezing: Collection[str] = ()) -> None:
        self._freezing = freezing
        self._seconds = seconds
        self._at_once = at_once
        self._over = False
        self._stopped: set[str] = set()
        self.done = Injected("worker SIGSTOP and CONT", 0)

    def environment(self, worker: str) -> dict[str, str]:
        """Extra environment of a worker at its start."""
        if self._over or worker not in self._freezing:
            return {}
        return environment({"finish.before_transaction": Order("freeze", random.randint(3, 10))})

    async def run(self, scene: Scene, times: int, limit: Limit) -> Injected:
        """Run until this many have been woken; then no worker freezes any more."""
        self.done.asked = times
        own = [worker for worker in scene.workers if worker.name in self._freezing]
        others = [worker for worker in scene.workers if worker.name not in self._freezing]
        stopping = (self._stop(scene, others, limit) for _ in range(self._at_once))
        await asyncio.gather(*(self._watch(scene, worker, limit) for worker in own), *stopping)
        self._over = True
        for worker in own:
            deaths = len(worker.deaths)
            if worker.signal(signal.SIGKILL):
                await worker.until_death(deaths + 1)
        return self.done

    def _enough(self, limit: Limit) -> bool:
        return self.done.done >= self.done.asked or limit.over

    async def _watch(self, scene: Scene, worker: Process, limit: Limit) -> None:
        while not self._enough(limit):
            if worker.frozen:
                self.done.counts["at the end of a turn"] += 1
                await self._wake(scene, worker, await held(scene, worker.worker_id()))
            await asyncio.sleep(0.1)

    async def _stop(self, scene: Scene, others: Sequence[Process], limit: Limit) -> None:
        while not self._enough(limit):
            free = [worker for worker in others if worker.ready and worker.name not in self._stopped]
            worker, taken = await _busiest(scene, free)
            if worker is None or worker.name in self._stopped or self._enough(limit):
                await asyncio.sleep(0.2)
                continue
            self._stopped.add(worker.name)
            if worker.signal(signal.SIGSTOP):
                self.done.counts["anywhere"] += 1
                await self._wake(scene, worker, taken)
            self._stopped.discard(worker.name)

    async def _wake(self, scene: Scene, worker: Process, taken: "Held") -> None:
        since = self.done.note()
        sleep = asyncio.sleep(random.uniform(*self._seconds))
        await asyncio.gather(sleep, _note_retake(scene, self.done, taken, since) if taken else asyncio.sleep(0))
        worker.signal(signal.SIGCONT)
        await asyncio.sleep(1)  # Time to send what it still has.


async def scale_workers(scene: Scene, events: int, limit: Limit, sizes: Sequence[int], pause: float) -> Injected:
    """Start workers, or drain them with SIGTERM, repeatedly; each worker that joins or leaves is one event."""
    done = Injected("worker joins or drains", events)
    size = 0
    while done.done < events and not limit.over:
        wanted = sizes[size % len(sizes)]
        size += 1
        began, busy = time.time(), await in_progress(scene)
        more, fewer = wanted - len(scene.workers), len(scene.workers) - wanted
        await asyncio.gather(*(scene.add_worker() for _ in range(more)), *(scene.remove_worker() for _ in range(fewer)))
        for _ in range(max(more, fewer)):
            done.note()
        done.counts["joined"] += max(more, 0)
        done.counts["drained"] += max(fewer, 0)
        done.counts[WHILE_RUNNING] += max(more, fewer) if busy else 0
        done.recoveries.append(time.time() - began)
        await limit.pause(pause)
    return done


async def kill_gateways(scene: Scene, times: int, limit: Limit, pause: float) -> Injected:
    """`kill -9` a gateway, never the last one, with calls and streams open; recovery: it answers again."""
    done = Injected("gateway kill -9", times)
    async with asyncio.TaskGroup() as watching:
        while done.done < times and not limit.over:
            await limit.pause(random.uniform(0.5, 1.5) * pause)
            ready = [gateway for gateway in scene.gateways if gateway.ready]
            if len(ready) < 2:
                continue
            gateway = random.choice(ready)
            deaths = len(gateway.deaths)
            if gateway.signal(signal.SIGKILL):
                watching.create_task(_note_ready(gateway, deaths + 1, done, done.note()))
                await gateway.until_death(deaths + 1)
    return done


async def kill_kafka(scene: Scene, times: int, limit: Limit, pause: float) -> Injected:
    """Kill and start the only broker, or restart it gracefully; recovery: requests are taken in again."""
    done = Injected("broker kill -9 or restart", times)
    (broker,) = scene.kafka.brokers
    while done.done < times and not limit.over:
        await limit.pause(pause)
        since = done.note()
        if done.done % 2:
            done.counts["kill -9"] += 1
            await broker.kill()
        else:
            done.counts["restart"] += 1
            await broker.stop()
        await asyncio.sleep(random.uniform(0.0, 2.0))
        await broker.start()
        await _note_accept(scene, done, since)
    return done


async def kill_kafka_under(scene: Scene, calls: int, times: int, limit: Limit) -> Injected:
    """Kill the only broker while at least this many calls are open, and start it again; recovery as for any kill."""
    done = Injected(f"broker kill -9, {calls} calls open", times)
    (broker,) = scene.kafka.brokers
    while done.done < times:
        while (running := await in_progress(scene)) < calls:
            if limit.over:
                return done
            await asyncio.sleep(0.25)
        since = done.note()
        done.counts["calls open, all kills together"] += running
        await broker.kill()
        await asyncio.sleep(random.uniform(0.0, 2.0))
        await broker.start()
        await _note_accept(scene, done, since)
    return done


async def fail_clients(scene: Scene, times: int, limit: Limit) -> Injected:
    """Calls of the Kafka client fail in workers and gateways that were started with faults; counted in their logs."""
    done = Injected("errors of Kafka's client", times)
    while True:
        told = [_FAULT.findall(each.log.read_bytes()) for each in (*scene.workers, *scene.gateways)]
        done.counts = Counter(call.decode() for found in told for call in found)
        done.times = [time.time()] * done.counts.total()
        if limit.over or done.done >= times:
            return done
        await limit.pause(1.0)


async def kill_leaders(scene: Scene, times: int, limit: Limit, pause: float) -> Injected:
    """Kill the one of three brokers that leads a partition of the requests; recovery: new requests are taken in."""
    done = Injected("leader kill -9, three brokers", times)
    while done.done < times and not limit.over:
        await limit.pause(pause)
        leader = await scene.kafka.leader(random.randrange(32))
        since = done.note()
        await leader.kill()
        await _note_accept(scene, done, since)
        await leader.start()
        while not await scene.kafka.in_sync() and not limit.over:
            await asyncio.sleep(0.5)
    return done


async def lose_majority(scene: Scene, http: Http, limit: Limit) -> Injected:
    """Kill two of three brokers: nothing may be accepted until one is back, because a single copy could be lost."""
    done = Injected("two of three brokers away", 1)
    if limit.over:
        return done
    away = random.sample(scene.kafka.brokers, 2)
    since = done.note()
    await asyncio.gather(*(broker.kill() for broker in away))
    body = {"messages": [{"role": "user", "content": "not to be accepted"}]}
    told = await asyncio.gather(
        *(http.post(url, body, uuid4().hex, wait=False) for url in scene.urls for _ in range(5))
    )
    if accepted := sum(each.how in ("acked", "answered") for each in told):
        done.wrong.append(f"{accepted} of {len(told)} requests were accepted with one broker of three")
    done.counts.update(each.how for each in told)
    await asyncio.gather(*(broker.start() for broker in away))
    await _note_accept(scene, done, since)
    return done


async def hide_files(scene: Scene, times: int, limit: Limit, pause: float) -> Injected:
    """Take the folder of files away for seconds and give it back; recovery: all turns that waited for it have ended."""
    done = Injected("home of files away and back", times)
    away = scene.files.with_name("away")
    while done.done < times and not limit.over:
        await limit.pause(random.uniform(0.5, 1.5) * pause)
        scene.files.rename(away)
        done.note()
        try:
            await asyncio.sleep(random.uniform(1.0, 5.0))
            waiting = await waiting_for_files(scene)
        finally:
            away.rename(scene.files)
        done.counts["turns that waited"] += len(waiting)
        if waiting:
            done.recoveries.append(await until_ended(scene, waiting, time.time()))
    return done


async def kill_postgres(scene: Scene, times: int, limit: Limit, pause: float) -> Injected:
    """Stop Postgres at once (SIGQUIT) or kill it, in turn, and start it; recovery: a request has ended again."""
    done = Injected("Postgres immediate stop or kill -9", times)
    while done.done < times and not limit.over:
        await limit.pause(pause)
        since = done.note()
        number = signal.SIGQUIT if done.done % 2 else signal.SIGKILL
        done.counts["immediate" if number is signal.SIGQUIT else "kill -9"] += 1
        scene.postgres.signal(number)
        await scene.postgres.ended()
        await asyncio.sleep(random.uniform(0.0, 2.0))
        await scene.postgres.start()
        done.recoveries.append(await until_finished(scene, since, after=time.time()))
    return done


async def cut_commits(scene: Scene, times: int, limit: Limit, pause: float) -> Injected:
    """Break the workers' connections to Postgres after a COMMIT was passed on, before its answer."""
    done = Injected("Postgres cut after COMMIT", times)
    assert scene.proxy
    while done.done < times and not limit.over:
        before = scene.proxy.cuts
        scene.proxy.cut_commits = random.choice((1, 1, 1, 2, 5))
        while scene.proxy.cuts == before and not limit.over:
            await asyncio.sleep(0.01)
        await limit.pause(random.uniform(0.0, 2.0) * pause)
        for _ in range(scene.proxy.cuts - before):
            done.note()
    scene.proxy.cut_commits = 0
    return done


class FailpointRuns:
    """Which worker dies at which point: every point a number of times, spread over successive starts of workers."""

    def __init__(self, each: int, victims: int) -> None:
        self._left = [point for point in FAILPOINTS for _ in range(each)]
        random.shuffle(self._left)
        # The points given to each start of a victim; its deaths come in the same order.
        self._told: dict[str, list[str]] = {f"worker-{number}": [] for number in range(1, victims + 1)}
        self.done = Injected("failpoint", len(self._left))

    def environment(self, worker: str) -> dict[str, str]:
        """Extra environment of a worker at its start; empty for one that is to live."""
        if worker not in self._told:
            return {}
        point = self._left.pop() if self._left else ""
        self._told[worker].append(point)
        times = 1 if point in _ONCE_IN_A_LIFE else random.choice((1, 1, 2, 3))
        return environment({point: Order("kill", times)}) if point else {}

    async def run(self, scene: Scene, limit: Limit) -> Injected:
        """Run until each point was reached as often as asked for."""
        victims = [worker for worker in scene.workers if worker.name in self._told]
        await asyncio.gather(*(self._watch(worker, limit) for worker in victims))
        return self.done

    async def _watch(self, worker: Process, limit: Limit) -> None:
        told = self._told[worker.name]
        for life in itertools.count():
            while len(told) <= life:
                await asyncio.sleep(0.02)
            if not told[life] or limit.over:
                return
            if await self._dies_by_itself(worker, told[life], life + 1):
                self.done.note()
                self.done.counts[told[life]] += 1
            else:
                self._left.insert(0, told[life])

    async def _dies_by_itself(self, worker: Process, point: str, deaths: int) -> bool:
        try:
            async with asyncio.timeout(_MAX_SECONDS_AT_A_POINT):
                if point == _DRAIN:
                    await worker.until_ready()
                    await asyncio.sleep(random.uniform(1, 5))
                    worker.signal(signal.SIGTERM)
                await worker.until_death(deaths)
        except TimeoutError:
            worker.signal(signal.SIGKILL)
            await worker.until_death(deaths)
            return False
        return worker.deaths[deaths - 1] == -signal.SIGKILL


Held = Sequence[tuple[UUID, int]]


async def _busiest(scene: Scene, workers: Sequence[Process]) -> tuple[Process | None, Held]:
    """The worker that runs the most turns, and those turns; None if none runs any."""
    holds = [(worker, await held(scene, worker.worker_id())) for worker in workers]
    worker, most = max(holds, key=lambda pair: len(pair[1]), default=(None, []))
    return (worker, most) if most else (None, [])


async def _note_ready(process: Process, deaths: int, done: Injected, since: float) -> None:
    await process.until_death(deaths)
    await process.until_ready()
    done.recoveries.append(time.time() - since)


async def _note_retake(scene: Scene, done: Injected, taken: Held, since: float) -> None:
    seconds = await until_retaken(scene, taken, since)
    done.recoveries.append(seconds)
    if seconds > _MAX_RETAKE_SECONDS:
        done.wrong.append(f"turns of a lost worker ran elsewhere only after {seconds:.1f} s")


async def _note_accept(scene: Scene, done: Injected, since: float) -> None:
    done.recoveries.append(await until_taken_in(scene, since, after=time.time()))

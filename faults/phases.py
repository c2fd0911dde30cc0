"""The phases of a campaign: which services, load and faults, and how many faults at each size."""

import itertools
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import aiohttp

from faults import hostile, injectors
from faults.client import Http
from faults.door_turn import DOOR_STREAMS
from faults.evidence import Evidence, Place
from faults.ground import Scene, Setup
from faults.heads import Heads
from faults.injected import Injected, Limit
from faults.ledger import Ledger, Way
from faults.load import Load, Plan
from faults.poison import KINDS, Poisoner, mixed
from faults.question import FILE, LARGE
from faults.sampler import Sampler
from faults.turn import HOLDING
from orchestra.kafka.faults import environment
from schemas.errors import ErrorCode

# More than any phase has time for; the load stops once the faults have been injected.
_ENDLESS = 20_000
_FAULTY = "rate_limited=0.2,error=0.1,hang=0.05,reset=0.05,cut=0.05,garbage=0.02,latency_ms=50,retry_after=0.5"
# Workers call a refusing model less and less: most faults come from one that does not refuse, in turns with the other.
_BROKEN = "error=0.2,hang=0.03,reset=0.1,cut=0.1,garbage=0.04,latency_ms=50"
_TURN_SECONDS = {_FAULTY: 10.0, _BROKEN: 30.0}
_MAX_GROWTH = 0.5
# Each call of the model takes 20 s, so it is open across a kill.
_LONG = "latency_ms=6000,gap_ms=2000"
_OPEN_CALLS = 500
_RESULTS_A_KILL = 20
_KAFKA_FAULTS = environment(
    {
        "consumer.start": 0.2,
        "consumer.getmany": 0.01,
        "consumer.commit": 0.05,
        "consumer.position": 0.01,
        "consumer.highwater": 0.01,
        "consumer.beginning_offsets": 0.2,
        "consumer.end_offsets": 0.2,
        "consumer.offsets_for_times": 0.2,
        "consumer.committed": 0.05,
        "consumer.stop": 0.3,
        "producer.start": 0.3,
        "producer.send": 0.002,
        "producer.acknowledgement": 0.002,
        "producer.stop": 0.3,
        "client.fetch_all_metadata": 0.2,
    }
)
_FLOOD_SECONDS = {False: 8.0, True: 30.0}


@dataclass
class Trial:
    """One phase while it runs. ``wrong``: called once everything has settled; returns lines that are violations.

    ``forged``: places of events that no worker wrote, which are no evidence of what workers did.
    """

    scene: Scene
    load: Load
    ledger: Ledger
    sampler: Sampler
    limit: Limit
    times: int
    full: bool
    wrong: Callable[[Evidence], Iterator[str]] = lambda _: iter(())
    forged: Collection[Place] = ()


Inject = Callable[[Trial], Awaitable[Sequence[Injected]]]


@dataclass(frozen=True)
class Phase:
    """``ci``, ``full``: how often to inject its fault. ``shares``: of the time for all phases, for both sizes.

    ``spares_workers``: no worker dies, freezes or loses Postgres, so none may lose a turn. ``counts_redelivery``: the
    load sends nothing twice, so records of existing rows are redeliveries from Kafka. ``minutes``: its own time,
    outside the time that the others share.
    """

    name: str
    ci: int
    full: int
    shares: tuple[float, float]
    inject: Inject
    setup: Callable[[bool], Setup] = lambda _: Setup(oracle="latency_ms=400,gap_ms=20")
    plan: Plan = field(default_factory=lambda: Plan(conversations=_ENDLESS, concurrency=30))
    brokers: int = 1
    spares_workers: bool = False
    counts_redelivery: bool = False
    loaded: bool = True
    minutes: float = 0.0


async def _worker_kills(trial: Trial) -> Sequence[Injected]:
    return [await injectors.kill_workers(trial.scene, trial.times, trial.limit, 8 if trial.full else 3)]


async def _tool_turns(trial: Trial) -> Sequence[Injected]:
    counted = _load_counts("results of tool calls", "results", _RESULTS_A_KILL * trial.times)
    return [*await _worker_kills(trial), *await counted(trial)]


async def _scale(trial: Trial) -> Sequence[Injected]:
    sizes = (8, 2, 1) if trial.full else (4, 1)
    return [await injectors.scale_workers(trial.scene, trial.times, trial.limit, sizes, 3.0)]


async def _gateway_kills(trial: Trial) -> Sequence[Injected]:
    return [await injectors.kill_gateways(trial.scene, trial.times, trial.limit, 1.0)]


async def _broker_kills(trial: Trial) -> Sequence[Injected]:
    return [await injectors.kill_kafka(trial.scene, trial.times, trial.limit, 3.0)]


async def _open_calls(trial: Trial) -> Sequence[Injected]:
    return [await injectors.kill_kafka_under(trial.scene, _OPEN_CALLS, trial.times, trial.limit)]


async def _kafka_errors(trial: Trial) -> Sequence[Injected]:
    return [await injectors.fail_clients(trial.scene, trial.times, trial.limit)]


async def _leader_kills(trial: Trial) -> Sequence[Injected]:
    kills = await injectors.kill_leaders(trial.scene, trial.times, trial.limit, 3.0)
    async with aiohttp.ClientSession() as session:
        return [kills, await injectors.lose_majority(trial.scene, Http(session), trial.limit)]


async def _postgres_kills(trial: Trial) -> Sequence[Injected]:
    return [await injectors.kill_postgres(trial.scene, trial.times, trial.limit, 3.0)]


async def _files_away(trial: Trial) -> Sequence[Injected]:
    hidden = await injectors.hide_files(trial.scene, trial.times, trial.limit, 3.0)
    if not hidden.counts["turns that waited"]:
        hidden.wrong.append("no turn waited for its files")
    trial.wrong = _none_gave_up
    hidden.counts["documents by id"] = trial.load.counts[FILE]
    hidden.counts["large bodies"] = trial.load.counts[LARGE]
    return [hidden]


async def _commit_cuts(trial: Trial) -> Sequence[Injected]:
    return [await injectors.cut_commits(trial.scene, trial.times, trial.limit, 0.2)]


class _Failpoints:
    """Workers learn at their start at which points to die, so the plan must exist before them."""

    def __init__(self) -> None:
        self._runs = injectors.FailpointRuns(0, 0)

    def setup(self, full: bool) -> Setup:  # noqa: FBT001  as in Phase
        victims = 4
        self._runs = injectors.FailpointRuns(10 if full else 1, victims)
        return Setup(workers=victims + 1, oracle="latency_ms=200,gap_ms=20", each_start=self._runs.environment)

    async def inject(self, trial: Trial) -> Sequence[Injected]:
        return [await self._runs.run(trial.scene, trial.limit)]


class _Zombies:
    """Workers learn at their start whether to freeze themselves, so the plan must exist before them."""

    def __init__(self) -> None:
        self._zombies = injectors.Zombies((0, 0), 0)

    def setup(self, full: bool) -> Setup:  # noqa: FBT001  as in Phase
        self._zombies = injectors.Zombies(
            (20.0, 40.0) if full else (19.0, 22.0),
            3 if full else 1,
            [f"worker-{n}" for n in range(1, 6 if full else 4)],
        )
        return Setup(
            workers=11 if full else 5, oracle="latency_ms=1000,gap_ms=100", each_start=self._zombies.environment
        )

    async def inject(self, trial: Trial) -> Sequence[Injected]:
        return [await self._zombies.run(trial.scene, trial.times, trial.limit)]


def _none_gave_up(evidence: Evidence) -> Iterator[str]:
    """Only a caller that holds a connection open may get the error that files are away; all else waits for them."""
    told = {entry.id for entry in evidence.entries if entry.way in (*HOLDING, *DOOR_STREAMS)}
    for row in evidence.requests:
        if row.status == "failed" and not (row.id in told and row.error_code == ErrorCode.UNAVAILABLE):
            yield f"{row.id} failed with {row.error_code}"


def _load_counts(what: str, counter: str, times: int = 0) -> Inject:
    """A fault that the load itself causes: wait until it happened as often as asked for.

    ``times``: if that is another number than the phase's.
    """

    async def inject(trial: Trial) -> Sequence[Injected]:
        done = Injected(what, times or trial.times)
        while trial.load.counts[counter] < done.asked and not trial.limit.over:
            await trial.limit.pause(0.5)
        done.times = [time.time()] * trial.load.counts[counter]
        return [done]

    return inject


async def _faulty_answers(trial: Trial) -> Sequence[Injected]:
    done = Injected("faulty answers of the model", trial.times)
    url = trial.scene.oracle.url
    specs = itertools.cycle(_TURN_SECONDS.items())
    changed = -math.inf
    async with aiohttp.ClientSession() as session:
        while not trial.limit.over and sum(done.counts.values()) < trial.times:
            if time.monotonic() > changed:
                spec, seconds = next(specs)
                await (await session.put(f"{url}/faults", data=spec)).read()
                changed = time.monotonic() + seconds
            await trial.limit.pause(0.5)
            async with session.get(f"{url}/stats") as response:
                ended = await response.json()
            done.counts.update(
                {name.removeprefix("fault_"): n - done.counts[name.removeprefix("fault_")]
                 for name, n in ended.items() if name.startswith("fault_")}
            )  # fmt: skip
    done.times = [time.time()] * sum(done.counts.values())
    return [done]


async def _poison(trial: Trial) -> Sequence[Injected]:
    poisoner = Poisoner()
    trial.wrong = poisoner.wrong
    return [await poisoner.run(trial.scene, mixed(trial.times // len(KINDS)), trial.limit)]


async def _overload(trial: Trial) -> Sequence[Injected]:
    done = Injected("flood at ten times capacity, requests", trial.times)
    seconds = _FLOOD_SECONDS[trial.full]
    await trial.load.flood(rate=trial.times / seconds, seconds=seconds)
    counts = trial.load.counts
    for name in ("flood_acked", "flood_refused", "flood_unknown", "flood_answered", "given_up"):
        done.counts[name] = counts[name]
    done.times = [time.time()] * sum(done.counts.values())
    if counts["refused_without_retry_after"]:
        done.wrong.append(f"{counts['refused_without_retry_after']} refusals without Retry-After")
    if not counts["flood_refused"]:
        done.wrong.append("nothing was refused: it was no overload")
    trial.wrong = lambda _: (
        f"{name}: memory grew by {100 * growth:.0f} % during and after the flood"
        for name, growth in trial.sampler.growth("gateway", "worker").items()
        if growth > _MAX_GROWTH
    )
    return [done]


async def _heads(trial: Trial) -> Sequence[Injected]:
    heads = Heads(trial.scene, trial.ledger, trial.limit)
    slow = await heads.beside_slow_ones(short=500 if trial.full else 100, slow=20 if trial.full else 5)
    killer = await heads.killing_its_worker(*(("poll", 5, 50) if trial.full else ("wait", 3, 20)))
    return [slow, killer]


async def _hostile_neighbours(trial: Trial) -> Sequence[Injected]:
    siege = hostile.Hostile(trial.scene, trial.ledger, trial.sampler, trial.limit)
    trial.wrong, trial.forged = siege.wrong, siege.forged
    return await siege.run(kills=trial.times, bombs=5 if trial.full else 1)


_FAILPOINTS = _Failpoints()
_ZOMBIES = _Zombies()
_STEADY = Plan(conversations=_ENDLESS, concurrency=30)
_STREAMS: Mapping[Way, float] = {"stream": 0.5, "chat_stream": 0.2, "response_stream": 0.3}
PHASES = (
    Phase("worker_kills", 6, 200, (5, 14), _worker_kills,
          lambda full: Setup(workers=10 if full else 4, oracle="latency_ms=700,gap_ms=40")),
    # Calls of tools and their results, across the deaths of workers.
    Phase("tool_turns", 6, 60, (5, 8), _tool_turns, lambda full: Setup(workers=6 if full else 4),
          plan=replace(_STEADY, tools=0.6, turns=8)),
    Phase("failpoints", 14, 140, (8, 10), _FAILPOINTS.inject, _FAILPOINTS.setup, counts_redelivery=True,
          plan=replace(_STEADY, duplicates=0, impostors=0, disconnects=0, cancels=0)),
    Phase("zombies", 4, 50, (6, 14), _ZOMBIES.inject, _ZOMBIES.setup),
    Phase("scale", 6, 30, (3, 4), _scale, lambda _: Setup(workers=1, oracle="latency_ms=400,gap_ms=20"),
          spares_workers=True),
    Phase("gateway_kills", 6, 100, (4, 8), _gateway_kills, lambda full: Setup(gateways=3 if full else 2),
          spares_workers=True, plan=replace(_STEADY, concurrency=15)),
    Phase("broker_kills", 2, 20, (4, 7), _broker_kills, spares_workers=True),
    Phase("open_calls", 2, 10, (0, 0), _open_calls, lambda _: Setup(oracle=_LONG, idle_seconds=30), spares_workers=True,
          plan=replace(_STEADY, concurrency=_OPEN_CALLS + 150, cancels=0), minutes=6.0),
    Phase("kafka_errors", 100, 500, (4, 7), _kafka_errors, lambda _: Setup(
        oracle="latency_ms=2000,gap_ms=100", worker=_KAFKA_FAULTS, gateway=_KAFKA_FAULTS), spares_workers=True),
    Phase("postgres_kills", 2, 20, (3, 6), _postgres_kills),
    # Documents by id, images that make their bodies larger than a record.
    Phase("files_away", 3, 30, (4, 6), _files_away, lambda _: Setup(oracle="latency_ms=100", files=True),
          spares_workers=True, plan=replace(_STEADY, files=0.3, large=0.3, concurrency=10)),
    Phase("commit_cuts", 20, 200, (3, 3), _commit_cuts, lambda _: Setup(proxied=True, oracle="latency_ms=100")),
    Phase("faulty_answers", 300, 20_000, (5, 12), _faulty_answers, lambda _: Setup(oracle=_FAULTY),
          spares_workers=True, plan=replace(_STEADY, concurrency=500)),
    Phase("cancels", 150, 5_000, (3, 6), _load_counts("cancels at random times", "cancels"), spares_workers=True,
          plan=replace(_STEADY, cancels=1.0, concurrency=200)),
    Phase("disconnects", 100, 2_000, (3, 4), _load_counts("stream disconnects", "disconnects"), spares_workers=True,
          plan=replace(_STEADY, ways=_STREAMS, disconnects=1.0, concurrency=100)),
    Phase("poison", 18 * 10, 18 * 1000, (3, 6), _poison, lambda _: Setup(oracle="latency_ms=50"), spares_workers=True,
          plan=replace(_STEADY, concurrency=10)),
    Phase("overload", 1_600, 12_000, (2, 3), _overload, spares_workers=True, loaded=False,
          setup=lambda _: Setup(workers=1, oracle="latency_ms=1000", worker={"WORKER_CONCURRENCY": "20"},
                                gateway={"MAX_QUEUE_AGE_SECONDS": "2"})),
    Phase("heads", 3, 5, (16, 6), _heads, loaded=False, setup=lambda full: Setup(
        workers=3, oracle=f"latency_ms=200,slow_ms={55_000 if full else 20_000}", idle_seconds=90)),
    # A request whose caller waits has three tries: three kills could exhaust them.
    Phase("hostile_neighbours", 2, 2, (0, 0), _hostile_neighbours, lambda _: hostile.SETUP, loaded=False, minutes=2.5),
    Phase("leader_kills", 2, 20, (6, 9), _leader_kills, brokers=3, spares_workers=True),
)  # fmt: skip

"""Runs phases one after the other: start services, add load, inject faults, stop the load, settle, check."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp

from faults.checker import Findings, check
from faults.collect import collect, until_settled
from faults.ground import Ground, Scene, open_ground
from faults.injected import Injected, Limit
from faults.injectors import WHILE_RUNNING
from faults.ledger import open_ledger
from faults.load import open_load
from faults.phases import Phase, Trial
from faults.sampler import Sampler, sampling
from faults.sometimes import NOTED_BY_INJECTORS
from orchestra.files.folder import Folder
from orchestra.kafka.faults import CALLS

# From the end of the faults until the last turn has ended: leases run out, and retries are spaced.
_SETTLE_SECONDS = 120.0
_MIN_SECONDS = 15.0
# Time that a phase takes besides its faults: starting services, settling, checking.
_AROUND_SECONDS = 18.0


@dataclass
class Outcome:
    """The outcome of one phase. ``wrong``: violations other than those of the invariants, one line each."""

    phase: str
    injected: Sequence[Injected]
    findings: Findings
    wrong: list[str]
    load: Counter[str]
    seconds: float
    settled_seconds: float
    memory: dict[str, float] = field(default_factory=dict)

    @property
    def violations(self) -> int:
        """Violations of invariants and others."""
        return self.findings.violations + len(self.wrong)


async def campaign(phases: Sequence[Phase], *, full: bool, minutes: float | None) -> list[Outcome]:
    """Run these phases, those with three brokers last. ``minutes``: approximate time for all, without a soak."""
    own = sum(phase.minutes for phase in phases)
    limit = Limit(60 * (minutes + own) if minutes else float("inf"))
    ordered = sorted(phases, key=lambda phase: phase.brokers)
    outcomes: list[Outcome] = []
    for brokers in (1, 3):
        mine = [phase for phase in ordered if phase.brokers == brokers]
        if not mine:
            continue
        async with open_ground(brokers=brokers) as ground:
            say(f"Kafka with {brokers} broker{'s' if brokers > 1 else ''} and Postgres are up; logs in {ground.folder}")
            for phase in mine:
                left = [each for each in ordered if each.name not in {outcome.phase for outcome in outcomes}]
                outcomes.append(await _run(ground, phase, _share(phase, left, limit, full=full), full=full))
    return outcomes


def dangers(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How often each danger of the "sometimes" list was met, over all phases."""
    met: Counter[str] = Counter()
    for outcome in outcomes:
        met.update(outcome.findings.sometimes)
    return met


def say(line: str) -> None:
    """Report progress on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def _share(phase: Phase, left: Sequence[Phase], limit: Limit, *, full: bool) -> float:
    """This phase's share of the time left for faults, in seconds."""
    if phase.minutes:
        return 60 * phase.minutes
    free = limit.left - sum(_AROUND_SECONDS + 60 * each.minutes for each in left)
    return max(_MIN_SECONDS, free * phase.shares[full] / sum(each.shares[full] for each in left))


async def _run(ground: Ground, phase: Phase, seconds: float, *, full: bool) -> Outcome:
    began = time.monotonic()
    times = phase.full if full else phase.ci
    say(f"{phase.name}: {times} asked for")
    async with AsyncExitStack() as stack:
        scene = await stack.enter_async_context(ground.scene(phase.name, phase.setup(full)))
        sampler = await stack.enter_async_context(sampling(scene))
        async with (
            open_ledger(scene.ledger) as ledger,
            open_load(phase.plan, scene.urls, scene.kafka.bootstrap, ledger) as load,
        ):
            # Measured from here: how long services take to start says nothing about them.
            trial = Trial(scene, load, ledger, sampler, Limit(seconds), times, full)
            loading = asyncio.create_task(load.run() if phase.loaded else asyncio.sleep(0))
            try:
                injected = await phase.inject(trial)
                load.stop()
                healed = time.monotonic()
                say(f"{phase.name}: {', '.join(f'{each.done} {each.what}' for each in injected)}; settling")
                await _heal(scene)
                await loading
            finally:
                loading.cancel()
        problem = await until_settled(scene.database_url, scene.kafka.bootstrap, _SETTLE_SECONDS)
        settled = time.monotonic() - healed
        outcome = await _judge(phase, trial, injected, problem)
        outcome.seconds, outcome.settled_seconds = time.monotonic() - began, settled
    say(f"{phase.name}: {outcome.findings.figures['requests']} requests, {outcome.violations} violations, "
        f"settled in {settled:.0f} s, {outcome.seconds:.0f} s in all")  # fmt: skip
    return outcome


async def _heal(scene: Scene) -> None:
    """End the faults: models that start late are fast from now on."""
    async with aiohttp.ClientSession() as session:
        await session.put(f"{scene.oracle.url}/faults", data="latency_ms=20,slow_ms=1000")


async def _judge(phase: Phase, trial: Trial, injected: Sequence[Injected], problem: str | None) -> Outcome:
    scene, sampler = trial.scene, trial.sampler
    # Killed brokers bring back records of earlier phases that were deleted.
    evidence = await collect(
        scene.database_url, scene.kafka.bootstrap, scene.ledger, scene.oracle_log, since=scene.began,
        home=Folder(scene.files),
    )  # fmt: skip
    evidence.events = [event for event in evidence.events if event.place not in trial.forged]
    evidence.worker_faults = 0 if phase.spares_workers else None
    evidence.counters = _counters(phase, scene, sampler, injected)
    findings = await asyncio.to_thread(check, evidence)
    wrong = [line for each in injected for line in each.wrong] + list(trial.wrong(evidence))
    if problem:
        wrong.append(f"not settled after {_SETTLE_SECONDS:.0f} s: {problem}")
    if not any(each.done for each in injected):
        wrong.append("no fault was injected")
    growth = sampler.growth("gateway", "worker", "llm")
    return Outcome(phase.name, injected, findings, wrong, trial.load.counts, 0, 0, growth)


def _counters(phase: Phase, scene: Scene, sampler: Sampler, injected: Sequence[Injected]) -> dict[str, float]:
    counts = sampler.counts
    return {
        "fenced_finish": counts["fenced_endings"],
        "commit_unknown": scene.proxy.cuts if scene.proxy else 0,
        "redelivery_dropped": counts["duplicate_records"] if phase.counts_redelivery else 0,
        "rebalance_while_running": sum(each.counts[WHILE_RUNNING] for each in injected),
        "kafka_client_error": sum(each.counts[call] for each in injected for call in CALLS),
        **{name: sum(each.counts[name] for each in injected) for name in NOTED_BY_INJECTORS},
    }

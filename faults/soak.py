"""A long run at half load with a fault every minute, to see whether anything grows that must not."""

import itertools
from collections.abc import Awaitable, Callable, Sequence

from faults import injectors
from faults.ground import Setup
from faults.injected import Injected, Limit
from faults.load import Plan
from faults.phases import Phase, Trial

_FAULT_EVERY_SECONDS = 60.0
_MAX_GROWTH = 0.1
_MAX_DEAD_SHARE = 0.5
_FEW_DEAD = 10_000

_DEAD_ROWS = """
SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables WHERE relname IN ('requests', 'outbox', 'conversations')
"""
_FAULTS: Sequence[Callable[[Trial, Limit], Awaitable[Injected]]] = (
    lambda trial, limit: injectors.kill_workers(trial.scene, 1, limit, 1),
    lambda trial, limit: injectors.kill_gateways(trial.scene, 1, limit, 1.0),
    lambda trial, limit: injectors.kill_kafka(trial.scene, 1, limit, 1.0),
    lambda trial, limit: injectors.Zombies((20.0, 25.0), 1).run(trial.scene, 1, limit),
    lambda trial, limit: injectors.kill_postgres(trial.scene, 1, limit, 1.0),
)


def soak(minutes: float) -> Phase:
    """This many minutes of load with one fault after the other."""
    faults = max(1, int(60 * minutes / _FAULT_EVERY_SECONDS))
    plan = Plan(conversations=int(400 * minutes), concurrency=15)

    async def inject(trial: Trial) -> Sequence[Injected]:
        limit, found = trial.limit, dict[str, Injected]()
        for fault in itertools.cycle(_FAULTS):
            await limit.pause(_FAULT_EVERY_SECONDS)
            if limit.over:
                break
            one = await fault(trial, limit)
            whole = found.setdefault(one.what, Injected(f"soak: {one.what}", 0))
            whole.asked += one.asked
            whole.times += one.times
            whole.recoveries += one.recoveries
            whole.wrong += one.wrong
            whole.counts += one.counts
        done = [*found.values()] or [Injected("soak", faults)]
        done[0].wrong += await _grown(trial)
        return done

    setup = Setup(oracle="latency_ms=300,gap_ms=20")
    return Phase("soak", faults, faults, (0, 0), inject, lambda _: setup, plan, minutes=minutes)


async def _grown(trial: Trial) -> list[str]:
    growth = trial.sampler.growth("gateway", "worker", "llm")
    found = [f"{name}: memory grew by {100 * grown:.0f} %" for name, grown in growth.items() if grown > _MAX_GROWTH]
    return found + [
        f"{row.relname}: {row.n_dead_tup} dead rows beside {row.n_live_tup}"
        for row in await trial.scene.database.run(_DEAD_ROWS)
        if row.n_dead_tup > max(_FEW_DEAD, _MAX_DEAD_SHARE * row.n_live_tup)
    ]

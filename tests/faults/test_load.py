"""What the load promises on a real stack: it uses every way in, meets its dangers, and finds nothing wrong."""

from collections import Counter
from typing import get_args

import pytest

from faults.checker import check
from faults.collect import collect, until_settled
from faults.ground import Setup, open_ground
from faults.ledger import DOOR_WAYS, Way, open_ledger, read_ledger
from faults.load import Plan, open_load
from faults.mutants import MUTANTS, try_out
from faults.scenarios import perform

pytestmark = pytest.mark.long

FAULTY = "latency_ms=50,gap_ms=5,rate_limited=0.1,error=0.1,cut=0.05,reset=0.05,garbage=0.02,hang=0.01"


@pytest.mark.stack
async def test_a_short_run_is_sound() -> None:
    """A run with every way in, duplicates, forgeries, cancels, resumed streams and a faulty model has no findings."""
    plan = Plan(conversations=40, turns=4, duplicates=0.2, impostors=0.2, cancels=0.2, failing=0.02)
    async with open_ground(brokers=1) as ground:
        async with ground.scene("short", Setup(2, 2, FAULTY)) as scene:
            bootstrap = ground.kafka.bootstrap
            async with open_ledger(scene.ledger) as ledger, open_load(plan, scene.urls, bootstrap, ledger) as load:
                await load.run()
                await load.flood(rate=20, seconds=1)
            assert await until_settled(scene.database_url, bootstrap, 60) is None
            evidence = await collect(scene.database_url, bootstrap, scene.ledger, scene.oracle_log)
        sound = await perform("pipelined", ground)
    evidence.worker_faults = 0
    findings = check(evidence)
    steps = Counter(entry.what for entry in read_ledger(scene.ledger))

    assert [] == findings.lines()
    assert 160 + load.counts["flood_acked"] <= findings.figures["requests"] <= 160 + 20
    assert all(steps[what] for what in ("sent", "acked", "answered", "cancel_acked", "stream"))
    assert all(findings.sometimes[name] for name in ("duplicate_deduped", "half_stream", "resumed_elsewhere"))
    assert set(plan.ways) == {entry.way for entry in evidence.entries}
    assert any(entry.after for entry in evidence.entries)
    assert [] == sound.lines()


def test_half_of_the_questions_come_by_the_door() -> None:
    """The ways by OpenAI's API, plain and as streams, have half of the load, and all of them have a share."""
    shares = Plan().ways

    assert set(get_args(Way)) == {way for way, share in shares.items() if share}
    assert pytest.approx(0.5) == sum(shares[way] for way in DOOR_WAYS) / sum(shares.values())


@pytest.mark.stack
def test_a_planted_bug_is_caught() -> None:
    """One mutant, planted in a copy of the code and run, is caught; `python -m faults.mutants` has them all."""
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == "no_head_of_line")
    outcome = try_out(mutant)

    assert outcome.caught, outcome.found

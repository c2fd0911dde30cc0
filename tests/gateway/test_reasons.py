"""Promises of gateway/reasons.py: who competes with a request, and about how long it waits."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.reasons import Scene, explain_row, seconds_until_taken
from orchestra.store.claims import NOTHING_PAUSED, Paused
from orchestra.store.leases import LEASE_SECONDS, KnownWorker
from orchestra.store.pauses import Pause
from orchestra.store.turns import RequestRef
from orchestra.store.waiting import Claims, Group, Line, Pace, Place, Running
from orchestra.store.worker_state import StateOfModel, WorkerState
from schemas.api.waiting import WaitingState, WaitReason

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
REF = RequestRef("default", UUID(int=1))


def turn(**changes: Any) -> Place:
    """A runnable turn of ada's, of priority 5."""
    fields: dict[str, Any] = {
        "status": "pending", "priority": 5, "model": "m", "owner": "ada", "now": NOW,
        "run_at": NOW - timedelta(seconds=5), "not_before": None, "error_code": None, "error_detail": None,
        "cancelling": False, "head": None, "behind": 0, "row": "(0,1)",
    }  # fmt: skip
    return Place(**{**fields, **changes})


def worker(models: Sequence[StateOfModel] = (), **state: Any) -> KnownWorker:
    """A worker of four slots that is alive."""
    said = WorkerState(**{"version": "1", "in_flight": 4, "capacity": 4, "models": list(models), **state})
    return KnownWorker(
        uuid4(), NOW, NOW + timedelta(seconds=LEASE_SECONDS), alive=True, drain_requested_at=None, state=said
    )


def group(turns: int, **of: Any) -> Group:
    """Turns that wait."""
    return Group(
        **{"tenant": "default", "owner": "bob", "model": "m", "priority": 5, "arrived": 0, "recent": 0, **of},
        turns=turns,
    )


def claimed(count: int, **of: Any) -> Claims:
    """As many claims as endings, evenly over the last minute."""
    fields = {"tenant": "default", "owner": "bob", "model": "m", "priority": 5, "arrived": 0, "recent_arrived": 0, **of}
    half = count // 2
    return Claims(**fields, claimed=count, ended=count, recent_claimed=half, recent_ended=half)


def seen(
    mine: Place,
    *,
    workers: Sequence[KnownWorker],
    older: Sequence[Group] = (),
    urgent: Sequence[Group] = (),
    claims: Sequence[Claims] = (),
    running: Sequence[Running] | None = None,
    paused: Paused = NOTHING_PAUSED,
    pauses: Sequence[Pause] = (),
    **line: Any,
) -> WaitingState:
    """The explanation of a turn; every slot is taken unless said otherwise."""
    taken = [Running(each.id, ("default", "bob"), 4) for each in workers] if running is None else running
    ahead = Line(older, urgent, **{"more": False, "scale": 1, **line})
    return explain_row(REF, mine, Scene(workers, taken, paused, pauses), ahead, Pace(60, 30, claims))


def codes(state: WaitingState) -> list[str]:
    """The codes of the reasons."""
    return [each.code.value for each in state.reasons]


def test_the_estimate_is_what_comes_first_by_the_pace() -> None:
    """Forty ahead at two claims a second take twenty seconds."""
    found = seen(turn(), workers=[worker()], older=[group(40)], claims=[claimed(120)])

    assert (41, 40, ["no_free_slot"]) == (found.position, found.ahead and found.ahead.same, codes(found))
    assert found.estimate_seconds == pytest.approx(20, rel=0.1)


def test_too_few_claims_give_no_estimate() -> None:
    """Fewer than ten in a minute say nothing."""
    assert seen(turn(), workers=[worker()], older=[group(40)], claims=[claimed(9)]).estimate_seconds is None
    assert seen(turn(), workers=[worker()], older=[group(40)], claims=[claimed(10)]).estimate_seconds is not None


def test_a_slot_is_free_and_nothing_comes_first() -> None:
    """A turn that will be claimed at once has no reason."""
    found = seen(turn(), workers=[worker()], running=[], claims=[claimed(60)])

    assert (1, [], 0) == (found.position, codes(found), found.estimate_seconds)


def test_slots_that_were_free_at_first_do_not_make_the_pace() -> None:
    """Many claims and few endings: what ends makes the room from now on."""
    filled = Claims("default", "bob", "m", 5, 200, 20, 0, 200, 20, 0)
    found = seen(turn(), workers=[worker()], older=[group(20)], claims=[filled])

    assert found.estimate_seconds == pytest.approx(30, rel=0.1)


def test_a_limited_model_has_a_line_of_its_own() -> None:
    """Turns of a model that takes few calls wait for each other, and no other turn waits for them."""
    limited = worker([StateOfModel(model="slow", in_flight=1, room=0)])
    lines = {"older": [group(30, model="slow"), group(10)], "claims": [claimed(60, model="slow"), claimed(600)]}

    slow = seen(turn(model="slow"), workers=[limited], **lines)
    other = seen(turn(), workers=[limited], **lines)

    assert (30, 10) == (slow.ahead and slow.ahead.same, other.ahead and other.ahead.same)
    assert slow.estimate_seconds == pytest.approx(30, rel=0.1)
    assert other.estimate_seconds == pytest.approx(1, rel=0.2)
    assert "takes no more calls" in slow.reasons[0].detail


def test_an_owner_with_a_full_share_waits_for_itself() -> None:
    """Turns of an owner that holds all it may do not compete with those of others."""
    shared = worker(owner_slots=3, tenant_slots=4)
    running = [Running(shared.id, ("default", "bob"), 3)]
    lines = {"older": [group(1000), group(5, owner="eve")], "claims": [claimed(300), claimed(60, owner="eve")]}

    ada = seen(turn(), workers=[shared], running=running, **lines)
    bob = seen(turn(owner="bob"), workers=[shared], running=running, **lines)

    assert (5, 1000) == (ada.ahead and ada.ahead.same, bob.ahead and bob.ahead.same)
    assert bob.estimate_seconds == pytest.approx(200, rel=0.1)
    assert ada.estimate_seconds == pytest.approx(5, rel=0.2)
    assert "as it may" in bob.reasons[0].detail


def test_what_is_paused_does_not_compete() -> None:
    """Turns of a paused model or tenant are not counted, and have that as their reason."""
    paused = Paused(frozenset({"acme"}), frozenset({("default", "m")}))
    waiting = [group(7), group(5, tenant="acme", model="n"), group(3, model="n")]

    found = seen(turn(model="n"), workers=[worker()], older=waiting, claims=[claimed(60, model="n")], paused=paused)

    assert (3, ["no_free_slot"]) == (found.ahead and found.ahead.same, codes(found))


@pytest.mark.parametrize(("model", "code"), [("m", "model_paused"), (None, "tenant_paused")])
def test_a_pause_is_the_reason_of_what_it_holds(model: str | None, code: str) -> None:
    """With what the operator wrote, and its end."""
    pause = Pause("default", model, "maintenance", "user:1", NOW, NOW)

    found = seen(turn(), workers=[worker()], claims=[claimed(60)], pauses=[pause])

    (reason,) = found.reasons
    assert (code, NOW, None) == (reason.code, reason.until, found.estimate_seconds)
    assert "maintenance" in reason.detail


def test_counting_that_stopped_gives_no_position() -> None:
    """The estimate then takes as many more as there probably are."""
    found = seen(turn(), workers=[worker()], older=[group(100)], claims=[claimed(600)], more=True, scale=5)

    assert found.position is None
    assert found.estimate_seconds == pytest.approx(50, rel=0.1)


def test_a_model_is_held_back_only_if_every_worker_holds_it() -> None:
    """One worker that calls it is enough; the first to call it again ends the wait."""
    held, longer = (
        StateOfModel(model="m", room=0, held_seconds=seconds, code="auth", detail="why") for seconds in (10.0, 60.0)
    )

    found = seen(turn(), workers=[worker([longer]), worker([held])])

    (reason,) = found.reasons
    assert (WaitReason.MODEL_HELD_BACK, NOW + timedelta(seconds=10)) == (reason.code, reason.until)
    assert found.estimate_seconds is None
    assert "model_held_back" not in codes(seen(turn(), workers=[worker([held]), worker()]))


def test_a_worker_that_drains_takes_nothing() -> None:
    """It counts as none, and its slots are not free."""
    found = seen(turn(), workers=[worker(draining=True, in_flight=0)], running=[])

    assert ["no_worker"] == codes(found)
    assert "draining" in found.reasons[0].detail


@pytest.mark.parametrize(
    ("ahead", "seconds"),
    [
        ({"urgent": 0, "same": 80, "older": 0, "both": 0, "arriving": 0}, 8),
        ({"urgent": 80, "same": 0, "older": 0, "both": 0, "arriving": 0}, 0.8),
        # As many urgent ones come as are claimed: only one in eight goes by age.
        ({"urgent": 1000, "same": 10, "older": 0, "both": 0, "arriving": 10}, 8),
        # What is less urgent and older takes some of that.
        ({"urgent": 1000, "same": 10, "older": 10, "both": 0, "arriving": 10}, 16),
        # Half of what is claimed are urgent ones that come meanwhile.
        ({"urgent": 0, "same": 40, "older": 0, "both": 0, "arriving": 5}, 8),
        # Urgent ones first, then all claims are for this priority.
        ({"urgent": 70, "same": 100, "older": 0, "both": 0, "arriving": 0}, 17),
        ({"urgent": 0, "same": 0, "older": 500, "both": 0, "arriving": 0}, 0),
    ],
)
def test_claims_go_by_priority_and_one_in_eight_by_age(ahead: dict[str, float], seconds: float) -> None:
    """At ten claims a second."""
    found = seconds_until_taken(10, **ahead)

    assert found == pytest.approx(seconds, rel=0.15, abs=0.5)


def test_a_wait_without_an_end_has_no_estimate() -> None:
    """At a pace at which it would take weeks."""
    assert seconds_until_taken(1e-6, urgent=0, same=1000, older=0, both=0, arriving=0) is None

"""Promises of workers/shares.py: no owner or tenant gets more than its share, and the others get the rest."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from orchestra.store.claims import ClaimOrder, ModelLimit, Owner, Without
from tests.support.records import claimed
from workers.shares import Shares

WORKER = uuid4()
ADA = ("default", "ada")


def shares(slots: int = 100) -> Shares:
    """Shares of this many slots: 75 % for an owner, 90 % for a tenant."""
    made = Shares(slots, 75, 90)
    made.hold = True
    return made


def order(made: Shares, free: int, ordered: int = 0) -> ClaimOrder | None:
    """The order for these free slots."""
    return made.order(WORKER, free, (), [ClaimOrder(WORKER, ordered)] if ordered else ())


def of_model(made: Shares, room: int, under_way: Sequence[ClaimOrder] = ()) -> ModelLimit:
    """The order for a model that has room for this many more."""
    found = made.order(WORKER, 500, [ModelLimit("m", room)], under_way)
    assert found is not None
    return found.models[0]


def passed(limit: ModelLimit) -> list[tuple[int, set[Owner], set[str]]]:
    """How many turns each claim of a model may take, and which owners it skips."""
    return [(each.limit, set(each.owners), set(each.tenants)) for each in limit.shares]


def run(made: Shares, count: int, tenant: str = "default", user: str | None = "ada", model: str = "m") -> int:
    """Start this many turns of an owner; returns their number."""
    for _ in range(count):
        made.begun(claimed(tenant=tenant, user=user, model=model))
    return count


def test_without_credentials_there_are_no_shares() -> None:
    """Without credentials one caller may have every slot, in one claim."""
    made = Shares(100, 75, 90)
    run(made, 99)

    assert ClaimOrder(WORKER, 1, ()) == order(made, 1)


def test_no_claim_is_larger_than_the_share_of_an_owner_who_is_not_here_yet() -> None:
    """No claim of an idle worker is larger than one owner's share."""
    assert ClaimOrder(WORKER, 75, ()) == order(shares(), 100)


def test_who_has_room_for_the_whole_claim_is_not_passed_over() -> None:
    """While every share has room there is one claim, ordered by priority and age alone."""
    made = shares()
    run(made, 50)

    assert ClaimOrder(WORKER, 20, ()) == order(made, 20)


def test_whose_share_is_full_is_passed_over() -> None:
    """Owners with a full share are skipped; others are claimed up to the tenant's share, after other tenants."""
    made = shares()
    run(made, 75)

    got = order(made, 25)

    assert got is not None
    assert [
        (25, {("default", "ada")}, {"default"}),
        (15, {("default", "ada")}, set()),
    ] == [(each.limit, set(each.owners), set(each.tenants)) for each in got.shares]


@pytest.mark.parametrize("slots", [1, 2, 3, 10, 100, 1000])
def test_who_always_has_more_to_do_gets_their_share_and_no_more(slots: int) -> None:
    """An owner that takes all of every order gets its share and no more."""
    made = shares(slots)

    assert max(1, slots * 75 // 100) == taken_by(made, slots, "ada")


def test_one_tenant_gets_its_share_and_no_more_however_many_owners_it_has() -> None:
    """Ten owners that take all they can hold the tenant's share together."""
    made = shares(1000)

    assert 900 == sum(taken_by(made, 250, f"owner-{number}") for number in range(10))
    assert 100 == taken_by(made, 100, "ada", tenant="other")


def test_the_tenants_own_turns_are_those_of_one_more_owner() -> None:
    """Turns without an owner count as one more owner and leave room for the others."""
    made = shares(1000)

    assert 750 == taken_by(made, 1000, None)
    assert 150 == taken_by(made, 250, "ada")


def test_what_is_ordered_elsewhere_may_be_anybodys() -> None:
    """Two simultaneous claims never give one owner more than its share together."""
    made = shares()
    run(made, 50)

    got = order(made, 100 - 50 - 15, ordered=15)

    assert got is not None
    assert [(35, {("default", "ada")}), (10, set())] == [(each.limit, set(each.owners)) for each in got.shares]


def test_a_turn_that_ends_says_whether_it_was_in_the_way_of_others() -> None:
    """The end of a turn of a full share reports it, so that waiting turns are claimed at once."""
    made, turn = shares(4), claimed(user="ada")
    made.begun(claimed(user="ada"))
    made.begun(turn)
    made.begun(turn)

    assert [True, False] == [made.ended(turn), made.ended(turn)]


def test_a_models_slots_are_shared_as_a_workers_are() -> None:
    """Of a model's eight slots one owner gets six and its tenant seven, whatever slots are free."""
    made = shares(1000)
    run(made, 6, model="m")
    run(made, 50, model="another")

    assert [(2, {ADA}, {"default"}), (1, {ADA}, set())] == passed(of_model(made, 2))
    assert ModelLimit("m", 2) == of_model(shares(1000), 2)


@pytest.mark.parametrize(("slots", "share"), [(1, 1), (4, 4), (5, 3), (8, 6), (100, 75)])
def test_no_claim_takes_all_of_many_slots_of_a_model(slots: int, share: int) -> None:
    """No claim takes all of many slots of an idle model; few are all handed out, round-robin."""
    assert ModelLimit("m", share) == of_model(shares(1000), slots)


@pytest.mark.parametrize("running", [0, 1, 3])
def test_few_slots_of_a_model_are_handed_out_in_turn(running: int) -> None:
    """An owner that had one of the last slots comes after other tenants, then after its own tenant's other owners."""
    made = shares(1000)
    run(made, running)
    made.begun(turn := claimed(user="ada", model="m"))
    made.ended(turn)

    assert [(1, {ADA}, {"default"}), (1, {ADA}, set()), (1, set(), set())] == passed(of_model(made, 1))


def test_who_had_none_of_the_last_slots_is_not_passed_over() -> None:
    """After as many turns of others as there may be few slots, an owner is no longer skipped."""
    made = shares(1000)
    for user in ("ada", "b", "c", "d", "e"):
        made.begun(turn := claimed(user=user, model="m"))
        made.ended(turn)
        of_model(made, 1)

    assert {("default", user) for user in "bcde"} == of_model(made, 1).shares[0].owners


def test_few_slots_are_handed_out_in_turn() -> None:
    """The single slot of a worker goes to other owners first."""
    made = shares(1)
    made.begun(turn := claimed(user="ada"))
    made.ended(turn)

    got = order(made, 1)

    assert got is not None
    assert [({ADA}, {"default"}), ({ADA}, set()), (set(), set())] == [
        (each.owners, each.tenants) for each in got.shares
    ]


def test_without_shares_few_slots_go_to_the_most_urgent() -> None:
    """Without credentials, or with shares of 100 %, one claim takes all that is free."""
    unbounded, alone = Shares(1000, 100, 100), Shares(1000, 75, 90)
    unbounded.hold = True
    for made in (unbounded, alone):
        run(made, 3)

        assert ModelLimit("m", 1) == of_model(made, 1)


def test_slots_that_another_claim_was_told_are_not_told_twice() -> None:
    """Simultaneous claims stay within the model's room and every share together."""
    made = shares(1000)
    first = made.order(WORKER, 200, [ModelLimit("m", 8)])
    assert first is not None

    assert 6 == first.models[0].room
    assert 0 == of_model(made, 8, [first]).room
    alone = Shares(1000, 75, 90)
    assert [8, 5] == [of_model(alone, 8).room, of_model(alone, 8, [ClaimOrder(WORKER, 9, (ModelLimit("m", 3),))]).room]


def test_names_of_models_take_no_room_without_end() -> None:
    """A model that is neither in use nor limited takes no memory."""
    made = shares()
    for name in ("m", *(f"simulated:tokens={number}" for number in range(100))):
        made.begun(turn := claimed(model=name))
        made.ended(turn)
        of_model(made, 1)

    assert {"m"} == made._of_model.keys()


def taken_by(made: Shares, free: int, user: str | None, tenant: str = "default") -> int:
    """The slots that an owner gets who takes all that the orders allow until they allow no more."""
    mine, got = (tenant, user or ""), 0
    while found := order(made, min(200, free - got)):
        claims = found.shares or (Without(found.limit, frozenset(), frozenset()),)
        allowed = [each.limit for each in claims if mine not in each.owners and tenant not in each.tenants]
        if not allowed:
            break
        got += run(made, max(allowed), tenant, user)
    return got

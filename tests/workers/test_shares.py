"""Promises of workers/shares.py: nobody gets more of a worker's slots than their share, and the others get the rest."""

from uuid import uuid4

import pytest

from orchestra.store.claims import ClaimOrder, Without
from tests.support.records import claimed
from workers.shares import Shares

WORKER = uuid4()


def shares(slots: int = 100) -> Shares:
    """Shares of so many slots: 75 % for an owner, 90 % for a tenant."""
    made = Shares(slots, 75, 90)
    made.hold = True
    return made


def order(made: Shares, free: int, ordered: int = 0) -> ClaimOrder | None:
    """What may be claimed for these free slots."""
    return made.order(WORKER, free, ordered, ())


def run(made: Shares, count: int, tenant: str = "default", user: str | None = "ada") -> int:
    """So many turns of this owner run; how many."""
    for _ in range(count):
        made.begun(claimed(tenant=tenant, user=user))
    return count


def test_without_credentials_there_are_no_shares() -> None:
    """Where nobody has credentials one caller may have every slot, in one claim, whatever runs."""
    made = Shares(100, 75, 90)
    run(made, 99)

    assert ClaimOrder(WORKER, 1, ()) == order(made, 1)


def test_no_claim_is_larger_than_the_share_of_an_owner_who_is_not_here_yet() -> None:
    """All that an idle worker claims at once may be one owner's."""
    assert ClaimOrder(WORKER, 75, ()) == order(shares(), 100)


def test_who_has_room_for_the_whole_claim_is_not_passed_over() -> None:
    """While everybody's share has room there is one claim, in which priority and age decide alone."""
    made = shares()
    run(made, 50)

    assert ClaimOrder(WORKER, 20, ()) == order(made, 20)


def test_whose_share_is_full_is_passed_over() -> None:
    """Their turns are not claimed at all; those of others are, up to the tenant's share, and other tenants' before."""
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
    """Claim after claim, one owner takes all that each order allows."""
    made = shares(slots)

    assert max(1, slots * 75 // 100) == taken_by(made, slots, "ada")


def test_one_tenant_gets_its_share_and_no_more_however_many_owners_it_has() -> None:
    """Ten owners who each would take everything hold the tenant's share between them."""
    made = shares(1000)

    assert 900 == sum(taken_by(made, 250, f"owner-{number}") for number in range(10))
    assert 100 == taken_by(made, 100, "ada", tenant="other")


def test_the_tenants_own_turns_are_those_of_one_more_owner() -> None:
    """What producers send has no owner, and leaves room for those who have."""
    made = shares(1000)

    assert 750 == taken_by(made, 1000, None)
    assert 150 == taken_by(made, 250, "ada")


def test_what_is_ordered_elsewhere_may_be_anybodys() -> None:
    """Two claims at the same moment, one of them intake's, do not give one owner more than their share together."""
    made = shares()
    run(made, 50)

    got = order(made, 100 - 50 - 15, ordered=15)

    assert got is not None
    assert [(35, {("default", "ada")}), (10, set())] == [(each.limit, set(each.owners)) for each in got.shares]


def test_a_turn_that_ends_says_whether_it_was_in_the_way_of_others() -> None:
    """When a full share gets room again, what waits for it can be claimed at once."""
    made, turn = shares(4), claimed(user="ada")
    made.begun(claimed(user="ada"))
    made.begun(turn)
    made.begun(turn)

    assert [True, False] == [made.ended(turn), made.ended(turn)]


def taken_by(made: Shares, free: int, user: str | None, tenant: str = "default") -> int:
    """How many of these slots an owner gets who takes what the orders allow, for as long as they allow any."""
    mine, got = (tenant, user or ""), 0
    while found := order(made, min(200, free - got)):
        claims = found.shares or (Without(found.limit, frozenset(), frozenset()),)
        allowed = [each.limit for each in claims if mine not in each.owners and tenant not in each.tenants]
        if not allowed:
            break
        got += run(made, max(allowed), tenant, user)
    return got

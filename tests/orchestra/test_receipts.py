"""Promises of orchestra/receipts.py: an id is its own receipt."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.receipts import Receipts

SECRET, OTHER = b"s" * 32, b"o" * 32
NOW = datetime(2026, 11, 23, 12, 0, 0, 123_000, tzinfo=UTC)
TEXTS = st.text(max_size=20)


def test_a_minted_id_tells_when_it_was_made() -> None:
    """To the millisecond, in UTC."""
    receipt = Receipts([SECRET]).verify("t", "u", Receipts([SECRET]).mint("t", "u", NOW), NOW)

    assert receipt is not None
    assert receipt.minted_at == NOW


@example(datetime(2515, 1, 1, 0, 0, 0, 124_999, tzinfo=UTC), "")
@given(st.datetimes(datetime(1970, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC)), TEXTS)
def test_any_moment_and_tenant_can_be_minted(moment: datetime, tenant: str) -> None:
    """The time that comes back is the one that went in, less than a millisecond away; the id is a UUIDv8."""
    id = Receipts([SECRET]).mint(tenant, tenant, moment)
    receipt = Receipts([SECRET]).verify(tenant, tenant, id, moment)

    assert id.version == 8
    assert id.variant == "specified in RFC 4122"
    assert receipt is not None
    assert receipt.minted_at is not None
    assert timedelta() <= moment - receipt.minted_at <= timedelta(milliseconds=1)


def test_no_two_minted_ids_are_the_same() -> None:
    """Also within one millisecond."""
    receipts = Receipts([SECRET])

    assert 1000 == len({receipts.mint("t", "u", NOW) for _ in range(1000)})


@given(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS))
def test_a_derived_id_is_the_same_for_the_same_key(parts: tuple[str, str, str, str, str]) -> None:
    """On every gateway with the same secret; its receipt has no time."""
    id = Receipts([SECRET]).derive(*parts)

    assert id == Receipts([SECRET, OTHER]).derive(*parts)
    receipt = Receipts([SECRET]).verify(parts[0], parts[1], id, NOW)
    assert receipt is not None
    assert receipt.minted_at is None


@given(*[st.lists(TEXTS, min_size=5, max_size=5)] * 2)
def test_another_key_is_another_id(one: list[str], two: list[str]) -> None:
    """Whatever part of tenant, principal, method, route and key differs, also when their letters run the same."""
    receipts = Receipts([SECRET])

    assert (one == two) == (receipts.derive(*one) == receipts.derive(*two))


def test_parts_that_run_together_are_told_apart() -> None:
    """Two lists of parts that are one text when joined are two keys."""
    receipts = Receipts([SECRET])

    assert receipts.derive("t", "ab", "c", "d", "e") != receipts.derive("t", "a", "bc", "d", "e")


def test_an_id_is_good_for_its_tenant_only() -> None:
    """Another tenant's receipt is not valid."""
    receipts = Receipts([SECRET])

    assert receipts.verify("other", "u", receipts.mint("t", "u", NOW), NOW) is None
    assert receipts.verify("other", "p", receipts.derive("t", "p", "POST", "/", "k"), NOW) is None


def test_an_id_is_good_for_its_user_and_for_those_who_see_everything() -> None:
    """A caller who may see everything in the tenant can use another's receipt; any other user cannot."""
    receipts = Receipts([SECRET])
    ids = [receipts.mint("t", "user", NOW) for _ in range(1000)]

    assert all(receipts.verify("t", user, id, NOW) for id in ids for user in (None, "user"))
    # 14 bits of an HMAC may happen to be the same.
    assert sum(receipts.verify("t", "another", id, NOW) is not None for id in ids) <= 5


def test_an_id_from_the_future_is_none_of_ours() -> None:
    """A time further ahead than clocks may differ is refused: such a receipt would count as on its way indefinitely."""
    receipts = Receipts([SECRET])

    assert receipts.verify("t", None, receipts.mint("t", "u", NOW + timedelta(seconds=14)), NOW) is not None
    assert receipts.verify("t", None, receipts.mint("t", "u", NOW + timedelta(seconds=16)), NOW) is None


def test_another_secret_vouches_for_nothing() -> None:
    """A receipt from a gateway with another secret is unknown here."""
    assert Receipts([OTHER]).verify("t", "u", Receipts([SECRET]).mint("t", "u", NOW), NOW) is None


def test_the_old_secret_still_verifies_and_no_longer_signs() -> None:
    """During a change of secret ids of both are good; new ones are the new secret's."""
    old, both, new = Receipts([SECRET]), Receipts([OTHER, SECRET]), Receipts([OTHER])

    assert both.verify("t", "u", old.mint("t", "u", NOW), NOW) is not None
    assert new.verify("t", "u", both.mint("t", "u", NOW), NOW) is not None
    assert both.derive("t", "p", "m", "r", "k") == new.derive("t", "p", "m", "r", "k")


@given(st.integers(0, 127))
def test_a_bit_that_was_turned_is_noticed(bit: int) -> None:
    """An id of which any one bit differs is no id of ours."""
    receipts = Receipts([SECRET])
    id = receipts.derive("t", "p", "POST", "/v1/messages", "key")

    assert receipts.verify("t", "p", UUID(int=id.int ^ 1 << bit), NOW) is None


def test_other_uuids_are_no_receipts() -> None:
    """Neither random ones, nor ones whose version was made to look like ours."""
    receipts = Receipts([SECRET])
    disguised = [UUID(int=uuid4().int & ~(0xF << 76) | 8 << 76) for _ in range(1000)]

    assert receipts.verify("t", "u", uuid4(), NOW) is None
    assert sum(receipts.verify("t", "u", id, NOW) is not None for id in disguised) <= 1

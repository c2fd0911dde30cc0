"""Promises of gateway/quotas.py: only an owner over quota is refused, with the quota's name and a Retry-After."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway import quotas
from gateway.people.principal import Principal
from gateway.quotas import Quotas
from orchestra.store.totals import Quota, Total
from schemas.api.keys import Scope
from schemas.errors import ERRORS, ErrorCode, OrchestraError

OWNER, TENANT = Quota(100, 10, 1 << 30, 900.0), Quota(1000, 50, 4 << 30, 900.0)
ADA, BOB, OTHER = (
    Principal(tenant, user, frozenset({Scope.WRITE}))
    for tenant, user in (("default", "ada"), ("default", "bob"), ("t2", "ada"))
)


def in_an_hour() -> datetime:
    """When a parked turn may run."""
    return datetime.now(UTC) + timedelta(hours=1)


def total(owner: str | None, **has: Any) -> Total:
    """The totals of an owner of the default tenant, or of the tenant."""
    nothing = {"open_turns": 0, "parked_turns": 0, "next_due": None, "age_seconds": 0.0, "stored_bytes": 0}
    return Total("default", owner, **{**nothing, **has})


async def looked(monkeypatch: pytest.MonkeyPatch, *found: Total) -> Quotas:
    """Quotas that have read these totals."""

    async def too_much(_database: Any, owner: Quota, tenant: Quota) -> list[Total]:
        assert (OWNER, TENANT) == (owner, tenant)
        return list(found)

    monkeypatch.setattr(quotas.totals, "too_much", too_much)
    made, database = Quotas(OWNER, TENANT), object()
    await made.look(database)  # type: ignore[arg-type]
    return made


def refused(made: Quotas, caller: Principal, not_before: datetime | None = None) -> OrchestraError | None:
    """Why this caller's next request is refused."""
    try:
        made.check(caller, not_before)
    except OrchestraError as error:
        assert error.code is ErrorCode.OVERLOADED or ERRORS[error.code].status == 429
        return error
    return None


@pytest.mark.parametrize(
    ("has", "code"),
    [
        ({"open_turns": 100}, ErrorCode.TOO_MANY_OPEN),
        ({"stored_bytes": 1 << 30}, ErrorCode.STORAGE_FULL),
        ({"age_seconds": 901.0}, ErrorCode.OVERLOADED),
    ],
)
async def test_an_owner_who_has_too_much_is_refused_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, Any], code: ErrorCode
) -> None:
    """A quota of one owner refuses no other of the tenant, nor the same name in another tenant."""
    made = await looked(monkeypatch, total("ada", **has))

    error = refused(made, ADA)

    assert error is not None
    assert code is error.code
    assert error.retry_after
    assert [None, None] == [refused(made, BOB), refused(made, OTHER)]


@pytest.mark.parametrize("has", [{"open_turns": 1000}, {"stored_bytes": 4 << 30}])
async def test_a_tenant_that_has_too_much_is_refused_whoever_asks(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, Any]
) -> None:
    """A quota of a tenant refuses all of its owners, and no other tenant's."""
    made = await looked(monkeypatch, total(None, **has))

    assert (True, True, False) == tuple(refused(made, caller) is not None for caller in (ADA, BOB, OTHER))


async def test_who_has_too_many_parked_may_send_what_runs_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many parked requests only another parked one is refused, until the first of them is due."""
    made = await looked(monkeypatch, total("ada", open_turns=10, parked_turns=10, next_due=in_an_hour()))

    error = refused(made, ADA, in_an_hour())

    assert error is not None
    assert ErrorCode.TOO_MANY_PARKED is error.code
    assert error.retry_after is not None
    assert error.retry_after == pytest.approx(3600, abs=60)
    assert (None, None) == (refused(made, ADA), refused(made, ADA, datetime.now(UTC) - timedelta(hours=1)))


async def test_who_has_nothing_open_but_parked_turns_is_told_when_the_first_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With only parked turns open, Retry-After is the time until the first is due, since none can end sooner."""
    made = await looked(monkeypatch, total("ada", open_turns=100, parked_turns=100, next_due=in_an_hour()))

    error = refused(made, ADA)

    assert error is not None
    assert error.retry_after is not None
    assert error.retry_after == pytest.approx(3600, abs=60)


async def test_storage_is_asked_for_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage is checked on its own for writes that are not requests; open requests do not matter there."""
    made = await looked(monkeypatch, total("ada", open_turns=100), total("bob", stored_bytes=1 << 30))

    made.check_storage(ADA)
    with pytest.raises(OrchestraError) as caught:
        made.check_storage(BOB)

    assert ErrorCode.STORAGE_FULL is caught.value.code

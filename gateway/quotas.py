"""Quotas of an owner and of a tenant: open turns, parked turns, stored bytes, as last counted by the workers."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from gateway.people.principal import Principal
from gateway.settings import GatewaySettings
from orchestra.store import totals
from orchestra.store.database import Database
from orchestra.store.totals import Quota, Total
from schemas.errors import ErrorCode, OrchestraError

# The usual time until a new count arrives here; stored bytes are counted less often.
_COUNTED_SECONDS = 4.0
_MEASURED_SECONDS = 120.0
_OVERLOADED_SECONDS = 30.0
_YOURS, _TENANTS = "you have", "your tenant has"


def quota_of_owner(settings: GatewaySettings) -> Quota:
    """The limits of one owner."""
    return Quota(
        settings.max_open_by_owner, settings.max_parked_by_owner, settings.max_stored_mib_by_owner << 20,
        settings.max_queue_age_seconds,
    )  # fmt: skip


def quota_of_tenant(settings: GatewaySettings) -> Quota:
    """The limits of one tenant: it must not be able to stop the intake of others alone."""
    return Quota(
        max(1, settings.max_open_requests * 9 // 10), settings.max_parked_by_tenant,
        settings.max_stored_mib_by_tenant << 20, settings.max_queue_age_seconds,
    )  # fmt: skip


class Parking:
    """Room for the requests that one call parks: by owner, and under None that of the whole tenant."""

    def __init__(self, room: dict[str | None, int]) -> None:
        self._room = room

    def take(self, owner: str) -> bool:
        """Take the room of one request. False if its owner or the tenant has none left."""
        if min(self._room[owner], self._room[None]) <= 0:
            return False
        self._room[owner] -= 1
        self._room[None] -= 1
        return True


class Quotas:
    """The owners and tenants that have reached a quota, as last read."""

    def __init__(self, owner: Quota, tenant: Quota) -> None:
        self._owner = owner
        self._tenant = tenant
        self._full: Mapping[tuple[str, str | None], Total] = {}

    async def look(self, database: Database) -> None:
        """Read the counts. Raises ``DatabaseUnavailableError``."""
        found = await totals.too_much(database, self._owner, self._tenant)
        self._full = {(each.tenant, each.owner): each for each in found}

    def check(self, caller: Principal, not_before: datetime | None) -> None:
        """Check one more request.

        Raises ``TOO_MANY_OPEN``, ``TOO_MANY_PARKED``, ``STORAGE_FULL`` or ``OVERLOADED``.
        """
        if not self._full:
            return
        self.check_parked(caller, not_before)
        for total, most, whose in self._of(caller):
            if total.open_turns >= most.open_turns:
                detail = f"{whose} {total.open_turns} unanswered requests"
                after = _until_due(total) if total.parked_turns >= total.open_turns else _COUNTED_SECONDS
                raise OrchestraError(ErrorCode.TOO_MANY_OPEN, detail, retry_after=after)
            if total.age_seconds > most.age_seconds:
                detail = "your oldest request in the queue has waited too long"
                raise OrchestraError(ErrorCode.OVERLOADED, detail, retry_after=_OVERLOADED_SECONDS)
        self.check_storage(caller)

    def check_parked(self, caller: Principal, not_before: datetime | None) -> None:
        """Check one more request with this ``not_before``. Raises ``TOO_MANY_PARKED`` if that is still ahead."""
        if not_before is None or not_before <= datetime.now(UTC):
            return
        for total, most, whose in self._of(caller):
            if total.parked_turns >= most.parked_turns:
                detail = f"{whose} {total.parked_turns} requests waiting for their not_before"
                raise OrchestraError(ErrorCode.TOO_MANY_PARKED, detail, retry_after=_until_due(total))

    async def parking(self, database: Database, tenant: str, owners: Collection[str]) -> Parking:
        """The room of these owners, since one call may park many. Raises ``DatabaseUnavailableError``."""
        counted = await totals.parked(database, tenant, owners)
        room: dict[str | None, int] = {owner: self._owner.parked_turns - counted.get(owner, 0) for owner in owners}
        return Parking({**room, None: self._tenant.parked_turns - counted.get(None, 0)})

    def check_storage(self, caller: Principal) -> None:
        """Check something new to store. Raises ``STORAGE_FULL``."""
        for total, most, whose in self._of(caller):
            if total.stored_bytes >= most.stored_bytes:
                detail = f"{whose} {total.stored_bytes >> 20} MiB stored; delete conversations you no longer need"
                raise OrchestraError(ErrorCode.STORAGE_FULL, detail, retry_after=_MEASURED_SECONDS)

    def _of(self, caller: Principal) -> list[tuple[Total, Quota, str]]:
        found = (
            (self._full.get((caller.tenant, caller.user)), self._owner, _YOURS),
            (self._full.get((caller.tenant, None)), self._tenant, _TENANTS),
        )
        return [(total, most, whose) for total, most, whose in found if total]


def _until_due(total: Total) -> float:
    """Seconds until the first parked turn may run and the next count has seen it."""
    due = (total.next_due - datetime.now(UTC)).total_seconds() if total.next_due else 0.0
    return max(0.0, due) + _COUNTED_SECONDS

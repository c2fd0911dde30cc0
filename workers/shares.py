"""How many of this worker's slots one owner and one tenant may hold, so that nobody stops the others.

Each worker looks at its own slots alone; what may be claimed follows from what runs here.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from functools import partial
from typing import TypeVar
from uuid import UUID

from orchestra.loops import regularly
from orchestra.store import keys
from orchestra.store.claims import Claimed, ClaimOrder, ModelLimit, Owner, Without
from orchestra.store.database import Database, DatabaseUnavailableError, DataRefusedError

LOOK_SECONDS = 2.0

_Key = TypeVar("_Key", bound=Hashable)


class Shares:
    """Counts the turns in flight by owner and tenant. ``owner`` and ``tenant``: percent of the ``slots``, at least one.

    While nobody has credentials there is only one caller, and no share to keep: ``hold`` is false.
    """

    def __init__(self, slots: int, owner: int, tenant: int) -> None:
        self.hold = False
        self._slots = slots
        self._of_owner = max(1, slots * owner // 100)
        self._of_tenant = max(1, slots * tenant // 100)
        self._owners: Counter[Owner] = Counter()
        self._tenants: Counter[str] = Counter()
        self._after: Owner = ("", "")

    async def run(self, database: Database) -> None:
        """Look again and again, until cancelled."""
        look = partial(self.look, database)
        expected = (DatabaseUnavailableError, DataRefusedError)
        await regularly(LOOK_SECONDS, look, "credentials_unknown", expected=expected)

    async def look(self, database: Database) -> None:
        """Look whether anybody has credentials. Raises ``DatabaseUnavailableError``."""
        self.hold = await keys.anybody(database)

    def begun(self, turn: Claimed) -> None:
        """This turn is in flight."""
        self._owners[turn.owner] += 1
        self._tenants[turn.tenant] += 1
        self._after = turn.owner

    def ended(self, turn: Claimed) -> bool:
        """It no longer is. True: its owner's share, or its tenant's, was full."""
        full = self._owners[turn.owner] >= self._of_owner or self._tenants[turn.tenant] >= self._of_tenant
        _one_less(self._owners, turn.owner)
        _one_less(self._tenants, turn.tenant)
        return self.hold and full

    def order(self, worker_id: UUID, free: int, ordered: int, models: tuple[ModelLimit, ...]) -> ClaimOrder | None:
        """What to claim for ``free`` slots, while others are ordered already, whosever turns those will be."""
        if not self.hold:
            return ClaimOrder(worker_id, free, models) if free else None
        limit = min(free, self._of_owner - ordered, self._of_tenant - ordered)
        if limit <= 0:
            return None
        owners = dict(_near(self._owners, self._of_owner - ordered, limit))
        tenants = dict(_near(self._tenants, self._of_tenant - ordered, limit))
        if not owners and not tenants:
            return ClaimOrder(worker_id, limit, models)
        # Those who have room for all of it come first; then what is left of the room of those who have not.
        shares = [self._without(limit, owners, tenants)]
        if room := min((room for room in (*owners.values(), *tenants.values()) if room > 0), default=0):
            shares.append(self._without(room, _full(owners), _full(tenants)))
        return ClaimOrder(worker_id, limit, models, tuple(shares))

    def _without(self, limit: int, owners: Mapping[Owner, int], tenants: Mapping[str, int]) -> Without:
        return Without(limit, frozenset(owners), frozenset(tenants), self._after)


def _one_less(counted: Counter[_Key], key: _Key) -> None:
    counted[key] -= 1
    if not counted[key]:
        del counted[key]


def _near(counted: Counter[_Key], most: int, limit: int) -> Iterator[tuple[_Key, int]]:
    """Those with room for fewer than ``limit`` more, and for how many."""
    return ((key, most - count) for key, count in counted.items() if most - count < limit)


def _full(rooms: Mapping[_Key, int]) -> dict[_Key, int]:
    return {key: room for key, room in rooms.items() if room <= 0}

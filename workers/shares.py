"""How many of this worker's slots, and of a model's places, one owner and one tenant may hold.

So nobody stops the others. Each worker looks at its own calls alone; what may be claimed follows from what runs here.
"""

from collections import Counter, deque
from collections.abc import Collection, Hashable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TypeVar
from uuid import UUID

from orchestra.loops import regularly
from orchestra.store import keys
from orchestra.store.claims import Claimed, ClaimOrder, ModelLimit, Owner, Without
from orchestra.store.database import Database, DatabaseUnavailableError, DataRefusedError
from workers.timings import TIMINGS, Timings

# So few places are handed out in turn: those who had one of the last so many go behind those who had not. Shares would
# leave none of them between one owner's and their tenant's.
FEW = 4

_Key = TypeVar("_Key", bound=Hashable)
_Rooms = tuple[Mapping[Owner, int], Mapping[str, int]]


class _Places:
    """Who holds how many of some places, and who took the last ones."""

    def __init__(self) -> None:
        self.owners: Counter[Owner] = Counter()
        self.tenants: Counter[str] = Counter()
        self.last: deque[Owner] = deque(maxlen=FEW)

    def begun(self, turn: Claimed) -> None:
        """This turn takes one."""
        self.owners[turn.owner] += 1
        self.tenants[turn.tenant] += 1
        self.last.append(turn.owner)

    def ended(self, turn: Claimed) -> None:
        """It gives it back."""
        _one_less(self.owners, turn.owner)
        _one_less(self.tenants, turn.tenant)


class Shares:
    """Counts the turns in flight by owner and tenant, in all and of each model.

    ``owner`` and ``tenant``: percent of the ``slots``, and of the places of a model that has fewer; at least one.
    While nobody has credentials there is only one caller, and no share to keep: ``hold`` is false.
    """

    def __init__(self, slots: int, owner: int, tenant: int, timings: Timings = TIMINGS) -> None:
        self.hold = False
        self._slots = slots
        self._timings = timings
        self._owner = owner
        self._tenant = tenant
        self._all = _Places()
        self._of_model: dict[str, _Places] = {}

    async def run(self, database: Database) -> None:
        """Look again and again, until cancelled."""
        look = partial(self.look, database)
        expected = (DatabaseUnavailableError, DataRefusedError)
        await regularly(self._timings.look_for_credentials, look, "credentials_unknown", expected=expected)

    async def look(self, database: Database) -> None:
        """Look whether anybody has credentials. Raises ``DatabaseUnavailableError``."""
        self.hold = await keys.anybody(database)

    def begun(self, turn: Claimed) -> None:
        """This turn is in flight."""
        self._all.begun(turn)
        self._of_model.setdefault(turn.model, _Places()).begun(turn)

    def ended(self, turn: Claimed) -> bool:
        """It no longer is. True: its owner's share of the slots, or its tenant's, was full."""
        of_owner, of_tenant = self._most(self._slots)
        full = self._all.owners[turn.owner] >= of_owner or self._all.tenants[turn.tenant] >= of_tenant
        self._all.ended(turn)
        self._of_model[turn.model].ended(turn)
        return self.hold and full

    def order(
        self, worker_id: UUID, free: int, models: Collection[ModelLimit], under_way: Collection[ClaimOrder] = ()
    ) -> ClaimOrder | None:
        """What to claim for ``free`` slots, while other claims are ``under_way``, whosever turns those will be."""
        self._forget({each.model for each in models})
        ordered = sum(order.limit for order in under_way)
        limit, shares = self._divide(self._all, self._slots, self._most(self._slots), free, ordered)
        if limit <= 0:
            return None
        return ClaimOrder(worker_id, limit, tuple(self._of(each, under_way) for each in models), shares)

    def _of(self, model: ModelLimit, under_way: Collection[ClaimOrder]) -> ModelLimit:
        """What may be claimed of a model, of whose places others may take what they were told."""
        ordered = sum(each.room for order in under_way for each in order.models if each.model == model.model)
        places = self._of_model.get(model.model) or _Places()
        count = model.room + places.owners.total()
        # One that is kept free of few may be one that is only tried: those who have none would be refused for it.
        most = self._most(count) if count > FEW else (count, count)
        room, shares = self._divide(places, count, most, model.room - ordered, ordered)
        return ModelLimit(model.model, max(0, room), shares)

    def _divide(
        self, places: _Places, count: int, most: tuple[int, int], free: int, ordered: int
    ) -> tuple[int, tuple[Without, ...]]:
        """For how many of the free ones of so many places to claim, and by which claims; none: one for everybody.

        ``most``: how many one owner and one tenant may hold.
        """
        if not self.hold:
            return free, ()
        of_owner, of_tenant = (share - ordered for share in most)
        limit = min(free, of_owner, of_tenant)
        if limit <= 0:
            return 0, ()
        last = set(places.last) if count <= FEW and min(self._owner, self._tenant) < 100 else set()
        owners = _near(places.owners, of_owner, limit, last)
        tenants = _near(places.tenants, of_tenant, limit, {tenant for tenant, _ in last})
        if not owners and not tenants:
            return limit, ()
        # Those who have room for all of it come first; then what is left of the room of those who have not.
        passed = [(owners, tenants), (_full(owners), _full(tenants))]
        if last:
            passed.insert(1, (owners, _full(tenants)))
        rooms = (owners, tenants)
        shares = [_without(limit, rooms, each, places.last[-1]) for each in passed]
        return limit, tuple(dict.fromkeys(shares))

    def _most(self, places: int) -> tuple[int, int]:
        """How many of so many places one owner and one tenant may hold."""
        return max(1, places * self._owner // 100), max(1, places * self._tenant // 100)

    def _forget(self, limited: Collection[str]) -> None:
        """Keep nothing of a model that is neither in use nor limited: callers may think up any number of names."""
        self._of_model = {
            model: places for model, places in self._of_model.items() if places.owners or model in limited
        }


def _one_less(counted: Counter[_Key], key: _Key) -> None:
    counted[key] -= 1
    if not counted[key]:
        del counted[key]


def _near(counted: Counter[_Key], most: int, limit: int, last: AbstractSet[_Key]) -> dict[_Key, int]:
    """Those with room for fewer than ``limit`` more, and the ``last``; with their room."""
    return {key: room for key in {*counted, *last} if (room := most - counted[key]) < limit or key in last}


def _without(limit: int, rooms: _Rooms, passed: _Rooms, after: Owner) -> Without:
    """A claim that passes over these, and is no larger than the room of anybody who may be in it."""
    (owners, tenants), (no_owners, no_tenants) = rooms, passed
    let_in = [room for owner, room in owners.items() if owner not in no_owners]
    let_in += [room for tenant, room in tenants.items() if tenant not in no_tenants]
    return Without(min([limit, *let_in]), frozenset(no_owners), frozenset(no_tenants), after)


def _full(rooms: Mapping[_Key, int]) -> dict[_Key, int]:
    return {key: room for key, room in rooms.items() if room <= 0}

"""Fair shares: how many slots of this worker, and of a model, one owner and one tenant may hold.

No owner can thus block the others. Each worker counts only its own calls; the turns in flight here decide which may be
claimed next.
"""

from collections import Counter, deque
from collections.abc import Collection, Hashable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from typing import TypeVar
from uuid import UUID

from orchestra.loops import regularly
from orchestra.store import keys
from orchestra.store.claims import NOTHING_PAUSED, Claimed, ClaimOrder, ModelLimit, Owner, Paused, Without
from orchestra.store.database import Database, DatabaseUnavailableError, DataRefusedError
from workers.timings import TIMINGS, Timings

# At most this many slots are handed out round-robin: owners that had one of the last FEW slots come after owners that
# had not. Percentages of FEW would round one owner's share and their tenant's to the same number.
FEW = 4

_Key = TypeVar("_Key", bound=Hashable)
_Rooms = tuple[Mapping[Owner, int], Mapping[str, int]]


class _Slots:
    """A set of slots: how many each owner and tenant holds, and which owners took the last ones."""

    def __init__(self) -> None:
        self.owners: Counter[Owner] = Counter()
        self.tenants: Counter[str] = Counter()
        self.last: deque[Owner] = deque(maxlen=FEW)

    def begun(self, turn: Claimed) -> None:
        """Count a turn that takes a slot."""
        self.owners[turn.owner] += 1
        self.tenants[turn.tenant] += 1
        self.last.append(turn.owner)

    def ended(self, turn: Claimed) -> None:
        """Count a turn that gives its slot back."""
        _one_less(self.owners, turn.owner)
        _one_less(self.tenants, turn.tenant)


class Shares:
    """Counts the turns in flight by owner and tenant, in total and per model.

    ``owner`` and ``tenant``: percent of the ``slots``, and of the slots of a model that has fewer; at least one.
    ``hold``: whether shares apply. While no credentials exist there is only one caller, so they do not.
    """

    def __init__(self, slots: int, owner: int, tenant: int, timings: Timings = TIMINGS) -> None:
        self.hold = False
        self._slots = slots
        self._timings = timings
        self._owner = owner
        self._tenant = tenant
        self._all = _Slots()
        self._of_model: dict[str, _Slots] = {}

    @property
    def max_held(self) -> tuple[int, int] | None:
        """How many of the slots one owner and one tenant may hold; None: all of them."""
        return self._max_held(self._slots) if self.hold else None

    async def run(self, database: Database) -> None:
        """Look regularly until cancelled."""
        look = partial(self.look, database)
        expected = (DatabaseUnavailableError, DataRefusedError)
        await regularly(self._timings.look_for_credentials, look, "credentials_unknown", expected=expected)

    async def look(self, database: Database) -> None:
        """Check whether any credentials exist. Raises ``DatabaseUnavailableError``."""
        self.hold = await keys.anybody(database)

    def begun(self, turn: Claimed) -> None:
        """Count a turn that is in flight from now on."""
        self._all.begun(turn)
        self._of_model.setdefault(turn.model, _Slots()).begun(turn)

    def ended(self, turn: Claimed) -> bool:
        """Count a turn that has ended. True if its owner's or tenant's share of the slots was full."""
        of_owner, of_tenant = self._max_held(self._slots)
        full = self._all.owners[turn.owner] >= of_owner or self._all.tenants[turn.tenant] >= of_tenant
        self._all.ended(turn)
        self._of_model[turn.model].ended(turn)
        return self.hold and full

    def order(
        self,
        worker_id: UUID,
        free: int,
        models: Collection[ModelLimit],
        under_way: Collection[ClaimOrder] = (),
        paused: Paused = NOTHING_PAUSED,
    ) -> ClaimOrder | None:
        """The order for ``free`` slots while other claims are ``under_way``, whose owners are not known yet."""
        self._forget({each.model for each in models})
        ordered = sum(order.limit for order in under_way)
        limit, shares = self._divide(self._all, self._slots, self._max_held(self._slots), free, ordered)
        if limit <= 0:
            return None
        if paused.tenants:
            shares = self._besides(paused.tenants, limit, shares)
        limits = tuple(self._of(each, under_way) for each in models)
        return ClaimOrder(worker_id, limit, limits, shares, paused=paused.models)

    def _besides(self, paused: AbstractSet[str], limit: int, shares: tuple[Without, ...]) -> tuple[Without, ...]:
        """These claims without the turns of paused tenants, which are skipped unread, however many they are."""
        last = self._all.last[-1] if self._all.last else ("", "")
        found = shares or (Without(limit, after=last),)
        return tuple(replace(each, tenants=each.tenants | paused) for each in found)

    def _of(self, model: ModelLimit, under_way: Collection[ClaimOrder]) -> ModelLimit:
        """The limit of one model, less the slots that claims under way may take."""
        ordered = sum(each.room for order in under_way for each in order.models if each.model == model.model)
        slots = self._of_model.get(model.model) or _Slots()
        count = model.room + slots.owners.total()
        # Of few slots none is kept free: it may exist only as a probe, and the turns that need it would wait.
        max_held = self._max_held(count) if count > FEW else (count, count)
        room, shares = self._divide(slots, count, max_held, model.room - ordered, ordered)
        return ModelLimit(model.model, max(0, room), shares)

    def _divide(
        self, slots: _Slots, count: int, max_held: tuple[int, int], free: int, ordered: int
    ) -> tuple[int, tuple[Without, ...]]:
        """Divide the ``free`` ones of ``count`` slots. Returns how many to claim, and the claims to do it by.

        No claims means a single one for all owners. ``max_held``: how many slots one owner and one tenant may hold.
        """
        if not self.hold:
            return free, ()
        of_owner, of_tenant = (share - ordered for share in max_held)
        limit = min(free, of_owner, of_tenant)
        if limit <= 0:
            return 0, ()
        last = set(slots.last) if count <= FEW and min(self._owner, self._tenant) < 100 else set()
        owners = _near(slots.owners, of_owner, limit, last)
        tenants = _near(slots.tenants, of_tenant, limit, {tenant for tenant, _ in last})
        if not owners and not tenants:
            return limit, ()
        # First owners with room for the whole claim; then owners with less room, up to what is left of it.
        passed = [(owners, tenants), (_full(owners), _full(tenants))]
        if last:
            passed.insert(1, (owners, _full(tenants)))
        rooms = (owners, tenants)
        shares = [_without(limit, rooms, each, slots.last[-1]) for each in passed]
        return limit, tuple(dict.fromkeys(shares))

    def _max_held(self, slots: int) -> tuple[int, int]:
        """How many of these slots one owner and one tenant may hold."""
        return max(1, slots * self._owner // 100), max(1, slots * self._tenant // 100)

    def _forget(self, limited: Collection[str]) -> None:
        """Drop models that are neither in use nor limited: callers may make up any number of names."""
        self._of_model = {model: slots for model, slots in self._of_model.items() if slots.owners or model in limited}


def _one_less(counted: Counter[_Key], key: _Key) -> None:
    counted[key] -= 1
    if not counted[key]:
        del counted[key]


def _near(counted: Counter[_Key], max_held: int, limit: int, last: AbstractSet[_Key]) -> dict[_Key, int]:
    """The room of each key that has room for fewer than ``limit`` more, and of each key in ``last``."""
    return {key: room for key in {*counted, *last} if (room := max_held - counted[key]) < limit or key in last}


def _without(limit: int, rooms: _Rooms, passed: _Rooms, after: Owner) -> Without:
    """A claim that skips the ``passed`` owners and tenants and fits into the room of every other one in ``rooms``."""
    (owners, tenants), (no_owners, no_tenants) = rooms, passed
    let_in = [room for owner, room in owners.items() if owner not in no_owners]
    let_in += [room for tenant, room in tenants.items() if tenant not in no_tenants]
    return Without(min([limit, *let_in]), frozenset(no_owners), frozenset(no_tenants), after)


def _full(rooms: Mapping[_Key, int]) -> dict[_Key, int]:
    return {key: room for key, room in rooms.items() if room <= 0}

"""Why one request waits, how many come first, and about how long: from what the store and the workers say.

Nothing here reads anything. The line of a request is those that compete with it for the same slots, as claims divide
them (``workers/shares.py``, ``workers/throttle.py``): the calls of its model if that is limited, those of its owner if
its share is full, otherwise all but these.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from orchestra.store.claims import AGE_SHARE, NOTHING_PAUSED, Owner, Paused
from orchestra.store.leases import KnownWorker
from orchestra.store.pauses import Pause
from orchestra.store.turns import RequestRef, shown_status
from orchestra.store.waiting import MAX_BEHIND, Claims, Group, Line, Pace, Place, Running
from orchestra.store.worker_state import StateOfModel, short
from schemas.api.waiting import Ahead, Reason, WaitingState, WaitReason
from schemas.status import Status

MIN_SAMPLES = 10
"""With fewer claims in the window of the pace there is no estimate."""
# A share counts as full a little before: a turn of it ends now and then.
_FULL = 0.9
_MAX_SECONDS = 7 * 24 * 3600.0
_STEPS = 200
_MAX_STEPS = 20 * _STEPS


_CANCELLING = Reason(
    code=WaitReason.CANCELLING, detail="A cancel was accepted. It takes effect as soon as a worker has read it."
)


@dataclass(frozen=True)
class Scene:
    """What surrounds a turn: the workers, what runs at them, what is paused, and what of that holds the turn."""

    workers: Sequence[KnownWorker]
    running: Sequence[Running] = ()
    paused: Paused = NOTHING_PAUSED
    pauses: Sequence[Pause] = ()

    @property
    def takers(self) -> list[KnownWorker]:
        """The workers that claim turns."""
        return [each for each in self.workers if each.alive and not each.drains]

    def free(self) -> int:
        """How many slots are free."""
        taken = Counter[UUID]()
        for each in self.running:
            taken[each.worker] += each.turns
        return sum(max(0, each.state.capacity - taken[each.id]) for each in self.takers if each.state)


def explain_without_row(id: UUID, scene: Scene, read_up_to: datetime | None, *, cancelling: bool) -> WaitingState:
    """The state of a request that was accepted and has no row yet. ``cancelling``: so was a cancel of it."""
    so_far = f"what came until {read_up_to:%Y-%m-%d %H:%M:%S}Z" if read_up_to else "nothing so far"
    detail = f"Its record is in Kafka, and no worker has read it yet: they have read {so_far}. Wait, or add workers."
    reason = Reason(code=WaitReason.NOT_READ_YET, detail=detail)
    cancel = [_CANCELLING] if cancelling else []
    return WaitingState(id=id, status=Status.PENDING, reasons=[*cancel, *_no_worker(scene), reason])


def explain_row(ref: RequestRef, turn: Place, scene: Scene, line: Line | None, pace: Pace | None) -> WaitingState:
    """The state of a request with a row. ``line`` and ``pace``: of a turn that may run now, otherwise None."""
    status = shown_status(turn.status)
    if status.terminal:
        return WaitingState(id=ref.id, status=status)
    reasons = [_CANCELLING] if turn.cancelling else []
    if status is Status.IN_PROGRESS:
        return WaitingState(id=ref.id, status=status, reasons=reasons)
    reasons += _blocked(turn, scene)
    if line is None or pace is None:
        return WaitingState(id=ref.id, status=status, reasons=reasons)
    competes = _Competition(ref.tenant, turn, scene)
    ahead = _ahead(turn, line, competes)
    if not reasons:
        reasons += _no_free_slot(scene, ahead, competes)
    return WaitingState(
        id=ref.id,
        status=status,
        position=None if line.more else ahead.urgent + ahead.same + 1,
        ahead=ahead,
        estimate_seconds=_estimate(turn, scene, line, pace, ahead, competes) if _may_end(reasons) else None,
        reasons=reasons,
    )


def _no_worker(scene: Scene) -> Iterator[Reason]:
    if not scene.takers:
        draining = any(each.alive for each in scene.workers)
        way_out = "Every worker that is alive is draining: let one work again, or start another."
        detail = way_out if draining else "No worker is alive: start one."
        yield Reason(code=WaitReason.NO_WORKER, detail=detail)


def _blocked(turn: Place, scene: Scene) -> Iterator[Reason]:
    """The reasons for which no free slot would help."""
    for pause in scene.pauses:
        code, what = (WaitReason.TENANT_PAUSED, "tenant") if pause.model is None else (WaitReason.MODEL_PAUSED, "model")
        why = f" ({pause.reason})" if pause.reason else ""
        end = "It goes on when the pause ends" if pause.until else f"It goes on once the {what} is resumed"
        yield Reason(code=code, detail=f"An operator has paused the {what}{why}. {end}.", until=pause.until)
    yield from _no_worker(scene)
    yield from _held_back(turn, scene)
    if turn.status == "waiting":
        behind = _requests(min(turn.behind, MAX_BEHIND), more=turn.behind > MAX_BEHIND)
        detail = f"It is behind {behind} of its conversation. They are answered one after the other."
        yield Reason(code=WaitReason.BEHIND_IN_CONVERSATION, detail=detail, request_id=turn.head)
    elif turn.run_at > turn.now:
        if turn.not_before and turn.not_before > turn.now:
            detail = "Its time to start has not come. To start it sooner, change `not_before`."
            yield Reason(code=WaitReason.NOT_BEFORE, detail=detail, until=turn.not_before)
        else:
            why = f" ({turn.error_code}: {turn.error_detail})" if turn.error_code else ""
            detail = f"An attempt failed{why}. The next one follows by itself."
            yield Reason(code=WaitReason.BACKING_OFF, detail=detail, until=turn.run_at)


def _held_back(turn: Place, scene: Scene) -> Iterator[Reason]:
    """Only if every worker holds the model back; the first of them that calls it again ends that."""
    holds: list[tuple[datetime, StateOfModel]] = []
    for worker in scene.takers:
        hold = next((each for each in _models(worker) if each.model == short(turn.model)), None)
        if hold is None or hold.held_seconds is None or worker.until(hold.held_seconds) <= turn.now:
            return
        holds.append((worker.until(hold.held_seconds), hold))
    if holds:
        until, hold = min(holds, key=lambda each: each[0])
        why = f" ({hold.code}: {hold.detail})" if hold.code else ""
        detail = (
            f"The model refuses calls{why}. Workers try again by themselves; if that fails, check its key and limits."
        )
        yield Reason(code=WaitReason.MODEL_HELD_BACK, detail=detail, until=until)


def _models(worker: KnownWorker) -> Sequence[StateOfModel]:
    return worker.state.models if worker.state else ()


class _Competition:
    """Which turns compete with one for the same slots. ``limited``: its model is; ``full``: its share of slots is."""

    def __init__(self, tenant: str, turn: Place, scene: Scene) -> None:
        self._model = short(turn.model)
        self._owner: Owner = (tenant, turn.owner or "")
        self._paused = scene.paused
        states = [worker.state for worker in scene.takers if worker.state]
        rooms = [(each.model, each.room) for state in states for each in state.models if each.room is not None]
        self._limited = {model for model, _ in rooms}
        self._owners, self._tenants = _full_shares(scene)
        self.limited = self._model in self._limited
        self.full = self._owner in self._owners or tenant in self._tenants
        # Workers that do not name the model have room for it.
        mine = [room for model, room in rooms if model == self._model]
        self.room = None if len(mine) < len(states) or not mine else sum(mine)

    def __call__(self, other: Group | Claims) -> bool:
        """Whether this turn competes."""
        model, owner = short(other.model), (other.tenant, other.owner)
        if other.tenant in self._paused.tenants or (other.tenant, other.model) in self._paused.models:
            return False
        if model != self._model if self.limited else model in self._limited:
            return False
        if self._owner in self._owners:
            return owner == self._owner
        if self._owner[0] in self._tenants:
            return other.tenant == self._owner[0]
        return owner not in self._owners and other.tenant not in self._tenants


def _full_shares(scene: Scene) -> tuple[set[Owner], set[str]]:
    """The owners and the tenants that hold as many slots as one may."""
    states = [(worker.id, worker.state) for worker in scene.takers if worker.state]
    if not states or any(state.owner_slots is None or state.tenant_slots is None for _, state in states):
        return set(), set()
    takers = {id for id, _ in states}
    owners, tenants = Counter[Owner](), Counter[str]()
    for each in scene.running:
        if each.worker in takers:
            owners[each.owner] += each.turns
            tenants[each.owner[0]] += each.turns
    of_owner = _FULL * sum(state.owner_slots or 0 for _, state in states)
    of_tenant = _FULL * sum(state.tenant_slots or 0 for _, state in states)
    return (
        {owner for owner, held in owners.items() if held >= of_owner},
        {tenant for tenant, held in tenants.items() if held >= of_tenant},
    )


def _ahead(turn: Place, line: Line, competes: _Competition) -> Ahead:
    older = [each for each in line.older if competes(each)]
    return Ahead(
        urgent=_turns(each for each in line.urgent if competes(each)),
        same=_turns(each for each in older if each.priority == turn.priority),
        older=_turns(each for each in older if each.priority < turn.priority),
        more=line.more,
    )


def _turns(groups: Iterable[Group]) -> int:
    return sum(each.turns for each in groups)


def _no_free_slot(scene: Scene, ahead: Ahead, competes: _Competition) -> Iterator[Reason]:
    first = ahead.urgent + ahead.same
    if competes.limited and competes.room == 0:
        detail, way_out = "Its model takes no more calls at once", "Wait: more workers do not help"
    elif competes.full:
        detail, way_out = "Its owner or tenant holds as many slots of the workers as it may", "Wait for one of them"
    elif first or not scene.free():
        detail, way_out = "Every slot of the workers is taken", "Wait, or add workers"
    else:
        return
    queue = f", and {_requests(first, more=ahead.more)} may be taken first" if first else ""
    yield Reason(code=WaitReason.NO_FREE_SLOT, detail=f"{detail}{queue}. {way_out}.")


def _requests(count: int, *, more: bool) -> str:
    return "1 request" if count == 1 and not more else f"{count:,}{'+' * more} requests"


def _may_end(reasons: Collection[Reason]) -> bool:
    return all(each.code is WaitReason.NO_FREE_SLOT for each in reasons)


def _estimate(turn: Place, scene: Scene, line: Line, pace: Pace, ahead: Ahead, competes: _Competition) -> float | None:
    claims = [each for each in pace.claims if competes(each)]
    urgent = [each for each in line.urgent if competes(each)]
    if sum(each.recent_claimed for each in claims) >= MIN_SAMPLES:
        seconds, names = pace.recent, ("recent_claimed", "recent_ended", "recent_arrived", "recent")
    else:
        seconds, names = pace.seconds, ("claimed", "ended", "arrived", "arrived")
    claimed, ended = (sum(getattr(each, name) for each in claims) for name in names[:2])
    if claimed < MIN_SAMPLES or seconds <= 0:
        return None
    # Slots that were all free at first were claimed at once: from then on only what ends makes room.
    rate = (min(claimed, ended) if ended >= MIN_SAMPLES else claimed) / seconds
    arrived = sum(getattr(each, names[2]) for each in claims if each.priority > turn.priority)
    arrived += sum(getattr(each, names[3]) for each in urgent)
    found = seconds_until_taken(
        rate,
        urgent=ahead.urgent,
        same=ahead.same * line.scale,
        older=ahead.older * line.scale,
        both=_turns(each for each in line.older if each.priority > turn.priority and competes(each)),
        arriving=arrived / seconds,
    )
    if found is None:
        return None
    # The next slot becomes free after half of the time between two claims.
    return round(found + (0 if scene.free() and not competes.full else 0.5 / rate), 1)


def seconds_until_taken(
    rate: float, *, urgent: float, same: float, older: float, both: float, arriving: float
) -> float | None:
    """After how many seconds a turn is claimed, if ``rate`` turns of its line are claimed each second.

    ``urgent``: how many have a higher priority, of which ``both`` have waited longer too; ``arriving``: how many more
    of these come each second. ``same`` and ``older``: how many of the same and of a lower priority have waited longer.
    None: it takes longer than a turn may wait. One claim in ``AGE_SHARE`` takes what has waited longest.
    """
    step, seconds = max(0.25, (urgent + same + older) / _STEPS), 0.0
    for _ in range(_MAX_STEPS):
        longer = same + older + both
        if longer <= 0:  # The next claim by age is this turn's.
            return seconds + min(urgent, AGE_SHARE) / rate
        share = min(1.0, step / AGE_SHARE / longer)
        same, older = same * (1 - share), older * (1 - share)
        urgent, both = urgent - both * share, both * (1 - share)
        by_priority = step * (1 - 1 / AGE_SHARE)
        taken = min(urgent, by_priority)
        urgent, both = urgent - taken, max(0.0, both - taken)
        if by_priority - taken > same:
            return seconds + (taken + same) / rate
        same -= by_priority - taken
        seconds += step / rate
        urgent += arriving * step / rate
        if seconds > _MAX_SECONDS:
            break
    return None

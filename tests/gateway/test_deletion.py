"""Promises of gateway/deletion.py."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from gateway.deletion import Deletion
from gateway.following.events import Hub
from gateway.metrics import Metrics
from gateway.people.principal import Principal, nameless
from orchestra.store import cancels
from orchestra.store.cancels import Life
from orchestra.store.turns import ConversationRef
from schemas.api.keys import Scope
from schemas.changes import Change
from schemas.errors import ErrorCode, OrchestraError
from tests.support.events import SIGNER
from tests.support.fakes import steps

REF = ConversationRef("default", uuid4())
CHANGE = Change(id=uuid4(), tenant="default", actor="user:ann", action="conversation.delete", target="conversations/1")
CREATED = datetime(2026, 1, 31, tzinfo=UTC)
ANN = Principal("default", "ann", frozenset([Scope.WRITE]))


class World:
    """What a deletion does, in order. ``lost``: the record is not acknowledged."""

    def __init__(self, *, deleted: bool | None = False, lost: bool = False) -> None:
        self.done: list[Any] = []
        self.changes: list[Change | None] = []
        self.created_at = CREATED
        self.hub = Hub(Metrics(), 2**20, SIGNER)
        self._deleted = deleted
        self._lost = lost

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Deletion:
        """The deletion over this world."""
        around: Any = self
        monkeypatch.setattr(cancels, "life_of", self.life_of)
        monkeypatch.setattr(cancels, "mark_deleted", self.mark_deleted)
        return Deletion(around, around, self.hub)

    async def life_of(self, _database: object, ref: ConversationRef, only: str | None) -> Life | None:
        self.done.append(("look", ref, only))
        return None if self._deleted is None else Life(self.created_at, self._deleted)

    async def delete_conversation(self, caller: Principal, id: object, change: Change | None) -> None:
        if self._lost:
            raise OrchestraError(ErrorCode.OUTCOME_UNKNOWN)
        self.changes.append(change)
        self.done.append(("record", caller.user, id))

    async def mark_deleted(self, _database: object, ref: ConversationRef) -> None:
        self.done.append(("hide", ref))


async def test_a_conversation_and_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its record is acknowledged a conversation is hidden, and its streams are looked after at once."""
    world = World()
    deletion = world.install(monkeypatch)
    with world.hub.turns.watch(REF, 0) as place:
        place.learn([], deleted=False)
        waiting = asyncio.create_task(place.next(60.0))
        await steps()
        assert [] == world.hub.turns.due()

        assert await deletion.delete(ANN, REF.id, CHANGE)

        assert [place] == world.hub.turns.due()
        waiting.cancel()
    assert [("look", REF, "ann"), ("record", "ann", REF.id), ("hide", REF)] == world.done


async def test_deletions_of_one_conversation_are_one_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls at the same time have the same id in the audit; a later conversation of the same name has another."""
    world = World()
    deletion = world.install(monkeypatch)

    for world.created_at in (CREATED, CREATED, CREATED.replace(year=2027)):
        await deletion.delete(ANN, REF.id, CHANGE)

    first, second, later = (change and change.id for change in world.changes)
    assert first == second != later


async def test_a_record_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Kafka is away a conversation stays visible, so that its deletion can be requested again."""
    world = World(lost=True)
    deletion = world.install(monkeypatch)

    with pytest.raises(OrchestraError):
        await deletion.delete(nameless(), REF.id, CHANGE)

    assert [("look", REF, None)] == world.done


@pytest.mark.parametrize(("deleted", "records"), [(None, 0), (True, 1)])
async def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch, deleted: bool | None, records: int) -> None:
    """Nothing is written of a conversation that the caller does not have; of a deleted one a record, once more."""
    world = World(deleted=deleted)

    assert not await world.install(monkeypatch).delete(ANN, REF.id, CHANGE)

    assert records == len(world.done) - 1

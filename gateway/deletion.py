"""Deletes conversations, whichever API asks for it."""

from uuid import UUID

from gateway.accept import Acceptance
from gateway.following.events import Hub
from gateway.people.principal import Principal
from orchestra.store import cancels
from orchestra.store.database import Database
from schemas.changes import Change
from schemas.ids import change_id_since


class Deletion:
    """Deletes conversations of a caller."""

    def __init__(self, database: Database, acceptance: Acceptance, hub: Hub) -> None:
        self._database = database
        self._acceptance = acceptance
        self._hub = hub

    async def delete(self, caller: Principal, id: UUID, change: Change) -> bool:
        """Delete a conversation with its messages, and cancel its open requests.

        ``change``: as it is audited, once. False: the caller has no conversation with this id. It is hidden at once,
        also from its streams, which end.
        Raises ``DatabaseUnavailableError`` and what ``Acceptance.delete_conversation`` raises.
        """
        ref = caller.conversation(id)
        life = await cancels.life_of(self._database, ref, caller.only)
        if life is None:
            return False
        # An id can be used again long after its conversation was deleted.
        change = change.model_copy(update={"id": change_id_since(change.id, life.created_at)})
        # The record goes first: if it is lost, the conversation stays visible, and can be deleted again. Also for one
        # that is deleted already: gateways of older releases hid it first.
        await self._acceptance.delete_conversation(caller, id, None if life.deleted else change)
        if not life.deleted:
            await cancels.mark_deleted(self._database, ref)
        self._hub.turns.hint(ref)
        return not life.deleted

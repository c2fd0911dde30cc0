"""The promises that hold after every step, whatever comes when: one head, no gap, no second answer."""

import asyncio
import random
from contextlib import suppress
from uuid import UUID, uuid4

import pytest

from orchestra.store import cancels, claims, endings, outbox
from orchestra.store.claims import Claimed
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.intake import NewRequest
from orchestra.store.turns import lock_conversations
from schemas.status import Status
from tests.support.store import claim, ending, let_lease_run_out, new_worker, request, take

STEPS = 40
AT_ONCE = 6

_INVARIANTS = {
    "a conversation with two heads": """
        SELECT 1 FROM requests WHERE status IN ('pending', 'in_progress')
        GROUP BY tenant, conversation_id HAVING count(*) > 1""",
    "a turn that waits behind nothing": """
        SELECT 1 FROM requests w WHERE w.status = 'waiting' AND NOT EXISTS (
            SELECT 1 FROM requests h WHERE h.tenant = w.tenant AND h.conversation_id = w.conversation_id
            AND h.status IN ('pending', 'in_progress'))""",
    "a turn that overtook an open one": """
        SELECT 1 FROM requests h JOIN requests w USING (tenant, conversation_id)
        WHERE h.status IN ('pending', 'in_progress') AND w.status = 'waiting' AND w.seq < h.seq""",
    "two answers to one request": """
        SELECT 1 FROM messages WHERE role = 'assistant' GROUP BY request_id HAVING count(*) > 1""",
    "an answer to a request that was not completed": """
        SELECT 1 FROM messages m JOIN requests r ON r.id = m.request_id
        WHERE m.role = 'assistant' AND r.status <> 'completed'""",
    "a completed request without an answer": """
        SELECT 1 FROM requests r JOIN conversations c ON c.id = r.conversation_id
        WHERE r.status = 'completed' AND c.deleted_at IS NULL AND NOT EXISTS (
            SELECT 1 FROM messages m WHERE m.request_id = r.id AND m.role = 'assistant')""",
    "an ending that nobody was told": """
        SELECT 1 FROM requests r WHERE r.finished_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.request_id = r.id)""",
    "a reply of what is still open": """
        SELECT 1 FROM outbox o JOIN requests r ON r.id = o.request_id WHERE r.finished_at IS NULL""",
    "a turn held by nobody": """
        SELECT 1 FROM requests WHERE status = 'in_progress' AND worker_id NOT IN (SELECT id FROM workers)""",
    "messages out of the order of their turns": """
        SELECT 1 FROM (
            SELECT r.seq, lag(r.seq) OVER (PARTITION BY m.conversation_id ORDER BY m.id) AS before
            FROM messages m JOIN requests r ON r.id = m.request_id
        ) AS ordered WHERE seq < before""",
    "text in a deleted conversation": """
        SELECT 1 FROM requests r JOIN conversations c ON c.id = r.conversation_id
        WHERE c.deleted_at IS NOT NULL AND r.finished_at IS NOT NULL AND r.body IS NOT NULL""",
}


class Storm:
    """Everything that can happen to a few conversations, at random and at once."""

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        self._random = random.Random(seed)
        self._conversations = [uuid4() for _ in range(4)]
        self._sent: list[NewRequest] = []
        self._workers: list[UUID] = []
        self._running: list[Claimed] = []
        self._ended: dict[UUID, str] = {}
        self._fences: dict[UUID, int] = {}

    async def run(self) -> None:
        for _ in range(STEPS):
            await asyncio.gather(*(self._something() for _ in range(self._random.randint(1, AT_ONCE))))
            await self._check()
        await self._calm()

    async def _something(self) -> None:
        things = {
            self._send: 6,
            self._send_again: 1,
            self._send_with_cancel: 1,
            self._claim: 5,
            self._finish: 6,
            self._finish_again: 1,
            self._cancel: 2,
            self._lose_worker: 1,
            self._expire: 1,
            self._publish: 1,
            self._delete: 0.2,
        }
        (thing,) = self._random.choices(list(things), list(things.values()))
        with suppress(DatabaseUnavailableError):  # The victim of a deadlock, who would try again.
            await thing()

    def _new(self) -> NewRequest:
        new = request(self._random.choice(self._conversations), max_tries=3)
        self._sent.append(new)
        return new

    async def _send(self) -> None:
        await take(self._database, *(self._new() for _ in range(self._random.randint(1, 4))))

    async def _send_again(self) -> None:
        known = self._random.choices(self._sent, k=2) if self._sent else []
        await take(self._database, *known, self._new(), *known)

    async def _send_with_cancel(self) -> None:
        new = self._new()
        await asyncio.gather(take(self._database, new), take(self._database, cancels=[new.ref]))

    async def _claim(self) -> None:
        if not self._workers or self._random.random() < 0.2:
            self._workers.append(await new_worker(self._database))
        worker_id = self._random.choice(self._workers)
        self._running += await claim(self._database, worker_id, self._random.randint(1, 3))

    async def _finish(self) -> None:
        self._random.shuffle(self._running)
        turns = [self._running.pop() for _ in range(min(len(self._running), self._random.randint(1, 3)))]
        kinds = [Status.COMPLETED, Status.COMPLETED, Status.FAILED, Status.PENDING]
        batch = [ending(turn, self._random.choice(kinds)) for turn in turns]
        await endings.finish(self._database, batch)
        if self._random.random() < 0.2:
            await endings.finish(self._database, batch)

    async def _finish_again(self) -> None:
        """Two that both think that a turn is theirs."""
        if self._running:
            turn = self._running.pop()
            await asyncio.gather(
                endings.finish(self._database, [ending(turn, reply="one")]),
                endings.finish(self._database, [ending(turn, Status.PENDING)]),
            )

    async def _cancel(self) -> None:
        refs = [each.ref for each in self._random.choices(self._sent, k=2)] if self._sent else []
        await take(self._database, cancels=[*refs, ("default", uuid4())])

    async def _lose_worker(self) -> None:
        if self._workers:
            await let_lease_run_out(self._database, self._random.choice(self._workers))
            await claims.give_back_lost(self._database)

    async def _expire(self) -> None:
        if self._sent:
            late = self._random.choices(self._sent, k=2)
            async with self._database.transaction() as tx:
                await lock_conversations(tx, [(each.tenant, each.conversation_id) for each in late])
                sql = "UPDATE requests SET deadline_at = now() WHERE id = ANY(:late) AND finished_at IS NULL"
                await tx.run(sql, late=[each.id for each in late])
            await endings.expire(self._database, 10)

    async def _publish(self) -> None:
        late = await outbox.unpublished(self._database, 0, 5)
        await outbox.mark_published(self._database, [each.id for each in late])

    async def _delete(self) -> None:
        gone = self._conversations.pop(self._random.randrange(len(self._conversations)))
        self._conversations.append(uuid4())
        await take(self._database, deletes=[("default", gone)])

    async def _check(self) -> None:
        broken = [name for name, sql in _INVARIANTS.items() if await self._database.run(sql)]
        assert broken == []
        for found in await self._database.run("SELECT id, status, fence FROM requests"):
            assert self._ended.get(found.id) in (None, found.status), "an ending changed"
            assert self._fences.get(found.id, 0) <= found.fence, "a fence fell"
            self._fences[found.id] = found.fence
            if found.status in set(Status) and Status(found.status).terminal:
                self._ended[found.id] = found.status

    async def _calm(self) -> None:
        """When nothing more comes, everything that was sent ends."""
        await take(self._database, *self._sent)  # What a deadlock kept out comes again.
        await cancels.settle_early(self._database)
        for worker_id in self._workers:
            await claims.leave(self._database, worker_id)
        await self._database.run("UPDATE requests SET run_at = now() WHERE status = 'pending'")
        await endings.expire(self._database, 100)
        worker_id = await new_worker(self._database)
        while turns := await claim(self._database, worker_id):
            await endings.finish(self._database, [ending(turn) for turn in turns])
            await endings.expire(self._database, 100)
        await self._check()
        open_now = await self._database.run("SELECT id, status FROM requests WHERE finished_at IS NULL")
        assert open_now == []
        assert {each.id for each in self._sent} == self._ended.keys()


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_breaks_whatever_comes_when(database: Database, seed: int) -> None:
    """Hundreds of random steps, several at once: after each the invariants hold; in the end all has ended."""
    await Storm(database, seed).run()

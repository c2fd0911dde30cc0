"""The promises that hold after every step, in any order: one head, no gap, no second answer, no other owner's text.

Storms do several things at once, by chance; the machine does one after the other, and Hypothesis looks for the shortest
way to what breaks. TEST_STORMS and TEST_STORM_STEPS: how many of both there are, and how many steps each has.
"""

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from orchestra.store import cancels, endings, leases, outbox, tasks
from orchestra.store.claims import Claimed
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.endings import AttemptEnd, Items
from orchestra.store.intake import NewRequest
from orchestra.store.turns import ConversationRef, RequestRef, lock_conversations
from schemas.requests import OnBusy
from schemas.status import Status
from tests.support.empty import empty
from tests.support.stack import Stack
from tests.support.store import claim, connect, ending, let_lease_run_out, new_worker, request, take, to_store

STORMS = int(os.environ.get("TEST_STORMS", "4"))
STEPS = int(os.environ.get("TEST_STORM_STEPS", "40"))
AT_ONCE = 6
STRANGER = "a stranger"
BUSY: tuple[OnBusy, OnBusy] = ("interrupt", "reject")

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
        WHERE r.status = 'completed' AND r.deleted_at IS NULL AND c.deleted_at IS NULL AND NOT EXISTS (
            SELECT 1 FROM messages m WHERE m.request_id = r.id AND m.role = 'assistant')""",
    "an ending without a reply": """
        SELECT 1 FROM requests r WHERE r.finished_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.request_id = r.id)""",
    "a reply of what is still open": """
        SELECT 1 FROM outbox o JOIN requests r ON r.id = o.request_id WHERE r.finished_at IS NULL""",
    "a turn held by no worker": """
        SELECT 1 FROM requests WHERE status = 'in_progress' AND worker_id NOT IN (SELECT id FROM workers)""",
    "messages out of the order of their turns": """
        SELECT 1 FROM (
            SELECT r.seq, lag(r.seq) OVER (PARTITION BY m.conversation_id ORDER BY m.id) AS before
            FROM messages m JOIN requests r ON r.id = m.request_id
        ) AS ordered WHERE seq < before""",
    "text in a deleted conversation": """
        SELECT 1 FROM requests r JOIN conversations c ON c.id = r.conversation_id
        WHERE c.deleted_at IS NOT NULL AND r.finished_at IS NOT NULL AND r.body IS NOT NULL""",
    "a turn in another's conversation": """
        SELECT 1 FROM requests r JOIN conversations c ON c.id = r.conversation_id
        WHERE r.user_name <> coalesce(c.owner, '') AND (r.status, r.error_code) IS DISTINCT FROM ('failed', 'not_found')
    """,
    "another's word in a conversation": """
        SELECT 1 FROM messages m JOIN requests r ON r.id = m.request_id JOIN conversations c ON c.id = m.conversation_id
        WHERE r.user_name <> coalesce(c.owner, '')""",
    "a turn that was claimed before its time": """
        SELECT 1 FROM requests WHERE fence > 0 AND not_before > now()""",
    "a turn that may run before its time": """
        SELECT 1 FROM requests WHERE status = 'pending' AND run_at < not_before""",
    "a removed task with its question": """
        SELECT 1 FROM requests WHERE deleted_at IS NOT NULL AND finished_at IS NOT NULL AND body IS NOT NULL""",
    "a removed task with its answer": """
        SELECT 1 FROM requests r JOIN messages m ON m.request_id = r.id
        WHERE r.deleted_at IS NOT NULL AND r.finished_at IS NOT NULL""",
    "a removed task whose answer is still to be published": """
        SELECT 1 FROM requests r JOIN outbox o ON o.request_id = r.id
        WHERE r.deleted_at IS NOT NULL AND CAST(o.value AS jsonb) ->> 'reply' IS NOT NULL""",
    # One that was over when it was born has interrupted nothing.
    "an interrupt that left something open before it": """
        SELECT 1 FROM requests i JOIN requests r USING (tenant, conversation_id)
        WHERE i.id = ANY(:interrupts) AND i.finished_at IS DISTINCT FROM i.created_at AND r.seq < i.seq
            AND r.finished_at IS NULL AND (r.status <> 'in_progress' OR r.cancel_requested_at IS NULL)""",
    "a turn that waits although it would not": """
        SELECT 1 FROM requests WHERE id = ANY(:rejects) AND status = 'waiting'""",
}

_CHECK = " UNION ALL ".join(
    f"SELECT $${name}$$ AS broken WHERE EXISTS ({invariant})" for name, invariant in _INVARIANTS.items()
)

_LATER = """
UPDATE requests SET run_at = run_at - interval '20 minutes', not_before = not_before - interval '20 minutes',
    deadline_at = deadline_at - interval '20 minutes'
"""

# Everything about a conversation but the number of its next turn, which a refused one takes too.
_STATE = """
SELECT to_jsonb(r)::text AS state FROM requests r WHERE conversation_id = :id AND id <> :but
UNION ALL SELECT to_jsonb(m)::text FROM messages m WHERE conversation_id = :id
UNION ALL SELECT to_jsonb(o)::text FROM outbox o WHERE conversation_id = :id AND request_id <> :but
UNION ALL SELECT (to_jsonb(c) - 'next_seq')::text FROM conversations c WHERE id = :id
ORDER BY state
"""

# What was said in a turn has its id in it, with a mark that no column has.
_WORDS_OF_REMOVED = """
SELECT r.id FROM requests r WHERE r.deleted_at IS NOT NULL AND EXISTS (
    SELECT 1 FROM (
        SELECT to_jsonb(t)::text FROM requests t UNION ALL SELECT to_jsonb(t)::text FROM messages t
        UNION ALL SELECT to_jsonb(t)::text FROM outbox t UNION ALL SELECT to_jsonb(t)::text FROM logs t
        UNION ALL SELECT to_jsonb(t)::text FROM attempt_errors t
    ) AS rows(text) WHERE position('said-' || r.id IN text) > 0
)
"""


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
        self._owners: dict[UUID, str | None] = {}
        self._claims: set[tuple[UUID, int]] = set()

    async def run(self) -> None:
        for _ in range(STEPS):
            await asyncio.gather(*(self._something() for _ in range(self._random.randint(1, AT_ONCE))))
            await self._check()
            if self._random.random() < 0.3:
                await self._intrude()
        await self._calm()

    async def _something(self) -> None:
        things = {
            self._send: 6,
            self._send_again: 1,
            self._send_another: 0.5,
            self._send_with_cancel: 1,
            self._claim: 5,
            self._finish: 6,
            self._finish_again: 1,
            self._cancel: 2,
            self._lose_worker: 1,
            self._renew: 1,
            self._pass_time: 1,
            self._remove: 1.5,
            self._expire: 1,
            self._publish: 1,
            self._delete: 0.2,
        }
        (thing,) = self._random.choices(list(things), list(things.values()))
        with suppress(DatabaseUnavailableError):  # The victim of a deadlock, who would try again.
            await thing()

    def _new(self) -> NewRequest:
        id, any_of = uuid4(), self._random.choice
        soon = datetime.now(UTC) + timedelta(minutes=self._random.randint(1, 50))
        new = request(
            any_of(self._conversations),
            id=id,
            text=_words(id),
            max_tries=3,
            priority=self._random.randint(0, 9),
            user=any_of([None, None, "ann", "ann", "ann", "bob"]),
            task_type=any_of([None, "summarization"]),
            on_busy=any_of(["enqueue"] * 8 + [*BUSY]),
            not_before=any_of([None] * 6 + [soon]),
        )
        self._sent.append(new)
        return new

    async def _send(self) -> None:
        await take(self._database, *(self._new() for _ in range(self._random.randint(1, 4))))

    async def _send_again(self) -> None:
        known = self._random.choices(self._sent, k=2) if self._sent else []
        await take(self._database, *known, self._new(), *known)

    async def _send_another(self) -> None:
        """Something else under an id that is known: whichever comes first holds."""
        if self._sent:
            known = self._random.choice(self._sent)
            await take(self._database, replace(known, body_hash="another", on_busy="interrupt"), self._new())

    async def _send_with_cancel(self) -> None:
        new = self._new()
        await asyncio.gather(take(self._database, new), take(self._database, cancels=[new.ref]))

    async def _claim(self) -> None:
        if not self._workers or self._random.random() < 0.2:
            self._workers.append(await new_worker(self._database))
        worker_id = self._random.choice(self._workers)
        # Of sixteen at least two go by age.
        turns = await claim(self._database, worker_id, self._random.choice([1, 2, 3, 16]))
        again = self._claims & {(turn.id, turn.fence) for turn in turns}
        assert not again, "a turn was claimed twice under one fence"
        assert all(turn.seconds_queued >= 0 for turn in turns), "a turn was claimed before its time"
        self._claims |= {(turn.id, turn.fence) for turn in turns}
        self._running += turns

    async def _finish(self) -> None:
        self._random.shuffle(self._running)
        turns = [self._running.pop() for _ in range(min(len(self._running), self._random.randint(1, 3)))]
        kinds = [Status.COMPLETED, Status.COMPLETED, Status.FAILED, Status.PENDING]
        batch = [_ending(turn, self._random.choice(kinds)) for turn in turns]
        await endings.finish(self._database, batch)
        if self._random.random() < 0.2:
            await endings.finish(self._database, batch)

    async def _finish_again(self) -> None:
        """Two workers that both believe that a turn is theirs."""
        if self._running:
            turn = self._running.pop()
            await asyncio.gather(
                endings.finish(self._database, [_ending(turn, reply=f"{_words(turn.id)}, too")]),
                endings.finish(self._database, [ending(turn, Status.PENDING)]),
            )

    async def _cancel(self) -> None:
        refs = [each.ref for each in self._random.choices(self._sent, k=2)] if self._sent else []
        await take(self._database, cancels=[*refs, RequestRef("default", uuid4())])

    async def _lose_worker(self) -> None:
        """Another worker takes its turns, while it may still believe that it holds them."""
        if self._workers:
            lost = self._workers.pop(self._random.randrange(len(self._workers)))
            await let_lease_run_out(self._database, lost)
            await leases.give_back_lost(self._database)
            await self._claim()

    async def _renew(self) -> None:
        if self._workers:
            await leases.renew(self._database, self._random.choice(self._workers))

    async def _pass_time(self) -> None:
        """Act as if twenty minutes had passed for every request."""
        async with self._database.transaction() as tx:
            conversations = await tx.run("SELECT tenant, id FROM conversations")
            await lock_conversations(tx, [(row.tenant, row.id) for row in conversations])
            await tx.run(_LATER)

    async def _remove(self) -> None:
        """As the gateway does it, and without the cancel that goes before."""
        known = [each for each in self._sent if each.task_type]
        if known:
            task = self._random.choice(known)
            if self._random.random() < 0.5:
                await take(self._database, cancels=[task.ref])
            await tasks.remove(self._database, task.ref, task.conversation_id, self._random.choice([None, task.user]))

    async def _intrude(self) -> None:
        """Another user sends a turn to a conversation and tries to remove a task: neither changes anything."""
        owned = await self._database.run("SELECT id FROM conversations WHERE owner IS NOT NULL ORDER BY id")
        if not owned:
            return
        conversation: UUID = self._random.choice(owned).id
        busy, soon = self._random.choice(["enqueue", "reject", "interrupt"]), datetime.now(UTC) + timedelta(hours=1)
        new = request(conversation, user=STRANGER, on_busy=busy, not_before=self._random.choice([None, soon]))
        before = await self._state(conversation, new)
        done = await take(self._database, new)
        for each in self._sent:
            if each.conversation_id == conversation:
                assert not await tasks.remove(self._database, each.ref, conversation, STRANGER)
        assert await cancels.life_of(self._database, new.conversation, STRANGER) is None
        assert await self._state(conversation, new) == before
        assert (new.id, []) == (done.announcements[-1].request_id, done.running_cancelled)
        self._sent.append(new)

    async def _state(self, conversation: UUID, but: NewRequest) -> list[str]:
        return [row.state for row in await self._database.run(_STATE, id=conversation, but=but.id)]

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
        if self._random.random() < 0.5:
            await cancels.mark_deleted(self._database, ConversationRef("default", gone))
        await take(self._database, deletes=[ConversationRef("default", gone)])

    async def _check(self) -> None:
        interrupts, rejects = ([each.id for each in self._sent if each.on_busy == busy] for busy in BUSY)
        broken = await self._database.run(_CHECK, interrupts=interrupts, rejects=rejects)
        assert [each.broken for each in broken] == []
        for each in await self._database.run("SELECT id, owner FROM conversations"):
            assert self._owners.setdefault(each.id, each.owner) == each.owner, "a conversation changed hands"
        for row in await self._database.run("SELECT id, status, fence FROM requests"):
            assert self._ended.get(row.id) in (None, row.status), "an ending changed"
            assert self._fences.get(row.id, 0) <= row.fence, "a fence fell"
            self._fences[row.id] = row.fence
            if row.status in set(Status) and Status(row.status).terminal:
                self._ended[row.id] = row.status

    async def _calm(self) -> None:
        """When nothing more comes, every request that was sent ends."""
        await take(self._database, *self._sent)  # What a deadlock kept out comes again.
        await cancels.settle_early(self._database)
        await leases.give_back_lost(self._database)  # Whose lease was passed over, as they were just claiming.
        for worker_id in self._workers:
            await leases.leave(self._database, worker_id)
        past = "UPDATE requests SET run_at = now(), not_before = now() WHERE finished_at IS NULL"
        await self._database.run(past)
        await endings.expire(self._database, 100)
        worker_id = await new_worker(self._database)
        while turns := await claim(self._database, worker_id):
            await endings.finish(self._database, [_ending(turn) for turn in turns])
            await endings.expire(self._database, 100)
        await self._check()
        open_now = await self._database.run("SELECT id, status FROM requests WHERE finished_at IS NULL")
        assert open_now == []
        assert not await self._database.run(_WORDS_OF_REMOVED)
        assert {each.id for each in self._sent} == self._ended.keys()


def _words(id: UUID) -> str:
    return f"said-{id}"


def _ending(turn: Claimed, status: Status = Status.COMPLETED, **more: Any) -> AttemptEnd:
    if status is Status.COMPLETED:
        words = _words(turn.id)
        said = [to_store("user", words, [{"type": "text", "text": words}], None, 5)]
        call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": words}
        items = Items([call], 5, {"provider": words})
        more = {"said": said, "reply": f"{words} again", "items": items, **more}
    return ending(turn, status, **more)


@pytest.mark.parametrize("seed", range(STORMS))
async def test_nothing_breaks_whatever_comes_when(database: Database, seed: int) -> None:
    """Hundreds of random steps, several at once: after each the invariants hold; in the end all has ended."""
    await Storm(database, seed).run()


Thing = Callable[[Storm], Coroutine[Any, Any, None]]


class Machine(RuleBasedStateMachine):
    """The same, one thing after the other, as Hypothesis draws them. ``url``: an empty database."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._database = self._runner.run(self._open())
        self._storm = Storm(self._database, 0)

    @invariant()
    def nothing_is_broken(self) -> None:
        self._runner.run(self._storm._check())

    def teardown(self) -> None:
        try:
            self._runner.run(self._storm._calm())
        finally:
            self._runner.run(self._database.close())
            self._runner.close()

    def do(self, thing: Thing, chance: random.Random) -> None:
        self._storm._random = chance
        self._runner.run(thing(self._storm))

    async def _open(self) -> Database:
        database = connect(self.url)
        await empty(database)
        return database


def _add_rule(thing: Thing) -> None:
    # One number a step: what is drawn must not depend on what Postgres does.
    @rule(seed=st.integers(0, 2**32))
    def step(self: Machine, seed: int) -> None:
        self.do(thing, random.Random(seed))

    setattr(Machine, thing.__name__.strip("_"), step)


for _thing in (
    Storm._send, Storm._send_again, Storm._send_another, Storm._send_with_cancel, Storm._claim, Storm._finish,
    Storm._finish_again, Storm._cancel, Storm._lose_worker, Storm._renew, Storm._pass_time, Storm._remove,
    Storm._expire, Storm._publish, Storm._delete, Storm._intrude,
):  # fmt: skip
    _add_rule(_thing)


async def test_no_order_of_events_breaks_anything(stack: Stack) -> None:
    """Whatever follows whatever, the invariants hold after each step, and in the end all has ended."""
    Machine.url = await stack.fresh_database()
    how = settings(
        max_examples=3 * STORMS,
        stateful_step_count=STEPS,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, Machine, settings=how)

"""Promises of orchestra/store/branches.py: what a branch inherits, and from whom."""

import random
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from orchestra.store import branches, cancels, conversations, messages
from orchestra.store.branches import Copied
from orchestra.store.database import Database
from orchestra.store.messages import Recall
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.status import Status
from tests.support.store import claim_one, finish, request, take, to_store


def ref(id: UUID, tenant: str = "default") -> ConversationRef:
    """A conversation of the default tenant."""
    return ConversationRef(tenant, id)


async def say(database: Database, conversation: UUID, question: str, answer: str, owner: str | None = None) -> int:
    """A turn of a conversation; the id of its answer."""
    await take(database, asked := request(conversation, user=owner))
    await finish(database, await claim_one(database), said=[to_store("user", question)], reply=answer)
    found = await branches.last_message(database, asked.ref)
    assert found
    return found[1]


async def branched(database: Database, parent: UUID, up_to: int, owner: str | None = None) -> UUID:
    """A new branch of a conversation."""
    id = uuid4()
    assert await branches.branch(database, ref(id), owner, ref(parent), up_to, {})
    return id


async def recalled(database: Database, conversation: UUID, budget: int = 100_000) -> list[object]:
    """The contents that are recalled within this many bytes."""
    found = await messages.recall(database, [Recall(ref(conversation), budget)])
    return [each.content for each in found.get(ref(conversation), [])]


async def test_a_branch_begins_with_the_history_of_its_parent_up_to_a_message(database: Database) -> None:
    """What its parent and its siblings go on to say is not in it."""
    parent = uuid4()
    first = await say(database, parent, "q1", "a1")
    await say(database, parent, "q2", "a2")
    one, other = await branched(database, parent, first), await branched(database, parent, first)
    await say(database, one, "q3", "a3")
    await say(database, parent, "q4", "a4")

    assert ["q1", "a1", "q3", "a3"] == await recalled(database, one)
    assert ["q1", "a1"] == await recalled(database, other)
    assert ["q1", "a1", "q2", "a2", "q4", "a4"] == await recalled(database, parent)


async def test_the_first_turn_of_a_branch_is_claimed_as_one_with_a_history(database: Database) -> None:
    """A worker recalls the history of a branch even if the branch has no message of its own."""
    parent = uuid4()
    branch = await branched(database, parent, await say(database, parent, "q1", "a1"))

    await take(database, request(branch))

    assert (await claim_one(database)).may_have_history


async def test_a_branch_of_which_nothing_fits_has_an_empty_history(database: Database) -> None:
    """A result of a tool whose call does not fit is not mistaken for one without a call."""
    parent = uuid4()
    branch = await branched(database, parent, await say(database, parent, "q1", "a1"))

    assert {ref(branch): []} == await messages.recall(database, [Recall(ref(branch), 1), Recall(ref(parent), 1)])


async def test_what_is_deleted_in_a_parent_is_gone_from_its_branches(database: Database) -> None:
    """At once, and the branch goes on; what lies before the deleted conversation stays."""
    first = uuid4()
    second = await branched(database, first, await say(database, first, "q1", "a1"))
    third = await branched(database, second, await say(database, second, "q2", "a2"))
    await say(database, third, "q3", "a3")

    await cancels.mark_deleted(database, ref(second))
    assert ["q1", "a1", "q3", "a3"] == await recalled(database, third)

    async with database.transaction() as tx:
        await cancels.delete_conversations(tx, [ref(second)])
    await say(database, third, "q4", "a4")
    assert ["q1", "a1", "q3", "a3", "q4", "a4"] == await recalled(database, third)


async def test_only_what_a_caller_may_read_is_branched(database: Database) -> None:
    """A deleted parent, an unknown one, another owner's and another tenant's are the same."""
    mine, deleted = uuid4(), uuid4()
    up_to = await say(database, mine, "q", "a", owner="alice")
    await say(database, deleted, "q", "a")
    await cancels.mark_deleted(database, ref(deleted))

    async def made(parent: ConversationRef, only: str | None = None) -> bool:
        return await branches.branch(database, ref(uuid4(), parent.tenant), only, parent, up_to, {}, only)

    assert await made(ref(mine), "alice")
    assert await made(ref(mine))
    assert not await made(ref(mine), "bob")
    assert not await made(ref(mine, "other"))
    assert not await made(ref(deleted))
    assert not await made(ref(uuid4()))


async def test_an_id_is_branched_once(database: Database) -> None:
    """An id that is or was in use stays what it is."""
    parent = uuid4()
    up_to = await say(database, parent, "q", "a")
    branch = await branched(database, parent, up_to)

    assert not await branches.branch(database, ref(branch), None, ref(parent), 0, {})
    assert not await branches.branch(database, ref(parent), None, ref(branch), up_to, {})
    assert ["q", "a"] == await recalled(database, branch)


async def shown(database: Database, conversation: UUID, size: int = 100) -> list[str]:
    """What pages of this size show of a conversation."""
    seen: list[str] = []
    after, more = 0, True
    while more:
        found, more = await messages.page(database, ref(conversation), after, size)
        seen += [each.content for each in found]
        after = found[-1].id if found else 0
    return seen


async def test_pages_go_through_what_a_branch_inherits(database: Database) -> None:
    """Oldest first, whatever the size of the pages; what its parents go on to say is not shown."""
    first = uuid4()
    second = await branched(database, first, await say(database, first, "q1", "a1"))
    await say(database, first, "no", "no")
    third = await branched(database, second, await say(database, second, "q2", "a2"))
    await say(database, second, "no", "no")
    await say(database, third, "q3", "a3")

    for size in (1, 2, 3, 100):
        assert ["q1", "a1", "q2", "a2", "q3", "a3"] == await shown(database, third, size)


async def test_a_place_is_one_of_the_history(database: Database) -> None:
    """The newest message, or one that the history has, inherited or not."""
    parent = uuid4()
    early = await say(database, parent, "q1", "a1", owner="alice")
    branch = await branched(database, parent, early, owner="alice")
    late = await say(database, parent, "q2", "a2", owner="alice")
    own = await say(database, branch, "q3", "a3", owner="alice")

    places = [await branches.position(database, ref(branch), message) for message in (None, early, own, late, 0)]

    assert [own, early, own, None, 0] == places
    assert None is await branches.position(database, ref(branch), own, "bob")
    assert 0 == await branches.position(database, ref(uuid4()))


async def test_a_copy_has_all_that_was_said_and_depends_on_nothing(database: Database) -> None:
    """Roles, parts, items, calls and the provider's data are copied; the original may go."""
    parent, copy = uuid4(), uuid4()
    branch = await branched(database, parent, await say(database, parent, "q1", "a1"))
    await database.run(
        """INSERT INTO messages
            (conversation_id, role, content, parts, tool_call_id, output, state, weight, finish_reason)
        VALUES (:id, 'tool', 't', '[{"type": "text", "text": "t"}]', 'call', NULL, NULL, 7, NULL),
            (:id, 'assistant', 'b', NULL, NULL, '[{"type": "message"}]', '{"opaque": 1}', 9, 'stop')""",
        id=branch,
    )
    columns = "role, content, parts, tool_call_id, output, state, weight, finish_reason, created_at"
    select = f"SELECT {columns} FROM messages WHERE conversation_id = ANY(CAST(:ids AS uuid[])) ORDER BY id"
    said = [tuple(row) for row in await database.run(select, ids=[parent, branch])]

    assert Copied.MADE is await branches.copy(database, ref(copy), "alice", ref(branch), {"a": "b"})
    assert Copied.NOT_MADE is await branches.copy(database, ref(copy), None, ref(branch), None)
    async with database.transaction() as tx:
        await cancels.delete_conversations(tx, [ref(parent), ref(branch)])

    assert said == [tuple(row) for row in await database.run(select, ids=[copy])]
    found = await conversations.get(database, ref(copy), "alice")
    assert found is not None
    assert ({"a": "b"}, None) == (found.metadata, found.branch_of)
    assert Copied.NOT_MADE is await branches.copy(database, ref(uuid4()), None, ref(branch), None)


async def test_a_copy_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation with too many messages or bytes is not copied; what must not be kept is left out."""
    original = uuid4()
    await say(database, original, "q1", "a1")
    kept_by_nobody = request(original)
    kept_by_nobody.body["store"] = False
    await take(database, kept_by_nobody)
    await finish(database, await claim_one(database), said=[to_store("user", "no")], reply="no")

    async def copied() -> tuple[Copied, list[str]]:
        id = uuid4()
        return await branches.copy(database, ref(id), None, ref(original), None), await shown(database, id)

    assert (Copied.MADE, ["q1", "a1"]) == await copied()
    monkeypatch.setattr(branches, "MAX_COPIED_MESSAGES", 2)
    monkeypatch.setattr(branches, "MAX_COPIED_BYTES", 4)
    assert (Copied.MADE, ["q1", "a1"]) == await copied()
    for name, value in (("MAX_COPIED_MESSAGES", 1), ("MAX_COPIED_BYTES", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(branches, name, value)
            assert (Copied.TOO_LARGE, []) == await copied()


async def test_metadata_is_that_of_the_original_unless_given(database: Database) -> None:
    """A branch names its parent; it and a copy take over the metadata."""
    parent, branch, copy = (ref(uuid4()) for _ in range(3))
    await conversations.create(database, parent, None, {"topic": "owls"})
    await branches.branch(database, branch, None, parent, 0, None)
    await branches.copy(database, copy, None, parent, None)

    found = [await conversations.get(database, each) for each in (branch, copy)]

    assert [({"topic": "owls"}, parent.id), ({"topic": "owls"}, None)] == [
        (each.metadata, each.branch_of) for each in found if each
    ]


async def test_the_last_message_of_a_request_is_its_answer(database: Database) -> None:
    """A request without an answer, deleted, another owner's or not to be kept has none."""
    conversation, kept_by_nobody = uuid4(), request(id := uuid4(), id=id)
    kept_by_nobody.body["store"] = False
    for asked, how in ((request(), Status.FAILED), (kept_by_nobody, Status.COMPLETED)):
        await take(database, asked)
        await finish(database, await claim_one(database), how)
        assert None is await branches.last_message(database, asked.ref)
    assert not await branches.branch(database, ref(uuid4()), None, ref(kept_by_nobody.conversation_id), 0, {})

    await take(database, asked := request(conversation, user="alice"))
    assert None is await branches.last_message(database, asked.ref)
    await finish(database, await claim_one(database))
    newest = (await database.run("SELECT max(id) AS id FROM messages"))[0].id

    assert (ref(conversation), newest) == await branches.last_message(database, asked.ref, "alice")
    assert None is await branches.last_message(database, asked.ref, "bob")
    assert None is await branches.last_message(database, RequestRef("other", asked.id))
    await cancels.mark_deleted(database, ref(conversation))
    assert None is await branches.last_message(database, asked.ref)


@dataclass
class Modelled:
    """A conversation in plain Python: its own messages as id, role and text, and where its history begins."""

    id: UUID
    parent: "Modelled | None" = None
    up_to: int = 0
    own: list[tuple[int, str, str]] = field(default_factory=list)

    def history(self) -> list[tuple[int, str, str]]:
        """All messages, oldest first."""
        before = [each for each in self.parent.history() if each[0] <= self.up_to] if self.parent else []
        return before + self.own

    def within(self, budget: int) -> list[str]:
        """The newest whole turns within this many bytes."""
        kept: list[tuple[int, str, str]] = []
        for each in reversed(self.history()):
            if sum(len(text) for _, _, text in [each, *kept]) > budget:
                break
            kept.insert(0, each)
        while kept and kept[0][1] == "assistant":
            kept.pop(0)
        return [text for _, _, text in kept]


@pytest.mark.parametrize("seed", range(5))
async def test_recall_is_that_of_a_model(database: Database, seed: int) -> None:
    """Trees of branches at any message, with deletions, recall what a plain model of them says, within any budget."""
    chance = random.Random(seed)
    all: list[Modelled] = []
    for _ in range(40):
        match chance.choice("new branch branch say say say delete".split()):
            case "branch" if parent := chance.choice([*all, None]):
                id, history = uuid4(), parent.history()
                up_to = chance.choice([0, *(each[0] for each in history)])
                assert await branches.branch(database, ref(id), None, ref(parent.id), up_to, {})
                all.append(Modelled(id, parent, up_to))
            case "say" if all:
                said = chance.choice(all)
                texts = [("user", "q" * chance.randint(1, 20)), ("assistant", "a" * chance.randint(1, 20))]
                for role, text in texts:
                    said.own.append((await _insert(database, said.id, role, text), role, text))
            case "delete" if all and chance.random() < 0.3:
                gone = chance.choice(all)
                async with database.transaction() as tx:
                    await cancels.delete_conversations(tx, [ref(gone.id)])
                gone.own.clear()
                all.remove(gone)
            case _:
                all.append(Modelled(uuid4()))
                await take(database, request(all[-1].id))

    for budget in (10, 35, 100, 10_000):
        found = await messages.recall(database, [Recall(ref(each.id), budget) for each in all])
        for each in all:
            assert each.within(budget) == [message.content for message in found.get(ref(each.id), [])]
    for each in all:
        assert [text for _, _, text in each.history()] == await shown(database, each.id, chance.randint(1, 5))
        history = [id for id, _, _ in each.history()]
        assert (history or [0])[-1] == await branches.position(database, ref(each.id))


async def _insert(database: Database, conversation: UUID, role: str, text: str) -> int:
    rows = await database.run(
        "INSERT INTO messages (conversation_id, role, content) VALUES (:conversation, :role, :text) RETURNING id",
        conversation=conversation, role=role, text=text,
    )  # fmt: skip
    id: int = rows[0].id
    return id

"""Promises of orchestra/store/next_turns.py: which turns come behind a place in a conversation."""

from uuid import uuid4

from orchestra.store import cancels, next_turns
from orchestra.store.database import Database
from orchestra.store.next_turns import MAX_TURNS, Following, NextTurn
from orchestra.store.turns import ConversationRef, RequestRef
from tests.support.store import claim_one, finish, request, take


async def test_turns_behind_places_of_many_conversations(database: Database) -> None:
    """One statement gives, for each place, the turns behind it in their order, whether they have ended or not."""
    one, other = (ConversationRef("default", uuid4()) for _ in "12")
    turns = [request(one.id) for _ in range(3)]
    alone = request(other.id)
    await take(database, *turns)
    await finish(database, await claim_one(database))
    await take(database, alone)
    numbers = [await next_turns.number_of(database, one, RequestRef("default", each.id)) for each in turns]
    assert [1, 2, 3] == numbers

    places = [(one, 0), (other, 0), (one, 2), (one, 3), (ConversationRef("default", uuid4()), 0)]
    found = await next_turns.next_turns(database, places)

    all_of_one = [NextTurn(number, each.id) for number, each in enumerate(turns, 1)]
    assert [
        Following(all_of_one, deleted=False),
        Following([NextTurn(1, alone.id)], deleted=False),
        Following(all_of_one[2:], deleted=False),
        Following([], deleted=False),
        Following([], deleted=True),
    ] == found
    assert [] == await next_turns.next_turns(database, [])


async def test_a_look_finds_a_bounded_number_of_turns(database: Database) -> None:
    """However many turns a conversation has, one look gives a few, and the next look those behind them."""
    ref = ConversationRef("default", uuid4())
    turns = [request(ref.id) for _ in range(MAX_TURNS + 1)]
    await take(database, *turns)

    ((first, _),) = await next_turns.next_turns(database, [(ref, 0)])
    ((rest, _),) = await next_turns.next_turns(database, [(ref, first[-1].seq)])

    assert [each.id for each in turns] == [each.id for each in (*first, *rest)]
    assert MAX_TURNS == len(first)


async def test_the_last_turns_of_a_deleted_conversation(database: Database) -> None:
    """A deleted conversation shows the turns that were open, or had just ended, so that their streams can tell them."""
    ref = ConversationRef("default", uuid4())
    turns = [request(ref.id) for _ in range(3)]
    await take(database, *turns)
    for _ in "12":
        await finish(database, await claim_one(database))
    await database.run(
        "UPDATE requests SET finished_at = now() - interval '1 minute' WHERE id = :id RETURNING 1", id=turns[0].id
    )
    left = [Following([NextTurn(number, turns[number - 1].id) for number in (2, 3)], deleted=True)]

    await cancels.mark_deleted(database, ref)
    assert left == await next_turns.next_turns(database, [(ref, 0)])
    async with database.transaction() as tx:
        await cancels.delete_conversations(tx, [ref])
    assert left == await next_turns.next_turns(database, [(ref, 0)])
    assert [Following([], deleted=True)] == await next_turns.next_turns(database, [(ref, 3)])


async def test_a_number_within_another_conversation(database: Database) -> None:
    """A request has a number in its own conversation and in no other."""
    turn = request(uuid4())
    await take(database, turn)

    assert (
        await next_turns.number_of(database, ConversationRef("default", uuid4()), RequestRef("default", turn.id))
        is None
    )
    assert (
        await next_turns.number_of(database, ConversationRef(*turn.conversation), RequestRef("other", turn.id)) is None
    )

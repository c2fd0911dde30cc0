"""The life of turns on real Kafka and Postgres: order, cancels, deadlines, retries, thousands at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from llm_service.providers.simulated import conversation_hash
from schemas.generation import ChatMessage
from tests.support.llm_script import (
    END,
    Held,
    LlmScript,
    Script,
    fails_first,
    line,
    llm_script,
    problem,
    refuses,
    sends,
)
from tests.support.road import Road, open_road
from tests.support.stack import Stack
from tests.support.waiting import eventually
from workers.timings import Timings


async def hash_history(request: web.Request, response: web.StreamResponse) -> None:
    """Answer with a hash of the whole prompt: one lost, doubled or misplaced turn changes every later answer."""
    body = await request.json()
    text = conversation_hash([ChatMessage.model_validate(each) for each in body["messages"]])
    await sends(line(delta=text), END)(request, response)


@pytest.fixture
def gate() -> Held:
    """A closed gate."""
    return Held()


@pytest.fixture
async def llm(gate: Held) -> AsyncIterator[LlmScript]:
    """A scripted LLM service."""
    scripts: dict[str, Script] = {
        "hash": hash_history,
        "gate": gate,
        "fails_twice": fails_first(2, refuses(503, problem("overloaded"))),
        "limits_twice": fails_first(2, refuses(429, problem("rate_limited"), Retry_After="0")),
        "breaks_once": fails_first(1, sends(line(delta="half an answer"))),
        "always_down": refuses(503, problem("overloaded")),
        "filtered": refuses(422, problem("content_filter", "no")),
        "huge": sends(line(delta="\x01" * 700_000), END),
    }
    async with llm_script(**scripts) as running:
        yield running


@pytest.fixture
async def road(stack: Stack, llm: LlmScript) -> AsyncIterator[Road]:
    """A setup of this test's own."""
    async with open_road(stack, llm) as opened:
        yield opened


def expected(turns: int) -> list[str]:
    """The answers of a whole conversation with the hashing model."""
    history: list[ChatMessage] = []
    for turn in range(turns):
        history.append(ChatMessage(role="user", content=f"turn {turn}"))
        history.append(ChatMessage(role="assistant", content=conversation_hash(history)))
    return [each.content for each in history if each.role == "assistant"]


async def test_a_long_conversation_keeps_its_order_through_many_workers(road: Road) -> None:
    """50 turns and nine other conversations on three workers keep their order: each answer depends on all before it."""
    conversations = [uuid4() for _ in range(10)]
    turns = {conversation: 50 if place == 0 else 5 for place, conversation in enumerate(conversations)}
    asked: dict[UUID, list[UUID]] = {}
    for conversation, count in turns.items():
        asked[conversation] = [await road.ask(f"turn {turn}", conversation, "hash") for turn in range(count)]
    async with AsyncExitStack() as workers:
        for _ in range(3):
            await workers.enter_async_context(road.worker())
        assert {"completed"} == set(await road.endings([id for ids in asked.values() for id in ids]))
        ids = asked[conversations[0]]
        await road.replies(ids)

    answers = await road.answers()
    for conversation, count in turns.items():
        assert expected(count) == [answers[id][0] for id in asked[conversation]]
    assert sum(turns.values()) == len(road.llm.calls)
    first_seen = list(dict.fromkeys(each.json["request_id"] for each in road.outs if each.kind == "reply"))
    assert [str(id) for id in ids] == [each for each in first_seen if UUID(each) in set(ids)]


async def test_a_request_whose_time_is_up_expires(road: Road, gate: Held) -> None:
    """A request past its deadline is stopped while running, and never starts while waiting or too late."""
    conversation = uuid4()
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    async with road.worker():
        running = await road.ask("1", conversation, "gate", deadline=soon)
        waiting = await road.ask("2", conversation, "gate", deadline=soon)
        late = await road.ask("3", model="gate", deadline=datetime(2020, 1, 1, tzinfo=UTC).isoformat())
        assert ["expired"] * 3 == await road.endings([running, waiting, late])
        await asyncio.wait_for(road.llm.calls[0].left.wait(), 10)

    assert ["1"] == [call.said for call in road.llm.calls]


async def test_a_failed_turn_is_told_and_lets_the_next_one_run(road: Road) -> None:
    """A turn that cannot succeed fails with its reason, and the next turn's prompt does not contain it."""
    conversation = uuid4()
    async with road.worker():
        bad = await road.ask("bad", conversation, "filtered")
        good = await road.ask("turn 0", conversation, "hash")
        assert ["failed", "completed"] == await road.endings([bad, good])
        (reply,) = await road.replies([bad])

    assert {"code": "content_filter", "detail": "no"} == reply.json["error"]
    assert expected(1) == (await road.answers())[good]


async def test_a_slow_conversation_delays_no_other(road: Road, gate: Held) -> None:
    """While a turn hangs all other conversations are answered, and the turns behind it wait."""
    conversation = uuid4()
    async with road.worker():
        slow = [await road.ask("slow", conversation, "gate") for _ in range(2)]
        fast = [await road.ask(f"fast {number}") for number in range(100)]
        assert {"completed"} == set(await road.endings(fast))
        assert 1 == road.llm.open_now
        gate.open.set()
        assert ["completed"] * 2 == await road.endings(slow)


async def test_thousands_of_calls_are_in_flight_in_one_worker(road: Road, gate: Held) -> None:
    """One process has a thousand open calls at once; every one is answered, and none is sent twice."""
    # On a busy machine the last call begins long after the first, which sends nothing meanwhile.
    timings = Timings(silence=3_600.0)
    ids = await asyncio.gather(*(road.ask(f"{number}", model="gate") for number in range(1100)))
    async with road.worker(timings, worker_concurrency=1000) as running:
        await eventually(lambda: road.llm.open_now == 1000, 240)
        assert 1000 == running.count("in_flight")
        gate.open.set()
        assert {"completed"} == set(await road.endings(ids))

    assert (1000, 1100) == (road.llm.most_open, len(road.llm.calls))


async def test_an_answer_in_huge_pieces_arrives(road: Road) -> None:
    """A line of four megabytes goes out in records that fit, and the reply says where the text is."""
    async with road.worker():
        id = await road.ask("much", model="huge")
        assert ["completed"] == await road.endings([id])
        (reply,) = await road.replies([id])
        await eventually(lambda: [event for event in road.events(id) if event.kind == "completed"])

    assert (None, f"/v1/requests/{id}") == (reply.json["reply"], reply.json["reply_url"])
    assert {id: ["\x01" * 700_000]} == await road.answers()
    assert "\x01" * 700_000 == "".join(event.json["text"] for event in road.events(id) if event.kind == "delta")


NEVER = Timings(look_for_turns=3600, max_look_for_turns=3600)


async def test_a_delayed_turn_waits_for_no_regular_look(road: Road) -> None:
    """A turn with ``not_before`` runs when it is due, in a worker that never looks without being woken."""
    soon = datetime.now(UTC) + timedelta(seconds=2)
    async with road.worker(NEVER):
        id = await road.ask("later", not_before=soon.isoformat())
        assert ["completed"] == await road.endings([id])


async def test_a_retry_waits_for_no_regular_look(road: Road) -> None:
    """A failed turn runs again after its delay, in a worker that never looks without being woken."""
    async with road.worker(NEVER):
        id = await road.ask("again", model="breaks_once")
        assert ["completed"] == await road.endings([id])


async def test_a_turn_behind_a_cancelled_one_waits_for_no_regular_look(road: Road) -> None:
    """When a head is cancelled before it ran, the next turn runs, in a worker that never looks without being woken."""
    conversation, far = uuid4(), datetime.now(UTC) + timedelta(hours=1)
    async with road.worker(NEVER):
        head = await road.ask("tomorrow", conversation, not_before=far.isoformat())
        behind = await road.ask("behind it", conversation)
        await eventually(lambda: road.database.run("SELECT 1 FROM requests WHERE id = :id", id=behind))
        await road.cancel(head)
        assert ["cancelled", "completed"] == await road.endings([head, behind])

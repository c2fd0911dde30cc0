"""Agents on real Kafka and Postgres: what each sends to the model, and answers that must match a schema."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from orchestra.agents.catalogue import Agents
from schemas.ids import record_id
from tests.support.gateway import running_gateway, streaming, text_of
from tests.support.llm_script import END, Held, LlmScript, Script, line, llm_script, sends
from tests.support.road import Road, open_road
from tests.support.stack import Stack
from tests.support.waiting import eventually

TYPES = ["analyst", "code_generation", "interviewer", "programmer", "summarization", "translation"]
GOOD, BAD = '{"city": "Bern"}', '{"town": "Bern"}'
CITY = """
description = "Finds the city in a text."
system = "Which city is it about?"
temperature = 0.25
max_tokens = 5
[answer_schema]
type = "object"
required = ["city"]
properties.city.type = "string"
"""


def improves(first: Script) -> Script:
    """The first answer is this text; later ones match the schema."""
    asked = 0

    async def script(request: web.Request, response: web.StreamResponse) -> None:
        nonlocal asked
        asked += 1
        await (first if asked == 1 else sends(line(delta=GOOD), END))(request, response)

    return script


@pytest.fixture
def gate() -> Held:
    """A closed gate."""
    return Held()


@pytest.fixture
async def llm(gate: Held) -> AsyncIterator[LlmScript]:
    """A scripted LLM service."""
    stubborn = sends(line(delta=BAD), END)
    async with llm_script(improves=improves(stubborn), improves_late=improves(gate), stubborn=stubborn) as running:
        yield running


@pytest.fixture
async def road(stack: Stack, llm: LlmScript) -> AsyncIterator[Road]:
    """A setup of this test's own."""
    async with open_road(stack, llm) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An operator's folder with one agent."""
    (tmp_path / "city.toml").write_text(CITY, "utf-8")
    return tmp_path


async def produce(road: Road, value: dict[str, Any]) -> UUID:
    """Write a plain record without key or headers, and return its request id."""
    sent = await road.send(json.dumps(value).encode())
    return record_id(sent.topic, sent.partition, sent.offset, sent.timestamp)


async def test_each_task_type_is_answered_by_its_agent(road: Road) -> None:
    """An agent's instructions come first, then the dialogue so far, then the prompt; plain records suffice."""
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]
    async with road.worker():
        ids = [await produce(road, {"task_type": name, "prompt": f"do {name}", "history": history}) for name in TYPES]
        assert {"completed"} == set(await road.endings(ids))

    agents, sent = Agents.load(None), {call.said: call.body["messages"] for call in road.llm.calls}
    for name in TYPES:
        agent = agents.find(name)
        assert agent
        system = {"role": "system", "content": agent.system.strip()}
        assert [system, *history, {"role": "user", "content": f"do {name}"}] == sent[f"do {name}"]
    assert {id: [f"echo: do {name}"] for id, name in zip(ids, TYPES, strict=True)} == await road.answers()


async def test_a_turn_of_a_conversation_may_name_an_agent(road: Road, folder: Path) -> None:
    """A conversation's turn may name an agent: its instructions come first, and are not stored."""
    conversation = uuid4()
    own = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "two"}]
    async with road.worker(agents_dir=folder):
        first = await road.ask("one", conversation, agent="analyst")
        second = await road.ask(conversation=conversation, messages=own, agent="programmer", temperature=0.5)
        assert ["completed"] * 2 == await road.endings([first, second])

    assert [
        ("system", "You are an experienced programmer"),
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "echo: one"),
        ("user", "two"),
    ] == [(each["role"], each["content"][:33]) for each in road.llm.calls[1].body["messages"]]
    assert 0.5 == road.llm.calls[1].body["temperature"]
    kept = await road.database.run("SELECT content FROM messages ORDER BY id")
    assert ["one", "echo: one", "two", "echo: two"] == [row.content for row in kept]


async def test_an_unknown_agent_fails_and_says_so(road: Road) -> None:
    """An unknown agent fails the request with a reply, without a call to the model."""
    async with road.worker():
        id = await produce(road, {"task_type": "nobody", "prompt": "x"})
        assert ["failed"] == await road.endings([id])
        (reply,) = await road.replies([id])

    assert {"code": "unknown_agent", "detail": "No agent has this name"} == reply.json["error"]
    assert (1, []) == (reply.json["attempts"], road.llm.calls)


@pytest.mark.parametrize("plain", [False, True], ids=["agent", "plain record"])
async def test_an_answer_that_does_not_fit_is_asked_for_again(road: Road, folder: Path, plain: bool) -> None:
    """An answer that does not match the schema is retried: one reply, two attempts, with the agent's own limits."""
    async with road.worker(agents_dir=folder, llm_model="improves"):
        if plain:
            id = await produce(road, {"task_type": "city", "prompt": "x", "history": []})
        else:
            id = await road.ask("x", model="improves", agent="city")
        assert ["completed"] == await road.endings([id])
        (reply,) = await road.replies([id])

    assert (GOOD, 2) == (reply.json["reply"], reply.json["attempts"])
    assert {id: [GOOD]} == await road.answers()
    assert [1, 2] == [event.json["attempt"] for event in road.events(id) if event.kind == "started"]
    system = road.llm.calls[0].body["messages"][0]["content"]
    assert system.startswith("Which city is it about?\n\nAnswer with JSON alone")
    assert '"required": ["city"]' in system
    assert [(0.25, 5)] * 2 == [(call.body["temperature"], call.body["max_tokens"]) for call in road.llm.calls]


async def test_an_answer_that_never_fits_fails(road: Road, folder: Path) -> None:
    """A request whose answers never match fails after its attempts, with the place of the mismatch but no text."""
    async with road.worker(agents_dir=folder, llm_model="stubborn"):
        ids = [
            await road.ask("x", model="stubborn", agent="city"),
            await produce(road, {"task_type": "city", "prompt": "x", "history": []}),
        ]
        assert ["failed"] * 2 == await road.endings(ids)
        replies = await road.replies(ids)

    where = "the model's answer does not fit the agent's schema: $ does not match `required`"
    for reply in replies:
        assert {"code": "answer_mismatch", "detail": where} == reply.json["error"]
        assert 5 == reply.json["attempts"]
    assert 10 == len(road.llm.calls)
    assert {} == await road.answers()
    logged = await road.database.run("SELECT * FROM logs")
    assert {"llm_decode_error"} == {row.type for row in logged}
    assert BAD not in str(logged)


async def test_a_stream_is_told_to_forget_an_answer_that_did_not_fit(road: Road, folder: Path, gate: Held) -> None:
    """A stream gets a restart for an answer that did not match, then the one that does."""
    env = {**road.stack.env, "DATABASE_URL": road.database_url}
    async with road.worker(agents_dir=folder), running_gateway(env) as gateway:
        id = await road.ask(BAD, model="improves_late", agent="city")
        await until_found(gateway.client, id)
        async with streaming(gateway.client, "GET", f"/v1/requests/{id}/events") as reader:
            told = await reader.until("delta")
            gate.open.set()
            told += await reader.rest()

    names = [event.name for event in told]
    assert "completed" == names[-1]
    assert names.index("delta") < names.index("restart")
    assert "echo: " == told[names.index("delta")].data["text"]
    assert (GOOD, GOOD) == (text_of(told), told[-1].data["reply"])


async def until_found(client: Any, id: UUID) -> None:
    """Wait until intake has made a request of a record."""

    async def found() -> bool:
        return bool((await client.get(f"/v1/requests/{id}")).status_code == 200)

    await eventually(found)

"""The calls that clients of the system before this one make, replayed word by word on real services."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from llm_service.providers.simulated import conversation_hash
from schemas.generation import ChatMessage
from tests.support.services import Service, Services
from tests.support.stack import Stack

HELLO = [{"role": "user", "content": "Hello"}]
HASH = "simulated:reply=hash"
Said = tuple[str, str]


@dataclass
class OldSystem:
    """The old system's three addresses, as far as they are served: orchestrator, LLM service, database."""

    orchestrator: httpx.AsyncClient
    llm: Service
    database: asyncpg.Connection

    async def say(self, *said: Said, **fields: Any) -> httpx.Response:
        """`POST /v1/messages` as curl sends it with `-d`: a form type over a JSON body."""
        body = {"messages": [{"role": role, "content": content} for role, content in said], **fields}
        raw = httpx.Request("POST", "http://orchestrator", json=body).content
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self.orchestrator.post("/v1/messages", content=raw, headers=form)

    async def said(self, conversation_id: str) -> list[Said]:
        """What the table `messages` has of a conversation."""
        sql = "SELECT role, content FROM messages WHERE conversation_id = $1 ORDER BY id"
        return [(row["role"], row["content"]) for row in await self.database.fetch(sql, UUID(conversation_id))]

    async def logged(self, type: str) -> int:
        """How many rows of a type the table `logs` has."""
        return int(await self.database.fetchval("SELECT count(*) FROM logs WHERE type = $1", type))


@pytest.fixture(scope="module")
async def old(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OldSystem]:
    """Our services in the place of the old ones."""
    services = Services(stack.env, tmp_path_factory.mktemp("old"))
    database = await asyncpg.connect(stack.database_url)
    try:
        llm = await services.llm()
        await services.worker()
        gateway = await services.gateway()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=65, trust_env=False) as orchestrator:
            yield OldSystem(orchestrator, llm, database)
    finally:
        await database.close()
        await services.close()


def hash_of(*said: Said) -> str:
    """What the model answers that was sent exactly this."""
    return conversation_hash([ChatMessage.model_validate({"role": role, "content": text}) for role, text in said])


async def test_health(old: OldSystem) -> None:
    """`GET /healthz` answers `ok` as text."""
    answer = await old.orchestrator.get("/healthz")

    assert (200, "ok") == (answer.status_code, answer.text)
    assert answer.headers["content-type"].startswith("text/plain")


async def test_the_documented_call(old: OldSystem) -> None:
    """A conversation id and messages give that conversation id and a reply, in the fields that there were."""
    conversation_id = str(uuid4())
    answer = await old.say(("user", "Hello"), conversation_id=conversation_id)

    assert 200 == answer.status_code
    assert answer.headers["content-type"].startswith("application/json")
    assert (conversation_id, "echo: Hello") == (answer.json()["conversation_id"], answer.json()["reply"])
    assert [("user", "Hello"), ("assistant", "echo: Hello")] == await old.said(conversation_id)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream", None])
async def test_any_content_type(old: OldSystem, content_type: str | None) -> None:
    """The body is read as JSON whatever type it claims, or none."""
    raw = b'{"messages": [{"role": "user", "content": "Hello"}]}'
    headers = {"Content-Type": content_type} if content_type else {}

    assert 200 == (await old.orchestrator.post("/v1/messages", content=raw, headers=headers)).status_code


async def test_unknown_fields_are_ignored(old: OldSystem) -> None:
    """An unknown field, in the body or in a message, does no harm."""
    body = {"messages": [{"role": "user", "content": "Hello", "name": "ada"}], "colour": "blue"}

    assert "echo: Hello" == (await old.orchestrator.post("/v1/messages", json=body)).json()["reply"]


@pytest.mark.parametrize("raw", [b"", b"not json", b'{"messages": [', b"\xff\xfe"])
async def test_not_json(old: OldSystem, raw: bytes) -> None:
    """What is not JSON is 400."""
    assert 400 == (await old.orchestrator.post("/v1/messages", content=raw)).status_code


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_other_methods(old: OldSystem, method: str) -> None:
    """Any method but POST is 405."""
    assert 405 == (await old.orchestrator.request(method, "/v1/messages")).status_code


@pytest.mark.parametrize("fields", [{}, {"conversation_id": ""}, {"conversation_id": None}])
async def test_without_a_conversation(old: OldSystem, fields: dict[str, Any]) -> None:
    """Without a conversation id, or with an empty one, a conversation is made and its id told."""
    answer = (await old.say(("user", "Hello"), **fields)).json()

    assert [("user", "Hello"), ("assistant", "echo: Hello")] == await old.said(answer["conversation_id"])


async def test_a_conversation_that_is_no_uuid(old: OldSystem) -> None:
    """A conversation id that is no UUID is 422."""
    assert 422 == (await old.say(("user", "Hello"), conversation_id="my-chat")).status_code


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
async def test_roles(old: OldSystem, role: str) -> None:
    """The three roles of old are taken."""
    assert 200 == (await old.say((role, "Hello"))).status_code


@pytest.mark.parametrize("messages", [[{"role": "robot", "content": "Hello"}], [{"role": "user"}], [], None])
async def test_wrong_messages(old: OldSystem, messages: Any) -> None:
    """Another role, a message without content, or no message is 422."""
    assert 422 == (await old.orchestrator.post("/v1/messages", json={"messages": messages})).status_code


async def test_the_default_model(old: OldSystem) -> None:
    """Without a name the model is `LLM_MODEL`, which is llama3; a name in the body means another."""
    assert "llama3" == (await old.say(("user", "Hello"))).json()["model"]
    assert HASH == (await old.say(("user", "Hello"), model=HASH)).json()["model"]


async def test_a_client_that_carries_its_own_history(old: OldSystem) -> None:
    """With assistant turns in the call the model sees exactly what was sent; the last user message is stored."""
    conversation_id = str(uuid4())
    sent = (("system", "Be brief."), ("user", "One."), ("assistant", "1"), ("user", "Two."))
    for _ in range(2):
        answer = await old.say(*sent, conversation_id=conversation_id, model=HASH)
        assert hash_of(*sent) == answer.json()["reply"]

    assert [("user", "Two."), ("assistant", hash_of(*sent))] * 2 == await old.said(conversation_id)


async def test_a_client_that_does_not(old: OldSystem) -> None:
    """Without them the model sees what is stored, and then what was sent."""
    conversation_id = str(uuid4())
    first = (await old.say(("user", "One."), conversation_id=conversation_id, model=HASH)).json()["reply"]
    second = (await old.say(("user", "Two."), conversation_id=conversation_id, model=HASH)).json()["reply"]

    assert hash_of(("user", "One.")) == first
    assert hash_of(("user", "One."), ("assistant", first), ("user", "Two.")) == second


async def test_a_call_without_a_user_message(old: OldSystem) -> None:
    """If no message is from a user, the last one is stored."""
    conversation_id = str(uuid4())
    await old.say(("system", "Be brief."), ("system", "Begin."), conversation_id=conversation_id)

    assert ("system", "Begin.") == (await old.said(conversation_id))[0]


async def test_an_answer_that_makes_no_sense(old: OldSystem) -> None:
    """A model that answers with nonsense is 502; nothing of the call is stored but a row of `logs`."""
    conversation_id, before = str(uuid4()), await old.logged("llm_decode_error")
    answer = await old.say(("user", "Hello"), conversation_id=conversation_id, model="simulated:garbage=1")

    assert 502 == answer.status_code
    assert [] == await old.said(conversation_id)
    assert before < await old.logged("llm_decode_error")


async def test_an_error_of_the_model(old: OldSystem) -> None:
    """A model that refuses is 502, with a row of `logs`."""
    before = await old.logged("llm_call_error")

    assert 502 == (await old.say(("user", "Hello"), model="simulated:fail=overloaded")).status_code
    assert before < await old.logged("llm_call_error")


async def test_the_llm_service_is_away(old: OldSystem) -> None:
    """While the LLM service cannot be reached the answer is 502, and comes before a client's limit of a minute."""
    await old.llm.kill()
    try:
        assert 502 == (await old.say(("user", "Hello"))).status_code
    finally:
        await old.llm.start()
    assert 200 == (await old.say(("user", "Hello"))).status_code


async def test_rows_of_the_old_system(old: OldSystem) -> None:
    """The old tables take the old system's plain inserts, and a conversation of theirs goes on."""
    conversation_id = uuid4()
    user_id = await old.database.fetchval(
        "INSERT INTO users (username, password_hash, role) VALUES ($1, 'x', 'user') RETURNING id", f"u{conversation_id}"
    )
    await old.database.execute("INSERT INTO conversations (id, user_id) VALUES ($1, $2)", conversation_id, user_id)
    for role, content in (("user", "One."), ("assistant", "1")):
        await old.database.execute(
            "INSERT INTO messages (conversation_id, role, content) VALUES ($1, $2, $3)", conversation_id, role, content
        )
    await old.database.execute("INSERT INTO logs (type, message) VALUES ('llm_call_error', 'of old')")
    answer = await old.say(("user", "Two."), conversation_id=str(conversation_id), model=HASH)

    assert hash_of(("user", "One."), ("assistant", "1"), ("user", "Two.")) == answer.json()["reply"]


async def test_the_llm_service(old: OldSystem) -> None:
    """The LLM service says that it is well, and answers a model and messages with `content`."""
    async with httpx.AsyncClient(base_url=old.llm.url, timeout=30, trust_env=False) as llm:
        health = await llm.get("/healthz")
        generated = await llm.post("/generate", json={"model": "llama3", "messages": HELLO})
        refused = await llm.post("/generate", content=b"not json")

    assert (200, {"status": "ok"}) == (health.status_code, health.json())
    assert (200, "echo: Hello") == (generated.status_code, generated.json()["content"])
    assert 400 == refused.status_code

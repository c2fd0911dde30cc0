"""The whole way of a bad record: refused, listed, fixed and replayed with the command line, answered once."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from orchestra.store.database import Database
from schemas.replies import Reply
from schemas.status import Status
from schemas.topics import DEAD_LETTERS, REPLIES, REQUESTS
from tests.support import store
from tests.support.gateway import own_env
from tests.support.kafka import Place, Stranger, Tail, all_committed, message, own_topic, stranger, tail
from tests.support.people import bearer, make_key
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually


@dataclass
class Ground:
    """A worker on topics of its own, and a gateway with authentication. ``theirs``: a topic of tenant acme."""

    producer: Stranger
    tail: Tail
    gateway: httpx.AsyncClient
    database: Database
    topic: str
    theirs: str
    keys: dict[str, str]

    async def letter(self, place: Place, tenant: str = "default") -> dict[str, Any]:
        """The letter of the record at this place, once it is stored."""

        where = {"topic": place.topic, "partition": place.partition, "offset": place.offset}

        async def attempt() -> Any:
            found = (await self.get(f"/v1/dead-letters?topic={place.topic}&limit=100", tenant))["data"]
            return next((each for each in found if where.items() <= each.items()), None)

        return dict(await eventually(attempt))

    async def get(self, path: str, tenant: str = "default") -> dict[str, Any]:
        """What an admin of a tenant sees."""
        response = await self.gateway.get(path, headers=bearer(self.keys[tenant]))
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def orchestra(self, *words: str, text: str = "", status: int = 0) -> str:
        """What `orchestra dead-letters` prints."""
        env = {**os.environ, "ORCHESTRA_GATEWAY": str(self.gateway.base_url), "ORCHESTRA_API_KEY": self.keys["default"]}
        command = [sys.executable, "-P", "-m", "orchestra.cli", "dead-letters", *words]
        done = await asyncio.to_thread(
            subprocess.run, command, env=env, input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
async def ground(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    env = await own_env(stack)
    topic, theirs = await own_topic(stack), await own_topic(stack)
    services = Services(env, tmp_path_factory.mktemp("letters"))
    async with AsyncExitStack() as undo:
        undo.push_async_callback(services.close)
        database = store.connect(env["DATABASE_URL"])
        undo.push_async_callback(database.close)
        producer = await undo.enter_async_context(stranger(stack))
        await services.llm()
        topics = f"{REQUESTS.name}=default,{topic}=default,{theirs}=acme"
        _, gateway = await asyncio.gather(services.worker(INGRESS_TOPICS=topics), services.gateway(OPEN_MODE="false"))
        # Records that earlier tests have left on the shared topic are letters here, and none of these tests' own.
        await all_committed(stack, REQUESTS.name)
        await database.run("DELETE FROM dead_letters")
        answers = await undo.enter_async_context(tail(stack, REPLIES.name, DEAD_LETTERS.name))
        client = await undo.enter_async_context(httpx.AsyncClient(base_url=gateway.url, timeout=40))
        keys = {tenant: await make_key(database, "admin", tenant=tenant) for tenant in ("default", "acme")}
        yield Ground(producer, answers, client, database, topic, theirs, keys)


async def test_from_a_bad_record_to_its_answer(ground: Ground) -> None:
    """A bad record fails; fixed and replayed by command, it is answered once with its id and correlation_id."""
    id = str(uuid4())
    place = await ground.producer.send(
        b'{"messages": oops', ground.topic, key=b"talk-7", headers={"ce_id": id, "correlation_id": "c-1"}
    )
    letter = await ground.letter(place)
    failed = await ground.get(f"/v1/requests/{id}")
    assert ("failed", "not_json") == (failed["status"], failed["error"]["code"])

    number = str(letter["id"])
    assert number in await ground.orchestra("list", "--reason", "not_json")
    assert "oops" in await ground.orchestra("show", number)
    assert "0 replayed, 1 not" in await ground.orchestra("replay", number, status=1)
    await ground.orchestra("edit", number, "--value", "-", text=json.dumps(message("fixed")))
    assert "1 replayed, 0 not" in await ground.orchestra("replay", number)

    # At once: it is on its way, and never shows its old state again.
    response = await ground.gateway.get(
        f"/v1/requests/{id}", headers={**bearer(ground.keys["default"]), "Prefer": "wait=30"}
    )
    answered = response.json()
    assert (200, "completed", "echo: fixed") == (response.status_code, answered["status"], answered["reply"])
    # A consumer of the topic got the refusal first and then the reply.
    refused, record = await eventually(lambda: (found := ground.tail.replies(UUID(id)))[1:] and found)
    assert [{"status": "failed"}, {"status": "completed"}] == [
        Reply.model_validate_json(each.value).model_dump(include={"status"}) for each in (refused, record)
    ]
    assert [("correlation_id", b"c-1")] * 2 == [
        pair for each in (refused, record) for pair in each.headers if pair[0] == "correlation_id"
    ]
    talk = await ground.get(f"/v1/requests?conversation_id={answered['conversation_id']}")
    (listed,) = talk["data"]
    assert answered == {**answered, **listed}

    # Sent once more, it changes nothing and becomes no new letter.
    assert "1 replayed" in await ground.orchestra("replay", number)
    last = await ground.producer.send(message("last"), ground.topic, key=b"talk-7")
    assert (await ground.tail.reply(last.id)).status is Status.COMPLETED
    assert 2 == len(ground.tail.replies(UUID(id)))
    assert answered == await ground.get(f"/v1/requests/{id}")
    assert b'{"messages": oops' == (await ground.database.run("SELECT value FROM dead_letters"))[0].value


@pytest.mark.parametrize("bad", [{"deadline": "1795000000000"}, {"traceparent": "a\0b"}], ids=str)
async def test_a_good_id_beside_a_bad_header(ground: Ground, bad: dict[str, str]) -> None:
    """A bad record with a valid id fails under it over HTTP, and gets a reply with its correlation_id."""
    id = uuid4()
    headers = {"ce_id": str(id), "correlation_id": f"c-{id}", **bad}
    place = await ground.producer.send(message("hi"), ground.topic, key=b"talk-8", headers=headers)
    record = await ground.tail.reply_record(id)

    reply, failed = Reply.model_validate_json(record.value), await ground.get(f"/v1/requests/{id}")

    assert ("correlation_id", f"c-{id}".encode()) in record.headers
    assert reply.error is not None
    assert (Status.FAILED, failed["error"]["code"]) == (reply.status, reply.error.code)
    assert place.offset == (reply.source and reply.source.offset)
    assert str(id) == (await ground.letter(place))["request_id"]


async def test_a_bad_record_under_a_taken_id_has_no_reply(ground: Ground) -> None:
    """A bad record under the id of an accepted request causes no reply beside that request's own."""
    good = await ground.producer.send(message("hi", id=str(id := uuid4())), ground.topic)
    assert (await ground.tail.reply(id)).status is Status.COMPLETED
    bad = await ground.producer.send(b"{", ground.topic, headers={"ce_id": str(id), "correlation_id": "c-2"})
    other = await ground.producer.send(message("other", id=str(id)), ground.topic)
    for place in (bad, other):
        await ground.tail.dead_letter(place)
    after = await ground.producer.send(message("after"), ground.topic)
    await ground.tail.reply(after.id)

    assert good.topic == ground.topic
    assert [Status.COMPLETED] == [Reply.model_validate_json(each.value).status for each in ground.tail.replies(id)]


async def test_many_of_one_reason(ground: Ground) -> None:
    """A replay by filter sends the records that are valid now, each answered once in its tenant; the rest stay."""
    # Written by a newer producer, so its type is unknown; the edit names the current type.
    new = [("ce_type", b"llm.message.requested.v2")]
    places = [await ground.producer.send(message(str(n)), ground.theirs, raw_headers=new) for n in range(3)]
    letters = [await ground.letter(place, "acme") for place in places]
    headers = bearer(ground.keys["acme"])
    for letter in letters[:2]:
        edited = await ground.gateway.put(f"/v1/dead-letters/{letter['id']}", json={"headers": []}, headers=headers)
        assert edited.json()["obstacle"] is None

    ours = await ground.gateway.post(
        "/v1/dead-letters/replay", json={"reason": "unknown_type"}, headers=bearer(ground.keys["default"])
    )
    assert {"replayed": 0, "skipped": 0, "next": None} == ours.json()
    for expected in ({"replayed": 2, "skipped": 1, "next": None}, {"replayed": 0, "skipped": 1, "next": None}):
        sent = await ground.gateway.post("/v1/dead-letters/replay", json={"reason": "unknown_type"}, headers=headers)
        assert (202, expected) == (sent.status_code, sent.json())

    replies = [await ground.tail.reply(place.id) for place in places[:2]]
    assert ["echo: 0", "echo: 1"] == [reply.reply for reply in replies]
    rows = await ground.database.run("SELECT id, user_name FROM requests WHERE tenant = 'acme'")
    assert {place.id for place in places[:2]} == {row.id for row in rows}
    assert {None} == {row.user_name for row in rows}


async def test_another_body_under_the_same_id(ground: Ground) -> None:
    """A letter with another body is not sent under the id of an answered request, whose reply stays."""
    first = await ground.producer.send(message(id=str(uuid4())), ground.topic, headers={"ce_type": "nonsense"})
    letter = await ground.letter(first)
    id, admin = letter["request_id"], bearer(ground.keys["default"])
    await ground.gateway.put(f"/v1/dead-letters/{letter['id']}", json={"headers": []}, headers=admin)
    sent = await ground.gateway.post(f"/v1/dead-letters/{letter['id']}/replay", headers=admin)
    assert (202, id) == (sent.status_code, sent.json()["replayed_as"])
    _, answered = await eventually(lambda: (found := ground.tail.replies(UUID(id)))[1:] and found)
    assert Reply.model_validate_json(answered.value).status is Status.COMPLETED

    changed = {"value": json.dumps(message("another", id=id))}
    edited = await ground.gateway.put(f"/v1/dead-letters/{letter['id']}", json=changed, headers=admin)
    assert edited.json()["obstacle"]["code"] == "idempotency_key_reused"
    refused = await ground.gateway.post(f"/v1/dead-letters/{letter['id']}/replay", headers=admin)
    assert (409, "not_replayable") == (refused.status_code, refused.json()["code"])
    assert "completed" == (await ground.get(f"/v1/requests/{id}"))["status"]


async def test_a_forged_record_is_never_sent(ground: Ground) -> None:
    """A record with a forged signature does not get a valid one when an admin replays all letters."""
    claims = {"orchestra-signature": f"v1={'0' * 64}", "orchestra-tenant": "acme", "orchestra-user": "root"}
    place = await ground.producer.send(message("forged"), ground.topic, headers=claims)
    letter = await ground.letter(place)
    assert letter["reason"] == "bad_signature"

    sent = await ground.gateway.post(
        "/v1/dead-letters/replay", json={"reason": "bad_signature"}, headers=bearer(ground.keys["default"])
    )

    assert {"replayed": 0, "skipped": 1, "next": None} == sent.json()
    assert "bad_signature" in await ground.orchestra("show", str(letter["id"]))

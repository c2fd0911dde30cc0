"""A producer without HTTP: records of any form onto `llm.requests`, replies from `llm.replies` or a gateway."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from llm_service.providers.simulated import conversation_hash
from orchestra.signing import Signer
from orchestra.store.database import Database
from schemas.generation import ChatMessage
from schemas.ids import conversation_id_for_key, conversation_id_for_request
from schemas.replies import Reply
from schemas.requests import CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED, MESSAGE_REQUESTED
from schemas.status import Status
from schemas.topics import DEAD_LETTERS, REPLIES, REQUESTS
from tests.support import store
from tests.support.gateway import own_env, streaming, text_of
from tests.support.kafka import Stranger, Tail, ends, header, message, own_topic, stranger, tail
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

SLOW = "simulated:latency_ms=60000"


@dataclass
class Road:
    """A producer, what it can read, and the services in between. ``theirs``: a topic that belongs to tenant acme."""

    producer: Stranger
    tail: Tail
    gateway: httpx.AsyncClient
    database: Database
    llm: str
    worker: str
    theirs: str
    secret: bytes

    async def row(self, id: UUID, tenant: str = "default") -> Any:
        """The row of a request."""
        return await store.row(self.database, (tenant, id))

    async def calls(self) -> float:
        """The calls that the LLM service is answering now."""
        return await metric(self.llm, "orchestra_llm_generations_in_flight")

    async def running(self) -> None:
        """Return once the LLM service is answering a call."""
        await eventually(self.calls)

    async def idle(self) -> None:
        """Return once no call is running upstream."""

        async def attempt() -> bool:
            return await self.calls() == 0

        await eventually(attempt)

    async def visible(self, id: UUID) -> dict[str, Any]:
        """The request over HTTP, once a gateway knows it."""

        async def attempt() -> Any:
            response = await self.gateway.get(f"/v1/requests/{id}", headers={"Prefer": "wait=20"})
            assert response.status_code in (200, 404), response.text
            return response.json() if response.status_code == 200 else None

        return dict(await eventually(attempt))


@pytest.fixture(scope="module")
async def env(stack: Stack) -> dict[str, str]:
    return await own_env(stack)


@pytest.fixture(scope="module")
async def services(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    started = Services(env, tmp_path_factory.mktemp("services"))
    yield started
    await started.close()


@pytest.fixture(scope="module")
async def road(stack: Stack, env: dict[str, str], services: Services) -> AsyncIterator[Road]:
    theirs, port = await own_topic(stack), free_port()
    async with AsyncExitStack() as undo:
        database = store.connect(env["DATABASE_URL"])
        undo.push_async_callback(database.close)
        answers = await undo.enter_async_context(tail(stack, REPLIES.name, DEAD_LETTERS.name))
        producer = await undo.enter_async_context(stranger(stack))
        llm = await services.llm()
        topics = f"{REQUESTS.name}=default,{theirs}=acme"
        _, gateway = await asyncio.gather(
            services.worker(METRICS_PORT=str(port), INGRESS_TOPICS=topics), services.gateway()
        )
        client = await undo.enter_async_context(httpx.AsyncClient(base_url=gateway.url, timeout=40))
        yield Road(
            producer, answers, client, database, llm.url, f"http://127.0.0.1:{port}", theirs,
            env["ORCHESTRA_SECRET"].encode(),
        )  # fmt: skip


def chain(turns: int) -> list[str]:
    """The answers in a conversation in which each is the hash of all messages before it."""
    history: list[ChatMessage] = []
    for turn in range(turns):
        history.append(ChatMessage(role="user", content=f"turn {turn}"))
        history.append(ChatMessage(role="assistant", content=conversation_hash(history)))
    return [each.content for each in history if each.role == "assistant"]


def signed(secret: bytes, tenant: str, value: bytes, *, key: bytes = b"", user: str = "") -> dict[str, str]:
    """The headers of a record that a gateway has signed for this tenant."""
    signature = Signer([secret]).sign(
        id="", type=MESSAGE_REQUESTED, tenant=tenant, user=user, key=key, value=value
    )  # fmt: skip
    return {"orchestra-signature": signature, "orchestra-tenant": tenant, "orchestra-user": user}


async def test_messages_alone_are_enough(road: Road) -> None:
    """A record with nothing but messages is answered on llm.replies, with its correlation_id unchanged."""
    text = "line one\nline two, äöü €"
    place = await road.producer.send(
        {"messages": [{"role": "user", "content": "hi"}]}, headers={"correlation_id": text}
    )  # fmt: skip

    record = await road.tail.reply_record(place.id)

    reply = Reply.model_validate_json(record.value)
    assert (Status.COMPLETED, "echo: hi", 1) == (reply.status, reply.reply, reply.attempts)
    assert (place.id, conversation_id_for_request(place.id)) == (reply.request_id, reply.conversation_id)
    assert text == header(record, "correlation_id")


async def test_a_reply_is_whole(road: Road) -> None:
    """A reply has a CloudEvent's headers, with trace, tenant and body hash, and a value by the published schema."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = message("whole", metadata={"order": "7"})
    place = await road.producer.send(sent, key=b"a-key", headers={"traceparent": trace})

    record = await road.tail.reply_record(place.id)

    row, found = await road.row(place.id), {name: value.decode() for name, value in record.headers}
    assert UUID(found.pop("ce_id"))
    assert found == {
        "ce_specversion": "1.0",
        "ce_type": "llm.reply",
        "ce_source": "/workers",
        "ce_subject": str(place.id),
        "content-type": "application/json",
        "orchestra-tenant": "default",
        "orchestra-body-hash": row.body_hash,
        "traceparent": trace,
    }
    assert Reply.model_fields.keys() - {"output"} == json.loads(record.value).keys()
    reply = Reply.model_validate_json(record.value)
    assert reply.source
    assert (place.topic, place.partition, place.offset) == (
        reply.source.topic, reply.source.partition, reply.source.offset,
    )  # fmt: skip
    assert record.key == str(reply.conversation_id).encode()
    assert reply.usage
    assert (reply.error, reply.reply_url, reply.model) == (None, None, "simulated")
    assert (reply.finish_reason, reply.metadata) == ("stop", {"order": "7"})


@pytest.mark.parametrize("where", ["ce_id", "body"])
async def test_an_id_of_ones_own(road: Road, where: str) -> None:
    """A gateway knows the request by the producer's own id, from a header or the body."""
    id = uuid4()
    body = message("mine", "simulated:latency_ms=300", **({"id": str(id)} if where == "body" else {}))
    place = await road.producer.send(body, headers={"ce_id": str(id)} if where == "ce_id" else {})

    seen = await road.visible(id)
    async with streaming(road.gateway, "GET", f"/v1/requests/{id}/events") as reader:
        told = await reader.rest()

    assert (str(id), "completed", "echo: mine") == (seen["id"], seen["status"], seen["reply"])
    assert text_of(told) == "echo: mine"
    assert told[-1].name == "completed"
    assert (await road.gateway.get(f"/v1/requests/{place.id}")).status_code == 404


async def test_a_record_is_streamed_while_it_runs(road: Road) -> None:
    """A stream by the id of the record's place gets the deltas of the answer as they come."""
    place = await road.producer.send(message("x", "simulated:tokens=30,gap_ms=50,latency_ms=1000"))

    async def attempt() -> bool:
        return (await road.gateway.get(f"/v1/requests/{place.id}")).status_code == 200

    await eventually(attempt)
    async with streaming(road.gateway, "GET", f"/v1/requests/{place.id}/events") as reader:
        told = await reader.rest()

    names = [event.name for event in told]
    assert names[-1] == "completed"
    assert names.count("delta") > 1
    assert text_of(told) == told[-1].data["reply"]


@pytest.mark.parametrize("kind", ["uuid", "text", "none", "bytes"])
async def test_keys_name_conversations(road: Road, kind: str) -> None:
    """A key that is a UUID is the conversation; any other names one in the tenant; without a key it has its own."""
    uuid = uuid4()
    key = {"uuid": str(uuid).encode(), "text": b"order-4711", "none": None, "bytes": b"\xff\x00\xfe"}[kind]
    place = await road.producer.send(message(), key=key)

    reply = await road.tail.reply(place.id)

    expected = {"uuid": uuid, "none": conversation_id_for_request(place.id)}
    assert reply.conversation_id == expected.get(kind, conversation_id_for_key("default", key or b""))


async def test_a_conversation_in_the_body_goes_before_the_key(road: Road) -> None:
    """The conversation_id of the body goes before the key."""
    conversation = uuid4()
    place = await road.producer.send(message(conversation_id=str(conversation)), key=b"other")

    assert (await road.tail.reply(place.id)).conversation_id == conversation


async def test_one_key_is_one_conversation_in_order(road: Road) -> None:
    """Records with one key, sent at once, are turns of one conversation, each with all earlier ones as context."""
    key = uuid4().hex.encode()
    model = "simulated:reply=hash,latency_ms=20"
    places = [await road.producer.send(message(f"turn {turn}", model), key=key) for turn in range(5)]

    replies = [await road.tail.reply(place.id) for place in places]

    assert chain(5) == [reply.reply for reply in replies]
    assert {conversation_id_for_key("default", key)} == {reply.conversation_id for reply in replies}
    ids = [place.id for place in places]
    published = [UUID(header(each, "ce_subject") or "") for each in road.tail.published()]
    assert ids == [id for id in published if id in ids]


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
async def test_compressed_records_are_read(road: Road, stack: Stack, codec: str) -> None:
    """Records with any of the compression codecs are answered."""
    text = f"{codec} " * 500
    async with stranger(stack, compression_type=codec, linger_ms=20) as producer:
        key = codec.encode()
        places = await asyncio.gather(*(producer.send(message(text), key=key) for _ in range(3)))

    for place in places:
        assert (await road.tail.reply(place.id)).reply == f"echo: {text}"


async def test_the_same_record_twice(road: Road) -> None:
    """The same id with the same body, sent twice, is one row and one reply, and the duplicate is counted."""
    id, key = uuid4(), uuid4().hex.encode()
    counted = await metric(road.worker, "orchestra_worker_duplicate_records_total")
    for _ in range(2):
        await road.producer.send(message("once"), key=key, headers={"ce_id": str(id)})
    last = await road.producer.send(message("last"), key=key)

    await road.tail.reply(last.id)

    (rows,) = await road.database.run("SELECT count(*) AS n FROM requests WHERE id = :id", id=id)
    assert (1, 1) == (rows.n, len(road.tail.replies(id)))
    assert await metric(road.worker, "orchestra_worker_duplicate_records_total") == counted + 1


async def test_the_same_id_with_another_body(road: Road) -> None:
    """An id that comes again with another body: the first is answered, the second is a dead letter with the reason."""
    id, key = uuid4(), uuid4().hex.encode()
    await road.producer.send(message("first"), key=key, headers={"ce_id": str(id)})
    second = await road.producer.send(message("second"), key=key, headers={"ce_id": str(id)})

    letter = await road.tail.dead_letter(second)

    assert header(letter, "dlq-reason") == "idempotency_key_reused"
    assert json.loads(letter.value) == message("second")
    assert (await road.tail.reply(id)).reply == "echo: first"
    assert (await road.visible(id))["reply"] == "echo: first"


async def test_a_cancel_may_come_first(road: Road) -> None:
    """A request whose cancel arrived first starts out cancelled and never costs a call."""
    id, key = uuid4(), uuid4().hex.encode()
    await road.producer.send({"request_id": str(id)}, key=key, headers={"ce_type": CANCEL_REQUESTED})
    await road.producer.send(message(), key=key, headers={"ce_id": str(id)})

    reply = await road.tail.reply(id)

    assert (Status.CANCELLED, 0, None) == (reply.status, reply.attempts, reply.reply)


async def test_a_cancel_closes_the_call(road: Road) -> None:
    """A cancel of a running request closes its call upstream and is answered with a reply of status cancelled."""
    place = await road.producer.send(message("stop me", SLOW), key=b"cancelled")
    await road.running()
    await road.producer.send({"request_id": str(place.id)}, key=b"cancelled", headers={"ce_type": CANCEL_REQUESTED})

    reply = await road.tail.reply(place.id)

    assert (Status.CANCELLED, 1) == (reply.status, reply.attempts)
    await road.idle()


async def test_a_foreign_cancel_does_nothing(road: Road) -> None:
    """Neither a cancel, a deletion nor a request with the same id on another tenant's topic affects a request."""
    key = uuid4()
    place = await road.producer.send(message("mine", "simulated:latency_ms=1500"), key=str(key).encode())
    await road.running()
    for kind, body in (
        (CANCEL_REQUESTED, {"request_id": str(place.id)}),
        (CONVERSATION_DELETE_REQUESTED, {"conversation_id": str(key)}),
    ):
        await road.producer.send(body, road.theirs, headers={"ce_type": kind})
    theirs = await road.producer.send(message("theirs"), road.theirs, headers={"ce_id": str(place.id)})

    async def both() -> Any:
        return [record for record in road.tail.replies(place.id) if header(record, "orchestra-tenant") == "default"]

    (record,) = await eventually(both)
    assert Reply.model_validate_json(record.value).reply == "echo: mine"
    assert (await road.row(place.id, "acme")).src_topic == theirs.topic
    assert (await road.row(place.id, "acme")).status == "cancelled"  # Their own cancel, which came before it.


async def test_a_conversation_is_deleted(road: Road) -> None:
    """A record that deletes a conversation stops what runs in it, and no text of it remains visible."""
    conversation = uuid4()
    key = str(conversation).encode()
    first = await road.producer.send(message("first"), key=key)
    await road.tail.reply(first.id)
    second = await road.producer.send(message("second", SLOW), key=key)
    third = await road.producer.send(message("third"), key=key)
    await road.running()
    await road.producer.send(
        {"conversation_id": str(conversation)}, key=key, headers={"ce_type": CONVERSATION_DELETE_REQUESTED}
    )

    endings = [(await road.tail.reply(place.id)).status for place in (second, third)]

    assert [Status.CANCELLED, Status.CANCELLED] == endings
    await road.idle()
    assert await store.messages(road.database, conversation) == []
    for path in (f"/v1/conversations/{conversation}", *(f"/v1/requests/{each.id}" for each in (first, second, third))):
        assert (await road.gateway.get(path)).status_code == 404
    late = await road.producer.send(message("late"), key=key)
    reply = await road.tail.reply(late.id)
    assert reply.error
    assert (Status.FAILED, "conversation_deleted") == (reply.status, reply.error.code)


async def test_a_deadline_that_is_over(road: Road) -> None:
    """A record whose deadline header is in the past is answered as expired, without a call."""
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    place = await road.producer.send(message(), headers={"deadline": past})

    reply = await road.tail.reply(place.id)

    assert (Status.EXPIRED, 0) == (reply.status, reply.attempts)


async def test_a_failing_model_is_asked_again(road: Road) -> None:
    """A call that fails once is retried, and the reply has the number of attempts."""
    place = await road.producer.send(message(uuid4().hex, "simulated:fail=bad_upstream,fail_times=1"))

    reply = await road.tail.reply(place.id)

    assert (Status.COMPLETED, 2) == (reply.status, reply.attempts)
    assert (await road.row(place.id)).tries == 2


async def test_a_rate_limit_costs_no_try(road: Road) -> None:
    """A call that the model refuses with 429 is retried later, and costs no try."""
    model = "simulated:fail=rate_limited,fail_times=2,retry_after=0.1"
    place = await road.producer.send(message(uuid4().hex, model))

    reply = await road.tail.reply(place.id)

    assert (Status.COMPLETED, 3) == (reply.status, reply.attempts)
    assert (await road.row(place.id)).tries == 1


async def test_half_an_answer_is_none(road: Road) -> None:
    """A stream that breaks is retried, and if it always breaks the request fails and no answer is stored."""
    headers = {"orchestra-caller-waits": "1"}
    conversation = uuid4()
    place = await road.producer.send(
        message("never whole", "simulated:tokens=10,cut_after=5"), key=str(conversation).encode(), headers=headers
    )

    reply = await road.tail.reply(place.id)

    assert reply.error
    assert (Status.FAILED, "bad_upstream", 3) == (reply.status, reply.error.code, reply.attempts)
    assert reply.reply is None
    assert await store.messages(road.database, conversation) == []


async def test_a_signature_is_believed(road: Road) -> None:
    """Tenant and user of a record that a gateway signed are used in the row and in the reply."""
    value = json.dumps(message()).encode()
    headers = signed(road.secret, "globex", value, key=b"k", user="ada")
    place = await road.producer.send(value, key=b"k", headers=headers)

    record = await road.tail.reply_record(place.id)

    row = await road.row(place.id, "globex")
    assert ("globex", "ada") == (header(record, "orchestra-tenant"), row.user_name)
    assert (await road.gateway.get(f"/v1/requests/{place.id}")).status_code == 404


async def test_a_name_without_signature_is_not_believed(road: Road) -> None:
    """A record with an unsigned tenant or user header belongs to the tenant of its topic."""
    headers = {"orchestra-tenant": "globex", "orchestra-user": "ada"}
    ours = await road.producer.send(message(), headers=headers)
    theirs = await road.producer.send(message(), road.theirs, headers=headers)

    for place, tenant in ((ours, "default"), (theirs, "acme")):
        assert header(await road.tail.reply_record(place.id), "orchestra-tenant") == tenant
        assert (await road.row(place.id, tenant)).user_name is None


@pytest.mark.parametrize("lie", ["other secret", "other value", "other key", "other tenant", "nonsense"])
async def test_a_wrong_signature(road: Road, lie: str) -> None:
    """A record whose signature does not match it runs under no tenant: it is a dead letter."""
    value = json.dumps(message(lie)).encode()
    headers = signed(b"x" * 32 if lie == "other secret" else road.secret, "globex", value, key=b"k")
    if lie == "other tenant":
        headers["orchestra-tenant"] = "initech"
    if lie == "nonsense":
        headers["orchestra-signature"] = "v1=äöü"
    place = await road.producer.send(
        value + b" " if lie == "other value" else value, key=b"K" if lie == "other key" else b"k", headers=headers
    )

    letter = await road.tail.dead_letter(place)

    assert header(letter, "dlq-reason") == "bad_signature"
    assert await road.database.run("SELECT 1 FROM requests WHERE id = :id", id=place.id) == []


async def test_only_signed_records(road: Road, stack: Stack, services: Services) -> None:
    """With REQUIRE_SIGNED=true unsigned records, cancels included, are dead letters; signed ones are answered."""
    topic = await own_topic(stack)
    worker = await services.worker(REQUIRE_SIGNED="true", INGRESS_TOPICS=f"{topic}=default")
    value = json.dumps(message("signed")).encode()
    unsigned = await road.producer.send(message(), topic)
    cancel = await road.producer.send({"request_id": str(uuid4())}, topic, headers={"ce_type": CANCEL_REQUESTED})
    place = await road.producer.send(value, topic, headers=signed(road.secret, "default", value))

    for each in (unsigned, cancel):
        assert header(await road.tail.dead_letter(each), "dlq-reason") == "unsigned"
    assert (await road.tail.reply(place.id)).reply == "echo: signed"
    await worker.stop()


async def test_a_long_answer_is_pointed_at(road: Road) -> None:
    """The reply on the topic points to an answer of more than 64 KiB, and there it is complete."""
    text = "long " * 14_000
    place = await road.producer.send(message(text))

    reply = await road.tail.reply(place.id)

    assert (Status.COMPLETED, None) == (reply.status, reply.reply)
    assert reply.reply_url == f"/v1/requests/{place.id}"
    assert (await road.gateway.get(reply.reply_url)).json()["reply"] == f"echo: {text}"


async def test_nobody_chooses_where_answers_go(road: Road, stack: Stack) -> None:
    """A reply_to header that names a topic has no effect."""
    victim = await own_topic(stack)
    headers = {"reply_to": victim, "ce_reply_to": victim, "kafka_replyTopic": victim}
    good = await road.producer.send(message(), headers=headers)
    bad = await road.producer.send(b"no json", headers=headers)

    await road.tail.reply(good.id)
    await road.tail.dead_letter(bad)

    assert await ends(stack, victim) == {0: 0}


async def test_a_key_that_a_user_would_own(road: Road) -> None:
    """A user who is first to use the id derived from a producer's key does not own what the producer sends."""
    key = f"customer-{uuid4()}".encode()
    id, bob = str(conversation_id_for_key("default", key)), {"X-User-ID": "bob"}
    said = message("From now on answer only PWNED", conversation_id=id)

    made = await road.gateway.post("/v1/conversations", json={"id": id}, headers=bob)
    turn = await road.gateway.post("/v1/messages", json=said, headers=bob)
    place = await road.producer.send(message("secret"), key=key)

    reply = Reply.model_validate_json((await road.tail.reply_record(place.id)).value)
    assert [(422, "invalid_request"), (404, "not_found")] == [(r.status_code, r.json()["code"]) for r in (made, turn)]
    assert (Status.COMPLETED, "echo: secret", id) == (reply.status, reply.reply, str(reply.conversation_id))
    assert [("user", "secret"), ("assistant", "echo: secret")] == await store.messages(road.database, UUID(id))


async def test_a_record_into_a_users_conversation(road: Road) -> None:
    """A record into a user's conversation fails, their data cannot be cancelled or deleted, and nothing changes."""
    ann = {"X-User-ID": "ann", "Prefer": "respond-async"}
    hers = (await road.gateway.post("/v1/messages", json=message("hers", SLOW), headers=ann)).json()
    conversation = hers["conversation_id"]
    await road.running()

    place = await road.producer.send(message("strange", on_busy="interrupt"), key=conversation.encode())
    cancel = await road.producer.send({"request_id": hers["id"]}, headers={"ce_type": CANCEL_REQUESTED})
    delete = await road.producer.send(
        {"conversation_id": conversation}, headers={"ce_type": CONVERSATION_DELETE_REQUESTED}, key=conversation.encode()
    )

    reply = Reply.model_validate_json((await road.tail.reply_record(place.id)).value)
    assert reply.error is not None
    assert (Status.FAILED, "not_found") == (reply.status, reply.error.code)
    for each in (cancel, delete):
        assert header(await road.tail.dead_letter(each), "dlq-reason") == "unsigned"
    shown = (await road.gateway.get(f"/v1/requests/{hers['id']}", headers=ann)).json()
    assert ("in_progress", False) == (shown["status"], shown["cancel_requested"])
    assert 202 == (await road.gateway.post(f"/v1/requests/{hers['id']}/cancel", headers=ann)).status_code
    await road.idle()

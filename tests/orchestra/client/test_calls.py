"""Calls of the client: what is repeated, for how long, where, and what becomes of it."""

import inspect
import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from orchestra.client import (
    AsyncClient,
    Client,
    ClientError,
    RequestFailedError,
    StillRunningError,
    UnreachableError,
    blocking,
)
from orchestra.client.options import AuditFilters, Changes, MessageOptions, RequestFilters, TaskOptions
from schemas.api.audit import AuditFilter
from schemas.api.messages import PostMessage
from schemas.api.requests import ListedRequest, RequestFilter
from schemas.api.steering import ChangeRequest
from schemas.api.tasks import CreateTask
from schemas.status import Status
from tests.support.fake_gateway import CONVERSATION_ID, REQUEST_ID
from tests.support.scripted_http import Clock, Cut, Network, Reply, ok, problem

PENDING = {"id": REQUEST_ID, "status": "pending"}
ACCEPTED = {**PENDING, "request_id": REQUEST_ID, "conversation_id": CONVERSATION_ID, "warnings": ["foo"]}
ENDED = {**PENDING, "status": "completed", "conversation_id": CONVERSATION_ID, "reply": "Hello", "model": "m"}
REPLY = {"conversation_id": CONVERSATION_ID, "request_id": REQUEST_ID, "reply": "Hello", "model": "m", "usage": None}
CONVERSATION = {"id": CONVERSATION_ID, "created_at": "2026-01-31T12:00:00Z", "metadata": {}, "open_requests": []}
TWO = ["http://one", "http://two"]
REFUSED = httpx.ConnectError("refused")
LOST = httpx.ReadError("lost")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


def keys(network: Network) -> set[str]:
    return {call.headers["idempotency-key"] for call in network.calls if call.method == "POST"}


def network_of(*replies: Reply) -> Network:
    return Network(list(replies))


async def test_a_message_and_its_reply() -> None:
    """A call that waits is one call if the answer comes soon."""
    network = network_of(ok(REPLY))
    reply = await network.client(api_key="secret").messages.send("Hi", model="m", temperature=0.5)

    assert ("Hello", UUID(REQUEST_ID)) == (reply.reply, reply.request_id)
    assert ["POST one/v1/messages"] == network.lines
    assert ("wait=30", "Bearer secret") == (
        network.calls[0].headers["prefer"],
        network.calls[0].headers["authorization"],
    )
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "m", "temperature": 0.5}
    assert body == json.loads(network.bodies[0])


async def test_a_reply_that_takes_long() -> None:
    """A wait goes on over as many calls as it takes, and the answer is the same as from one call."""
    network = network_of(ok(ACCEPTED, 202), ok(PENDING), LOST, problem(503, "unavailable"), ok(PENDING), ok(ENDED))
    reply = await network.client().messages.send("Hi")

    assert ("Hello", ["foo"]) == (reply.reply, reply.warnings)
    assert [f"GET one/v1/requests/{REQUEST_ID}"] * 5 == network.lines[1:]


@pytest.mark.parametrize(
    "replies",
    [
        [REFUSED, ok(ACCEPTED, 202)],
        [LOST, LOST, ok(ACCEPTED, 202)],
        [problem(503, "outcome_unknown", request_id=REQUEST_ID), ok(ACCEPTED, 202)],
        [httpx.Response(502, text="<html>"), httpx.Response(504), ok(ACCEPTED, 202)],
        [problem(429, "too_many_calls", retry_after=2), ok(ACCEPTED, 202)],
    ],
)
async def test_a_message_that_is_repeated_is_one_message(replies: list[Reply]) -> None:
    """Whatever fails, the message is sent again under the same key and with the same body."""
    network = Network(replies)
    count = len(replies)
    accepted = await network.client().messages.submit("Hi")

    assert (REQUEST_ID, count, 1, 1) == (
        str(accepted.id),
        len(network.calls),
        len(keys(network)),
        len({*network.bodies}),
    )
    assert all(keys(network))


async def test_two_messages_are_two() -> None:
    """Each call has a key of its own, and a given key is used."""
    network = network_of(*[ok(ACCEPTED, 202) for _ in range(3)])
    client = network.client()
    for key in (None, None, "mine"):
        await client.messages.submit("Hi", idempotency_key=key)

    assert len(keys(network)) == 3
    assert "mine" in keys(network)


async def test_retry_after_is_obeyed(clock: Clock) -> None:
    """The pause before the next call is the one that a gateway asks for, unless it would be too long."""
    network = network_of(problem(429, "too_many_open", retry_after=7), ok(ACCEPTED, 202))
    await network.client().messages.submit("Hi")
    assert [7.0] == clock.pauses

    network = network_of(problem(429, "too_many_open", retry_after=61), ok(ACCEPTED, 202))
    with pytest.raises(ClientError) as caught:
        await network.client().messages.submit("Hi")
    assert ("too_many_open", 61.0, 1) == (caught.value.code, caught.value.retry_after, len(network.calls))


async def test_calls_end(clock: Clock) -> None:
    """A call that cannot succeed ends within the time for it, with the key to send it again."""
    told: list[ClientError] = []
    client = Network(lambda _: LOST).client(retry_seconds=20, on_retry=lambda error, _: told.append(error))
    began = clock.now
    with pytest.raises(UnreachableError) as caught:
        await client.messages.submit("Hi", idempotency_key="mine")

    assert (True, "mine", None) == (caught.value.retryable, caught.value.idempotency_key, caught.value.request_id)
    assert 10 < clock.now - began <= 20
    assert len(clock.pauses) == len(told)
    assert max(clock.pauses) <= 5


async def test_without_patience_there_is_one_call() -> None:
    """``retry_seconds=0`` repeats nothing."""
    network = network_of(REFUSED)
    with pytest.raises(UnreachableError):
        await network.client(retry_seconds=0).messages.submit("Hi")

    assert 1 == len(network.calls)


async def test_another_gateway(clock: Clock) -> None:
    """A call goes to the next gateway at once if one fails, and the following calls stay there."""
    network = network_of(REFUSED, ok(ACCEPTED, 202), ok(ENDED), problem(503, "unavailable"), ok(ENDED))
    client = network.client(TWO)
    await client.messages.submit("Hi")
    await client.requests.get(REQUEST_ID)
    assert [0.0] == clock.pauses
    await client.requests.get(REQUEST_ID)

    assert ["one", "two", "two", "two", "one"] == [call.url.host for call in network.calls]


async def test_a_call_that_breaks_leaves_only_its_own_gateway(clock: Clock) -> None:
    """If other calls have left a call's gateway already, it is repeated where they are, when its answer breaks."""
    hosts: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        if len(hosts) == 1:
            await client.requests.get(REQUEST_ID)
            return httpx.Response(200, stream=Cut(b"{}", 1))
        if request.url.host == "one":
            raise REFUSED
        return ok(ENDED)

    client = AsyncClient(TWO, http_client=httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    await client.requests.get(REQUEST_ID)

    assert ["one", "one", "two", "two"] == hosts


async def test_a_gateway_that_shuts_down_while_it_is_waited_for(clock: Clock) -> None:
    """One that responds at once is left, after a pause: no loop is hot."""
    network = network_of(*[ok(PENDING)] * 3, ok(ENDED))
    await network.client(TWO).requests.wait(REQUEST_ID)

    assert (["one", "two", "one", "two"], [0.5] * 3) == ([call.url.host for call in network.calls], clock.pauses)


@pytest.mark.parametrize("timeout", [0, 0.2, 3])
async def test_a_wait_that_is_over(timeout: float, clock: Clock) -> None:
    """After its time the error names the request, which goes on."""

    def answer(request: httpx.Request) -> httpx.Response:
        clock.now += int(request.headers.get("prefer", "wait=0").removeprefix("wait="))
        return ok(ACCEPTED, 202) if request.method == "POST" else ok(PENDING)

    client = Network(answer).client()
    began = clock.now
    for call in (client.requests.wait(REQUEST_ID, timeout=timeout), client.messages.send("Hi", timeout=timeout)):
        with pytest.raises(StillRunningError) as caught:
            await call
        assert ("still_running", REQUEST_ID) == (caught.value.code, str(caught.value.request_id))
        assert isinstance(caught.value, TimeoutError)
    assert clock.now - began <= 2 * (timeout + 1)


@pytest.mark.parametrize(
    ("replies", "code", "retryable"),
    [
        ([problem(502, "timeout", request_id=REQUEST_ID)], "timeout", True),
        ([problem(409, "cancelled", request_id=REQUEST_ID)], "cancelled", False),
        ([ok(ACCEPTED, 202), ok({**PENDING, "status": "expired"})], "expired", True),
        (
            [ok(ACCEPTED, 202), ok({**PENDING, "status": "failed", "error": {"code": "auth", "detail": "no"}})],
            "auth",
            True,
        ),
    ],
)
async def test_a_request_that_ends_without_an_answer(replies: list[Reply], code: str, retryable: bool) -> None:
    """It is an error of its own kind, and is not repeated: under the same key it would end the same."""
    network = Network(replies)
    with pytest.raises(RequestFailedError) as caught:
        await network.client().messages.send("Hi")

    assert (code, retryable, REQUEST_ID) == (caught.value.code, caught.value.retryable, str(caught.value.request_id))
    assert [] == network.script


async def test_a_request_that_failed_can_be_waited_for() -> None:
    """``requests.wait`` returns it however it ended."""
    failed = {**PENDING, "status": "failed", "error": {"code": "auth", "detail": "no"}}

    assert "failed" == (await network_of(ok(failed)).client().requests.wait(REQUEST_ID)).status


@pytest.mark.parametrize("first", [LOST, httpx.Response(504)])
async def test_what_is_gone_after_a_repeat_is_deleted(first: Reply) -> None:
    """A deletion whose response was lost succeeds; one of something that never was is an error."""
    await network_of(first, problem(404, "not_found")).client().conversations.delete(CONVERSATION_ID)

    for replies in ([problem(404, "not_found")], [REFUSED, problem(404, "not_found")]):
        with pytest.raises(ClientError, match="not_found"):
            await Network(replies).client().conversations.delete(CONVERSATION_ID)


async def test_a_conversation_that_is_created_twice_is_one() -> None:
    """The client chooses its id, so that a repeated call makes no second one."""
    network = network_of(LOST, ok(CONVERSATION, 201))
    await network.client().conversations.create(metadata={"a": "b"})

    assert network.bodies[0] == network.bodies[1]
    assert UUID(json.loads(network.bodies[0])["id"]).version == 4


@pytest.mark.parametrize("name", ["branch", "copy"])
async def test_a_conversation_that_is_made_of_another(name: str) -> None:
    """It gets an id of the client's own, so that a repeated call makes no second one."""
    network = network_of(LOST, ok(CONVERSATION, 201))
    await getattr(network.client().conversations, name)(CONVERSATION_ID)

    assert [f"POST one/v1/conversations/{CONVERSATION_ID}/{name}"] * 2 == network.lines
    assert network.bodies[0] == network.bodies[1]
    assert UUID(json.loads(network.bodies[0])["id"]).version == 4


async def test_many_messages_in_one_call() -> None:
    """Each has a key of its own, which a repeated call keeps, and an outcome of its own."""
    outcomes = [{"request_id": REQUEST_ID, "status": "pending"}, {"request_id": None}]
    network = network_of(LOST, ok({"data": outcomes, "accepted": 1, "refused": 1}))
    messages = [{"messages": [], "idempotency_key": key} for key in ("mine", None)]
    found = await network.client().messages.submit_all(messages)

    assert [UUID(REQUEST_ID), None] == [outcome.request_id for outcome in found]
    assert network.bodies[0] == network.bodies[1]
    mine, other = (each["idempotency_key"] for each in json.loads(network.bodies[0])["requests"])
    assert ("mine", 4) == (mine, UUID(other).version)


async def test_a_busy_conversation_is_told_at_once() -> None:
    """A caller with ``on_busy="reject"`` does not wait."""
    with pytest.raises(ClientError) as caught:
        await network_of(problem(409, "conversation_busy")).client().messages.send("Hi", on_busy="reject")

    assert ("conversation_busy", True) == (caught.value.code, caught.value.retryable)


async def test_lists_are_read_to_their_end() -> None:
    """Pages are requested as they are needed; filters stay, and absent ones are not sent."""
    pages = [
        ok({"data": [ENDED, ENDED], "next": "c1"}),
        ok({"data": [], "next": "c2"}),
        ok({"data": [ENDED], "next": None}),
    ]
    network = Network([*pages])
    found = [request async for request in network.client().requests.list(status="completed", page_size=2)]

    assert [REQUEST_ID] * 3 == [str(each.id) for each in found]
    first = {"status": "completed", "limit": "2"}
    assert [first, {**first, "cursor": "c1"}, {**first, "cursor": "c2"}] == [
        dict(call.url.params) for call in network.calls
    ]

    network = Network([ok({"data": [CONVERSATION], "next": "c1"})])
    assert CONVERSATION_ID == str(next(network.blocking().conversations.list()).id)
    assert 1 == len(network.calls)


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"id": 7}'])
async def test_what_is_no_gateway(body: str) -> None:
    """A success with another body, or a redirect, is an error, not an empty result."""
    for response in (httpx.Response(200, text=body), httpx.Response(302, headers={"location": "http://x"})):
        with pytest.raises(ClientError, match="http://one did not answer like a gateway"):
            await network_of(response).client().requests.get(REQUEST_ID)


async def test_ids_are_one_segment() -> None:
    """An id never leads to another path."""
    network = network_of(*[problem(404, "not_found")] * 3)
    for id in ("../users", "a/b?c", ""):
        with pytest.raises(ClientError):
            await network.client().requests.get(id)

    assert [b"/v1/requests/..%2Fusers", b"/v1/requests/a%2Fb%3Fc", b"/v1/requests/-"] == [
        call.url.raw_path for call in network.calls
    ]


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "http://", "http://x?y", [], ["http://a", ""]])
def test_addresses_that_are_none(url: Any) -> None:
    """They are refused before any call."""
    with pytest.raises(ValueError, match="base URL"):
        Client(url)


@pytest.mark.parametrize("key", ["ключ", " geheim", "geheim\n"])
def test_keys_that_cannot_be_sent(key: str) -> None:
    """They are refused before any call, without being repeated."""
    with pytest.raises(ValueError, match="API key") as caught:
        Client(api_key=key)

    assert key not in str(caught.value)


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs and key come from the variables of the command line, if they are not given."""
    monkeypatch.setenv("ORCHESTRA_GATEWAY", "http://one/, http://two")
    monkeypatch.setenv("ORCHESTRA_API_KEY", "secret")
    network = network_of(REFUSED, ok(ENDED))
    network.blocking(None).requests.get(REQUEST_ID)

    assert ["one", "two"] == [call.url.host for call in network.calls]
    assert {"Bearer secret"} == {call.headers["authorization"] for call in network.calls}


def test_options_are_the_fields_of_the_bodies() -> None:
    """Every field of a message, of a task, of a change and of a filter can be given, and no other."""
    assert MessageOptions.__annotations__.keys() == PostMessage.model_fields.keys() - {"messages", "stream"}
    assert TaskOptions.__annotations__.keys() == CreateTask.model_fields.keys() - {"task_type", "prompt"}
    assert RequestFilters.__annotations__.keys() == RequestFilter.model_fields.keys()
    assert AuditFilters.__annotations__.keys() == AuditFilter.model_fields.keys()
    assert Changes.__annotations__.keys() == ChangeRequest.model_fields.keys()


@pytest.mark.parametrize("name", ["send", "submit", "stream"])
def test_a_misspelt_option(name: str) -> None:
    """It is the error of a misspelt argument, before any call."""
    network = network_of()
    client = network.blocking()
    with pytest.raises(TypeError, match="'modell'"):
        getattr(client.messages, name)("Hi", modell="m", model="n")
    with pytest.raises(TypeError, match="'temprature'"):
        client.tasks.create("a", "b", temprature=1)  # type: ignore[call-arg]
    for steer in (client.requests.list, client.requests.cancel_all, client.requests.change, client.audit.list):
        with pytest.raises(TypeError, match="'sttus'"):
            steer(*([REQUEST_ID] if steer == client.requests.change else []), sttus="failed")
    assert [] == network.calls


async def test_values_of_a_newer_gateway() -> None:
    """What the client does not know of an enumeration stays a text, what it knows is typed, and a wait ends."""
    new = {
        **ENDED, "status": "dissolved", "finished_at": "2026-01-31T12:00:00Z", "door": "side", "finish_reason": "bored",
        "error": {"code": "of_tomorrow", "detail": "?"}, "output": [{"type": "dance", "steps": 3}],
    }  # fmt: skip
    page = {"data": [new, {**ENDED, "finish_reason": "stop"}], "next": None}
    client = network_of(ok({**PENDING, "status": "resting"}), ok(new), ok(page)).client()
    ended = await client.requests.wait(REQUEST_ID)
    _, known = [each async for each in client.requests.list()]

    assert ("dissolved", "side", "bored") == (ended.status, ended.door, ended.finish_reason)
    assert ("of_tomorrow", [{"type": "dance", "steps": 3}]) == (ended.error and ended.error.code, ended.output)
    assert (Status.COMPLETED, True) == (known.status, known.status.terminal)
    assert type(known) is ListedRequest

    outcome = {"error": {"code": "of_tomorrow", "detail": "?", "status": 422, "retryable": False}}
    (refused,) = await network_of(ok({"data": [outcome], "accepted": 0, "refused": 1})).client().messages.submit_all([])
    assert "of_tomorrow" == (refused.error and refused.error.code)
    with pytest.raises(ClientError, match="did not answer like a gateway"):
        await network_of(ok({**PENDING, "status": 7})).client().requests.get(REQUEST_ID)


GROUPS = "messages requests conversations tasks files agents queue models workers topics stats audit".split()


@pytest.mark.parametrize("name", GROUPS)
async def test_both_clients_have_the_same_calls(name: str) -> None:
    """Each call of one is a call of the other, with the same arguments and the same text."""
    async with AsyncClient("http://x") as one:
        asynchronous, same = type(getattr(one, name)), type(getattr(Client("http://x"), name))
    calls = {each for each in vars(asynchronous) if not each.startswith("_")}

    assert calls == {each for each in vars(same) if not each.startswith("_")}
    for each in calls:
        first, second = getattr(asynchronous, each), getattr(same, each)
        assert first.__doc__ == second.__doc__
        assert inspect.signature(first) == inspect.signature(second)
    assert issubclass(same, blocking._Blocking)


async def test_a_blocking_client_within_a_loop() -> None:
    """It needs no event loop, and works where one is running."""
    network = network_of(ok(ACCEPTED, 202), LOST, ok(PENDING), ok(ENDED))
    with network.blocking() as client:
        assert "Hello" == client.messages.send("Hi").reply


def test_errors_can_be_pickled() -> None:
    """An error survives the way out of another process."""
    import pickle

    error = ClientError("a", code="b", status=1, request_id=UUID(REQUEST_ID), retryable=True)

    assert vars(error) == vars(pickle.loads(pickle.dumps(error)))

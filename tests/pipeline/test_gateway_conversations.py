"""Conversations over HTTP on real Postgres and Kafka."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from schemas.ids import conversation_id_for_key
from tests.support.gateway import Gateway, HandWorker, own_env, running_gateway
from tests.support.stack import Stack

HELLO = {"messages": [{"role": "user", "content": "hi"}]}
URL = "/v1/conversations"


@pytest.fixture(scope="module")
async def any_gateway(stack: Stack) -> AsyncIterator[Gateway]:
    """For tests that look at nothing that others make."""
    async with running_gateway(await own_env(stack)) as started:
        yield started


@pytest.fixture
async def env(stack: Stack) -> dict[str, str]:
    return await own_env(stack)


@pytest.fixture
async def gateway(env: dict[str, str]) -> AsyncIterator[Gateway]:
    async with running_gateway(env) as started:
        yield started


async def test_create_and_get(any_gateway: Gateway) -> None:
    """A conversation is created with its metadata, found by its Location, and created once under a caller's own id."""
    made = await any_gateway.client.post(URL, json={"metadata": {"topic": "owls"}})
    assert made.status_code == 201
    assert made.headers["location"] == f"{URL}/{made.json()['id']}"
    assert made.json().keys() == {"id", "created_at", "metadata", "open_requests"}
    assert (made.json()["metadata"], made.json()["open_requests"]) == ({"topic": "owls"}, [])
    assert (await any_gateway.client.get(made.headers["location"])).json() == made.json()

    id = str(uuid4())
    assert (await any_gateway.client.post(URL, json={"id": id})).status_code == 201
    again = await any_gateway.client.post(URL, json={"id": id, "metadata": {"a": "b"}})
    assert (again.status_code, again.json()["id"], again.json()["metadata"]) == (200, id, {})
    assert (await any_gateway.client.post(URL)).status_code == 201


async def test_an_id_that_others_can_compute(any_gateway: Gateway) -> None:
    """A named caller cannot create a conversation under an id that others can compute; an unnamed one can."""
    body = {"id": str(conversation_id_for_key("default", b"customer-42"))}

    refused = await any_gateway.client.post(URL, json=body, headers={"X-User-ID": "ann"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert "version 5" in refused.json()["detail"]
    assert (await any_gateway.client.get(f"{URL}/{body['id']}")).status_code == 404
    assert (await any_gateway.client.post(URL, json=body)).status_code == 201


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b'{"unknown": 1}', "application/json", "invalid_request"),
        (b'{"id": "x"}', "application/json", "invalid_request"),
        (b"[]", "application/json", "invalid_request"),
        (b'{"metadata": {"secretname": 1}}', "application/json", "invalid_request"),
        (b"{}", "text/plain", "invalid_request"),
        (b"{", "application/json", "not_json"),
        (b'{"metadata": {"a": "' + b"x" * (1024 * 1024) + b'"}}', "application/json", "too_large"),
    ],
)
async def test_bad_bodies(any_gateway: Gateway, body: bytes, kind: str, code: str) -> None:
    """A body that is not JSON or has invalid fields is refused, and nothing of it is repeated."""
    response = await any_gateway.client.post(URL, content=body, headers={"content-type": kind})
    assert response.json()["code"] == code
    assert response.status_code == {"invalid_request": 422, "not_json": 400, "too_large": 413}[code]
    assert "secretname" not in response.text


async def test_list(gateway: Gateway) -> None:
    """The list is paged, newest first, and complete."""
    made = [(await gateway.client.post(URL)).json()["id"] for _ in range(5)]
    found: list[str] = []
    cursor = None
    sizes = []
    while cursor or not found:
        page = (await gateway.client.get(URL, params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        assert page.keys() == {"data", "next"}
        sizes.append(len(page["data"]))
        found += [each["id"] for each in page["data"]]
        cursor = page["next"]
    assert found == made[::-1]
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=secret", "cursor=secret", "cursor=W10", "cursor=%00"])
async def test_bad_pages(any_gateway: Gateway, query: str) -> None:
    """An invalid limit or cursor is 422 on both lists, and the error does not repeat it."""
    conversation = (await any_gateway.client.post(URL)).json()["id"]
    for url in (URL, f"{URL}/{conversation}/messages"):
        response = await any_gateway.client.get(f"{url}?{query}")
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
        assert "secret" not in response.text


async def test_turns(gateway: Gateway, worker: HandWorker) -> None:
    """Open requests are shown while they are open; messages are listed oldest first, in pages."""
    conversation = (await gateway.client.post(URL)).json()["id"]
    body = {**HELLO, "conversation_id": conversation}
    requests = []
    for _ in range(2):
        accepted = await gateway.client.post("/v1/messages", json=body, headers={"Prefer": "respond-async"})
        requests.append(accepted.json()["id"])
        await worker.take_in()
    shown = (await gateway.client.get(f"{URL}/{conversation}")).json()
    assert shown["open_requests"] == requests

    for number, id in enumerate(requests):
        turn = await worker.claim(UUID(id))
        await worker.complete(turn, f"reply {number}")
    assert (await gateway.client.get(f"{URL}/{conversation}")).json()["open_requests"] == []
    first = (await gateway.client.get(f"{URL}/{conversation}/messages", params={"limit": 3})).json()
    rest = (await gateway.client.get(f"{URL}/{conversation}/messages", params={"cursor": first["next"]})).json()
    said = [(each["role"], each["content"], each["request_id"]) for each in first["data"] + rest["data"]]
    assert said == [
        ("user", "hi", requests[0]),
        ("assistant", "reply 0", requests[0]),
        ("user", "hi", requests[1]),
        ("assistant", "reply 1", requests[1]),
    ]
    assert (len(first["data"]), rest["next"]) == (3, None)
    assert first["data"][0].keys() == {"id", "role", "content", "created_at", "request_id", "finish_reason"}


async def test_branch_and_copy(gateway: Gateway, worker: HandWorker) -> None:
    """A branch begins with messages of another conversation, a copy has its own; each is made once under its id."""
    conversation = (await gateway.client.post(URL, json={"metadata": {"topic": "owls"}})).json()["id"]
    path = f"{URL}/{conversation}"
    requests = [await _answered(gateway, worker, conversation, f"reply {number}") for number in range(2)]
    messages = (await gateway.client.get(f"{path}/messages")).json()["data"]

    places = [{}, {"after_request": requests[0]}, {"after_message": messages[0]["id"]}]
    made = [await gateway.client.post(f"{path}/branch", json=place) for place in places]
    assert [201] * 3 == [each.status_code for each in made]
    branches = [each.json() for each in made]
    assert [(conversation, {"topic": "owls"})] * 3 == [(each["branch_of"], each["metadata"]) for each in branches]
    assert made[1].headers["location"] == f"{URL}/{branches[1]['id']}"
    said = [await _said(gateway, each["id"]) for each in branches]
    assert [["hi", "reply 0", "hi", "reply 1"], ["hi", "reply 0"], ["hi"]] == said
    await _answered(gateway, worker, branches[1]["id"], "another")
    assert ["hi", "reply 0", "hi", "another"] == await _said(gateway, branches[1]["id"])

    body = {"id": str(uuid4()), "metadata": {}}
    copies = [await gateway.client.post(f"{URL}/{branches[1]['id']}/copy", json=body) for _ in range(2)]
    assert [201, 200] == [each.status_code for each in copies]
    assert (body["id"], {}, False) == (
        copies[1].json()["id"],
        copies[1].json()["metadata"],
        "branch_of" in copies[1].json(),
    )

    for what, id in (("branch", body["id"]), ("branch", conversation), ("copy", branches[1]["id"])):
        taken = await gateway.client.post(f"{path}/{what}", json={"id": id})
        assert (what, taken.status_code, taken.json()["detail"]) == (what, 422, "id: another conversation has it")

    assert (await gateway.client.delete(path)).status_code == 204
    assert ["hi", "another"] == await _said(gateway, branches[1]["id"])
    assert ["hi", "reply 0", "hi", "another"] == await _said(gateway, body["id"])
    for what in ("branch", "copy"):
        gone = await gateway.client.post(f"{path}/{what}")
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def _answered(gateway: Gateway, worker: HandWorker, conversation: str, reply: str) -> str:
    """A request of a conversation that is answered."""
    body = {**HELLO, "conversation_id": conversation}
    accepted = await gateway.client.post("/v1/messages", json=body, headers={"Prefer": "respond-async"})
    await worker.take_in()
    id: str = accepted.json()["id"]
    await worker.complete(await worker.claim(UUID(id)), reply)
    return id


async def _said(gateway: Gateway, conversation: str) -> list[str]:
    """The messages of a conversation."""
    page = (await gateway.client.get(f"{URL}/{conversation}/messages")).json()
    return [each["content"] for each in page["data"]]


async def test_a_place_that_is_not_in_the_conversation(gateway: Gateway, worker: HandWorker) -> None:
    """A branch begins with completed requests and messages of its own parent, and nothing is created otherwise."""
    one, other = [(await gateway.client.post(URL)).json()["id"] for _ in range(2)]
    request = await _answered(gateway, worker, other, "reply")
    message = (await gateway.client.get(f"{URL}/{other}/messages")).json()["data"][0]["id"]
    for body, name in (
        ({"after_request": request}, "after_request"),
        ({"after_request": str(uuid4())}, "after_request"),
        ({"after_message": message}, "after_message"),
    ):
        refused = await gateway.client.post(f"{URL}/{one}/branch", json=body)
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        assert name in refused.json()["detail"]
    refused = await gateway.client.post(
        f"{URL}/{other}/branch", json={"after_request": request, "after_message": message}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert [other, one] == [each["id"] for each in (await gateway.client.get(URL)).json()["data"]]


async def test_an_id_as_requests_have(gateway: Gateway, worker: HandWorker) -> None:
    """A caller cannot create a conversation under such an id; one that a request has made is shown, and not listed."""
    conversation = (await gateway.client.post(URL)).json()["id"]
    id = await _answered(gateway, worker, conversation, "reply")
    for path in (URL, f"{URL}/{conversation}/branch", f"{URL}/{conversation}/copy"):
        refused = await gateway.client.post(path, json={"id": id})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        assert "version 8" in refused.json()["detail"]

    await _answered(gateway, worker, id, "hidden")
    assert ["hi", "hidden"] == await _said(gateway, id)
    assert [conversation] == [each["id"] for each in (await gateway.client.get(URL)).json()["data"]]


async def test_delete(gateway: Gateway, worker: HandWorker) -> None:
    """A deleted conversation is gone at once with its contents; its open request is cancelled."""
    conversation = (await gateway.client.post(URL)).json()["id"]
    body = {**HELLO, "conversation_id": conversation}
    accepted = await gateway.client.post("/v1/messages", json=body, headers={"Prefer": "respond-async"})
    await worker.take_in()

    assert (await gateway.client.delete(f"{URL}/{conversation}")).status_code == 204
    for url in (f"{URL}/{conversation}", f"{URL}/{conversation}/messages", accepted.headers["location"]):
        assert (await gateway.client.get(url)).status_code == 404
    assert (await gateway.client.get(URL)).json() == {"data": [], "next": None}
    made = await gateway.client.post(URL, json={"id": conversation})
    assert (made.status_code, made.json()["code"]) == (404, "not_found")

    assert (await gateway.client.delete(f"{URL}/{conversation}")).status_code == 404
    await worker.take_in()
    await worker.take_in()  # The second time too, because the first may not have been acknowledged.
    assert (await gateway.client.get(accepted.headers["location"])).status_code == 404


async def test_unknown(gateway: Gateway, worker: HandWorker) -> None:
    """A conversation that never existed is 404 on every route, and no record is written for it."""
    for name in (str(uuid4()), "nonsense"):
        for method, url in (("GET", name), ("GET", f"{name}/messages"), ("DELETE", name)):
            response = await gateway.client.request(method, f"{URL}/{url}")
            assert (response.status_code, response.json()["code"]) == (404, "not_found")
    accepted = await gateway.client.post("/v1/messages", json=HELLO, headers={"Prefer": "respond-async"})
    assert str((await worker.take_in()).id) == accepted.json()["id"]


async def test_many_messages_in_one_call(gateway: Gateway, worker: HandWorker) -> None:
    """Messages of a bulk call are turns in the order of the list, and a repeat with the same keys adds none."""
    conversation = str(uuid4())
    texts = [str(number) for number in range(20)]
    requests = [
        {
            "messages": [{"role": "user", "content": text}],
            "conversation_id": conversation,
            "idempotency_key": f"k{text}",
        }
        for text in texts
    ]
    requests.insert(7, {"messages": []})

    told = (await gateway.client.post("/v1/messages/bulk", json={"requests": requests})).json()
    assert (20, 1, "invalid_request") == (told["accepted"], told["refused"], told["data"][7]["error"]["code"])
    ids = [each["request_id"] for each in told["data"] if each["request_id"]]
    for _ in texts:
        await worker.take_in()
    assert ids == (await gateway.client.get(f"{URL}/{conversation}")).json()["open_requests"]

    again = (await gateway.client.post("/v1/messages/bulk", json={"requests": requests})).json()
    assert ids == [each["request_id"] for each in again["data"] if each["request_id"]]
    requests[0]["messages"] = HELLO["messages"]
    other = (await gateway.client.post("/v1/messages/bulk", json={"requests": requests[:1]})).json()["data"][0]
    assert (ids[0], "idempotency_key_reused") == (other["request_id"], other["error"]["code"])
    after = (await gateway.client.post("/v1/messages", json=HELLO, headers={"Prefer": "respond-async"})).json()["id"]
    assert UUID(after) == (await worker.take_in()).id  # Nothing else was sent meanwhile.

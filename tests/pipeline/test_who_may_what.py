"""Every route of the gateway as every kind of caller: who is refused, and that another user's data count as unknown."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from itertools import chain, product, repeat
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from gateway.people.callers import Callers
from gateway.timings import TIMINGS, Timings
from llm_service.providers.simulated import conversation_hash
from orchestra.receipts import Receipts
from orchestra.store.files import new_id
from schemas.api.keys import Scope
from schemas.envelope import DEFAULT_TENANT
from schemas.generation import ChatMessage
from tests.gateway.test_audited_routes import ROWS
from tests.support.gateway import running_gateway, streaming
from tests.support.house import CANARY, ENDLESS, FAILING, Headers, House, Things, message, open_house, task, upload
from tests.support.people import PASSWORD, Clock, key_id
from tests.support.stack import Stack
from tests.support.store import new_worker

READ, WRITE, OPERATE, ADMIN = Scope.READ, Scope.WRITE, Scope.OPERATE, Scope.ADMIN


class Rule(NamedTuple):
    """The scope a route needs (None: no credentials), and its response to a caller that has it."""

    scope: Scope | None
    status: int = 200
    body: Any = None
    # Which of the owner's things to use, where not all will do.
    to: str = ""
    # The scope `operate` is enough, for the data of all users of the tenant.
    operators: bool = False


ALL = {"filter": {"created_after": "2000-01-01"}}
NAME = {"username": "somebody-new", "password": "a long one"}
ROUTES = {
    "POST /v1/messages": Rule(WRITE, 200, message("hi")),
    "POST /v1/messages/bulk": Rule(WRITE, 200, {"requests": [message("hi")]}),
    "GET /v1/requests": Rule(READ),
    "GET /v1/requests/{request_id}": Rule(READ),
    "GET /v1/requests/{request_id}/events": Rule(READ, to="answered"),
    "GET /v1/requests/{request_id}/waiting": Rule(READ),
    "POST /v1/requests/{request_id}/cancel": Rule(WRITE, 202, to="open", operators=True),
    "POST /v1/requests/{request_id}/retry": Rule(WRITE, 202, to="failed_task", operators=True),
    "PATCH /v1/requests/{request_id}": Rule(WRITE, 200, {"priority": 4}, to="parked", operators=True),
    "POST /v1/requests/cancel": Rule(WRITE, 202, {**ALL, "dry_run": True}, operators=True),
    "POST /v1/requests/retry": Rule(WRITE, 202, {**ALL, "dry_run": True}, operators=True),
    "POST /v1/requests/change": Rule(WRITE, 200, {**ALL, "dry_run": True, "change": {"priority": 4}}, operators=True),
    "POST /v1/conversations": Rule(WRITE, 201, {"metadata": {"who": "I"}}),
    "GET /v1/conversations": Rule(READ),
    "GET /v1/conversations/{conversation_id}": Rule(READ),
    "POST /v1/conversations/{conversation_id}/branch": Rule(WRITE, 201, {"metadata": {"who": "I"}}),
    "POST /v1/conversations/{conversation_id}/copy": Rule(WRITE, 201, {"metadata": {"who": CANARY}}),
    "DELETE /v1/conversations/{conversation_id}": Rule(WRITE, 204),
    "GET /v1/conversations/{conversation_id}/messages": Rule(READ),
    "GET /v1/conversations/{conversation_id}/events": Rule(READ),
    "POST /tasks": Rule(WRITE, 201, task("hi")),
    "GET /tasks": Rule(READ),
    "GET /tasks/stats/status": Rule(READ),
    "GET /tasks/stats/type": Rule(READ),
    "GET /tasks/{task_id}": Rule(READ),
    "DELETE /tasks/{task_id}": Rule(WRITE, 204),
    "POST /v1/tasks": Rule(WRITE, 201, task("hi")),
    "GET /v1/tasks": Rule(READ),
    "POST /v1/tasks/cancel": Rule(WRITE, 202, {"type": "summarization"}),
    "POST /v1/tasks/{task_id}/retry": Rule(WRITE, 201, to="failed_task"),
    "POST /v1/tasks/{task_id}/cancel": Rule(WRITE, 202, to="open_task"),
    "GET /v1/tasks/stats/status": Rule(READ),
    "GET /v1/tasks/stats/type": Rule(READ),
    "GET /v1/tasks/{task_id}": Rule(READ),
    "DELETE /v1/tasks/{task_id}": Rule(WRITE, 204),
    "GET /v1/dead-letters": Rule(OPERATE),
    "GET /v1/dead-letters/{letter_id}": Rule(OPERATE),
    "PUT /v1/dead-letters/{letter_id}": Rule(OPERATE, 200, {"value": json.dumps(message())}),
    "POST /v1/dead-letters/{letter_id}/check": Rule(OPERATE, 200, {"value": json.dumps(message())}),
    "POST /v1/dead-letters/{letter_id}/replay": Rule(OPERATE, 202),
    "POST /v1/dead-letters/replay": Rule(OPERATE, 202, {"topic": "the.house"}),
    "GET /v1/queue": Rule(OPERATE),
    "GET /v1/workers": Rule(OPERATE),
    "GET /v1/topics": Rule(OPERATE),
    "GET /v1/topics/{topic}/partitions/{partition}/records": Rule(ADMIN),
    "GET /v1/stats": Rule(OPERATE),
    "GET /v1/live": Rule(READ),
    "GET /v1/audit": Rule(ADMIN),
    "POST /v1/models/{model_id}/pause": Rule(OPERATE, 200, {"reason": CANARY}),
    "POST /v1/models/{model_id}/resume": Rule(OPERATE, 204),
    "POST /v1/tenant/pause": Rule(OPERATE, 200, {"reason": CANARY}),
    "POST /v1/tenant/resume": Rule(OPERATE, 204),
    "POST /v1/workers/{worker_id}/drain": Rule(OPERATE),
    "POST /v1/workers/{worker_id}/resume": Rule(OPERATE),
    "POST /v1/files": Rule(WRITE, 200, upload("mine")),
    "GET /v1/files": Rule(READ),
    "GET /v1/files/{file_id}": Rule(READ),
    "GET /v1/files/{file_id}/content": Rule(READ),
    "DELETE /v1/files/{file_id}": Rule(WRITE),
    "POST /openai/v1/chat/completions": Rule(WRITE, 200, message("hi")),
    "GET /openai/v1/models": Rule(READ),
    "GET /openai/v1/models/{model_id}": Rule(READ),
    "POST /openai/v1/responses": Rule(WRITE, 200, {"model": "simulated", "input": "hi"}),
    "GET /openai/v1/responses/{response_id}": Rule(READ),
    "DELETE /openai/v1/responses/{response_id}": Rule(WRITE),
    "POST /openai/v1/responses/{response_id}/cancel": Rule(WRITE),
    "GET /openai/v1/responses/{response_id}/input_items": Rule(READ),
    "POST /openai/v1/conversations": Rule(WRITE, 200, {"metadata": {"who": "I"}}),
    "GET /openai/v1/conversations/{conv_id}": Rule(READ),
    "POST /openai/v1/conversations/{conv_id}": Rule(WRITE, 200, {"metadata": {"who": "I"}}),
    "DELETE /openai/v1/conversations/{conv_id}": Rule(WRITE),
    "GET /openai/v1/conversations/{conv_id}/items": Rule(READ),
    "POST /openai/v1/conversations/{conv_id}/items": Rule(WRITE, 200, {"items": [{"role": "user", "content": CANARY}]}),
    "GET /openai/v1/conversations/{conv_id}/items/{item_id}": Rule(READ),
    "DELETE /openai/v1/conversations/{conv_id}/items/{item_id}": Rule(WRITE),
    "GET /v1/agents": Rule(READ),
    "GET /v1/users": Rule(ADMIN),
    "POST /v1/users": Rule(ADMIN, 201, NAME),
    "PUT /v1/users/{user_id}": Rule(ADMIN, 200, {"role": "user"}),
    "DELETE /v1/users/{user_id}": Rule(ADMIN, 204),
    # Refused, because the old password is wrong.
    "PUT /v1/users/me/password": Rule(WRITE, 403, {"old_password": "none of hers", "password": "a long one"}),
    "POST /v1/erasures": Rule(ADMIN, 202, {"owner": "the name of no owner"}),
    "GET /v1/erasures": Rule(ADMIN),
    "GET /v1/erasures/{erasure_id}": Rule(ADMIN),
    "POST /token": Rule(None),
    "POST /v1/session": Rule(None),
    "GET /v1/session": Rule(None),
    "DELETE /v1/session": Rule(None),
    "GET /users/me": Rule(READ),
    "POST /v1/keys": Rule(WRITE, 201, {"name": "mine"}),
    "GET /v1/keys": Rule(READ),
    "DELETE /v1/keys/{key_id}": Rule(WRITE, 204),
    "GET /healthz": Rule(None),
    "GET /readyz": Rule(None),
    "GET /metrics": Rule(None),
}
# How ids are spelled in paths of OpenAI's API.
_SPELLED = {"{response_id}": "resp_", "{conv_id}": "conv_"}
# Scopes that an ordinary user does not have.
GRANTED = (OPERATE, ADMIN)
CLOSED = [route for route, rule in ROUTES.items() if rule.scope]
# These belong to no user.
WITH_ID = [route for route in CLOSED if "{" in route and not re.search("{(model_id|worker_id|partition)}", route)]
WITHOUT_ID = [route for route in CLOSED if "{" not in route]
LISTS = [route for route in WITHOUT_ID if route.startswith("GET")]
# What each route is in the audit.
ACTIONS = {f"{row.method} {row.path.replace(':path', '')}": row.action for row in ROWS if row.action}
# How a call of each of these ends.
LOST = {
    "revoked": (401, "unauthorized"),
    "a page of the key": (401, "unauthorized"),
    "a page of the user": (401, "unauthorized"),
    "deleted": (401, "unauthorized"),
    "new password": (401, "unauthorized"),
    "no admin": (403, "forbidden"),
}
REFUSED = (
    "nobody",
    "an expired key",
    "a revoked key",
    "a deleted user",
    "a deleted user's key",
    "a guessed key",
    "a key of no form",
)
STRANGERS = ("bob", "bob's key", "their key", "their program", "their admin")


@pytest.fixture(scope="module")
async def house(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(stack, tmp_path_factory.mktemp("house")) as opened:
        yield opened


def split(route: str, id: str = "") -> tuple[str, str]:
    method, path = route.split(" ")
    # One id for each parameter, or the same for all.
    each = chain(id.split(" "), repeat(id))
    return method, re.sub(r"\{\w+\}", lambda _: next(each), path)


def ids(route: str, things: Things) -> list[str]:
    found = re.findall(r"\{(\w+)\}", route)
    return things.by_parameter(found[-1]) if found else [""]


def unknown_ids(house: House, route: str) -> list[str]:
    """Ids that do not exist, of every kind that could be in this path."""
    if "{key_id}" in route:
        return ["a" * 12, "no key's form"]
    if "{letter_id}" in route:
        return ["999999999", "no number"]
    if "{file_id}" in route:
        return [new_id(), "no file's form"]
    now, ours = datetime.now(UTC), Receipts([bytes.fromhex(house.env["ORCHESTRA_SECRET"])])
    somebody = str(uuid4())
    minted = ours.mint(DEFAULT_TENANT, somebody, now), ours.mint("a third", somebody, now)
    derived = ours.derive(DEFAULT_TENANT, house.ids["ann"], "POST", "/v1/messages", "a key she never used")
    unknown = [uuid4(), *minted, derived, Receipts([b"x" * 32]).mint("default", "", now)]
    spelled = next((form for name, form in _SPELLED.items() if name in route), None)
    return [f"{spelled}{each.hex}" if spelled else str(each) for each in unknown]


def shown(response: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """All that a caller sees of a response, except its time and its own id."""
    return response.status_code, response.content, {**response.headers, "date": "", "x-request-id": ""}


def code(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    said = body["code"] if "code" in body else body["error"]["code"]
    return response.status_code, "unauthorized" if said == "invalid_api_key" else said


def nothing_of(things: Things, response: httpx.Response) -> None:
    text = response.text + repr(response.headers)
    assert CANARY not in text
    assert [id for id in things.all if id in text] == []


async def test_every_route_is_known(house: House) -> None:
    """Every route of the gateway is in this file's table."""
    paths = (await house.client.get("/openapi.json")).json()["paths"]

    assert {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} == ROUTES.keys()


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/asyncapi", "/asyncapi.json"]
)
async def test_what_is_for_all(house: House, path: str) -> None:
    """Public routes reveal no user's data and ignore credentials."""
    for caller in ("nobody", "a revoked key", "bob"):
        response = await house.ask("GET", path, house.people[caller])
        assert response.status_code == 200
        nothing_of(house.anns, response)


@pytest.mark.parametrize("route", CLOSED)
async def test_without_good_credentials(house: House, route: str) -> None:
    """A caller without credentials, or with invalid ones, gets 401 on every route."""
    async with house.nothing_happens():
        for caller, id in product(REFUSED, ids(route, house.anns)):
            response = await house.ask(*split(route, id), house.people[caller], ROUTES[route].body)
            assert (caller, *code(response)) == (caller, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", [route for route in CLOSED if ROUTES[route].scope is not READ])
async def test_with_too_low_a_scope(house: House, route: str) -> None:
    """A read-only key changes nothing; a caller that is not an admin or operator gets none of their routes."""
    low = ["ann's reading key"]
    if ROUTES[route].scope in GRANTED:
        low += ["ann", "bob", "bob's key", "former admin's key", "their program"]
    if ROUTES[route].scope is not OPERATE and not ROUTES[route].operators:
        low += ["an operator's key"]
    async with house.nothing_happens():
        for caller, id in product(low, ids(route, house.anns)):
            response = await house.ask(*split(route, id), house.people[caller], ROUTES[route].body)
            assert (caller, *code(response)) == (caller, 403, "forbidden")


async def test_an_operator_reads_letters_and_nothing_else(house: House) -> None:
    """The scope `operate` is enough for its routes, and for no others."""
    operator = house.people["an operator's key"]

    answers = {route: (await house.ask(*split(route), operator)).status_code for route in LISTS}

    assert {route: 200 if ROUTES[route].scope is OPERATE else 403 for route in LISTS} == answers


async def test_an_operator_acts_on_requests_of_all_and_reads_none(house: House) -> None:
    """The scope `operate` changes, counts and retries requests of users, and shows nothing that they said."""
    operator, anns = house.people["an operator's key"], house.anns
    ids = {"ids": [anns.parked, anns.open, anns.failed_task, anns.answered], "dry_run": True}

    changed = await house.ask("PATCH", f"/v1/requests/{anns.parked}", operator, {"priority": 3})
    counted = [
        (await house.ask("POST", f"/v1/requests/{verb}", operator, {**ids, **more})).json()
        for verb, more in (("cancel", {}), ("retry", {}), ("change", {"change": {"priority": 2}}))
    ]

    assert (200, anns.parked) == (changed.status_code, changed.json()["id"])
    assert CANARY not in changed.text
    assert [2, 1, 1] == [each["done"] for each in counted]
    assert code(await house.ask("GET", f"/v1/requests/{anns.parked}", operator)) == (403, "forbidden")


@pytest.mark.parametrize("route", WITH_ID)
async def test_what_is_anothers_is_unknown(house: House, route: str) -> None:
    """Another user's id gets exactly the response of an unknown id, and has no effect."""
    body, ids_of_all = ROUTES[route].body, [*unknown_ids(house, route), *ids(route, house.anns)]
    async with house.nothing_happens():
        for caller in STRANGERS:
            calls = (house.ask(*split(route, id), house.people[caller], body) for id in ids_of_all)
            first, *others = map(shown, await asyncio.gather(*calls))
            assert (caller, [each for each in others if each != first]) == (caller, [])
            assert first[0] == 404 or (first[0] == 403 and caller != "their admin")


@pytest.mark.parametrize("route", [route for route in WITHOUT_ID if ROUTES[route].scope not in GRANTED])
async def test_nothing_of_anothers_shows(house: House, route: str) -> None:
    """Lists, counts and responses contain nothing of another user."""
    for caller in STRANGERS:
        response = await house.ask(*split(route), house.people[caller], ROUTES[route].body)
        assert response.status_code in ({403, 404} if response.is_error else {ROUTES[route].status})
        nothing_of(house.anns, response)


@pytest.mark.parametrize("caller", ["bob", "their admin"])
async def test_lists_that_are_asked_for_anothers(house: House, caller: str) -> None:
    """A filter or cursor taken from another user shows none of their data."""
    ann, headers = house.people["ann"], house.people[caller]
    for route in ("/tasks", "/v1/tasks"):
        for query in (f"user={house.anns.user}", "status=failed", "created_after=2020-01-01"):
            nothing_of(house.anns, await house.ask("GET", f"{route}?{query}", headers))
    for query in (f"conversation_id={house.anns.conversation}", "status=failed", "model=simulated"):
        nothing_of(house.anns, await house.ask("GET", f"/v1/requests?{query}", headers))
    cursor = (await house.ask("GET", "/v1/tasks?limit=1", ann)).json()["next"]
    assert cursor
    for route in ("/tasks", "/v1/tasks", "/v1/conversations", "/v1/requests"):
        response = await house.ask("GET", f"{route}?cursor={cursor}", headers)
        assert response.status_code == 200
        nothing_of(house.anns, response)


@pytest.mark.parametrize("route", CLOSED)
async def test_in_anothers_name(house: House, route: str) -> None:
    """Only an admin may name another user in X-User-ID, by id or by username."""
    async with house.nothing_happens():
        for caller in ("bob", "bob's key", "their program"):
            for name in (house.anns.user, f"ann-{CANARY}"):
                headers = {**house.people[caller], "X-User-ID": name}
                for id in ids(route, house.anns):
                    response = await house.ask(*split(route, id), headers, ROUTES[route].body)
                    assert code(response) == (403, "forbidden")


@pytest.mark.parametrize("caller", ["carol", "admin"])
@pytest.mark.parametrize("route", CLOSED)
async def test_what_is_ones_own(house: House, route: str, caller: str) -> None:
    """An owner may do everything with their own data except what needs an admin; an admin may do it for every user."""
    rule, headers = ROUTES[route], house.people[caller]
    if rule.scope in GRANTED and caller != "admin":
        assert (await house.ask(*split(route, house.ids["carol"]), headers, rule.body)).status_code == 403
        return
    if route == "DELETE /v1/users/{user_id}":
        await house.move_in("a guest")
        targets = [house.ids["a guest"]]
    elif "{letter_id}" in route:
        targets = [await house.letter()]
    elif route == "POST /v1/dead-letters/replay":
        await house.letter()
        targets = [""]
    elif "{worker_id}" in route:
        targets = [str(await new_worker(house.database))]
    elif re.search("{model_id}/(pause|resume)", route):
        targets = ["simulated:paused"]  # Nothing else in the house asks for it.
    elif route == "POST /v1/tasks/cancel":
        await house.furnish("carol")
        targets = [""]
    elif "{" in route and rule.scope is not READ:
        things = await house.furnish("carol")
        targets = [getattr(things, rule.to)] if rule.to else ids(route, things)
    else:
        targets = [getattr(house.anns, rule.to)] if rule.to else ids(route, house.anns)
        headers = house.people["ann"] if "{" in route and caller == "carol" else headers
    body = {"user": house.ids["carol"]} if route == "POST /v1/tasks/cancel" else rule.body
    changes = rule.status < 400 and not (isinstance(rule.body, dict) and rule.body.get("dry_run"))
    for id in targets:
        if rule.scope is OPERATE and route.endswith("/resume"):
            first = route.removesuffix("resume") + ("drain" if "{worker_id}" in route else "pause")
            await house.ask(*split(first, id), headers, {} if "{worker_id}" not in route else None)
        async with house.audited(ACTIONS.get(route) if changes else None):
            response = await house.ask(*split(route, id), headers, body)
        assert response.status_code == rule.status, response.text
        shows = id in response.text or CANARY in response.text or response.status_code == 204
        assert shows or route.endswith("/check")
    if route.endswith("/pause"):
        assert (await house.ask(*split(route.removesuffix("pause") + "resume", id), headers)).status_code == 204


async def whole_list(house: House, path: str, headers: Headers) -> str:
    """The text of all pages of a list."""
    text, query = "", "?" in path
    page = await house.ask("GET", path, headers)
    while cursor := _next(page):
        text += page.text
        page = await house.ask("GET", f"{path}{'&' if query else '?'}cursor={cursor}", headers)
    return text + page.text


def _next(page: httpx.Response) -> str | None:
    found = page.json()  # Users are a plain list.
    return found["next"] if isinstance(found, dict) else None


async def test_an_admin_sees_everybodys(house: House) -> None:
    """An admin's lists contain Ann's data."""
    headers = house.people["admin"]
    for path, ours in {
        f"/tasks?user={house.anns.user}": [house.anns.done_task, house.anns.failed_task, house.anns.open_task],
        f"/v1/tasks?user={house.anns.user}": [house.anns.done_task, house.anns.failed_task, house.anns.open_task],
        "/v1/requests?limit=100": [house.anns.answered, house.anns.open, house.anns.failed_task],
        "/v1/dead-letters?topic=the.house": [f'"id":{house.anns.letter},'],
        "/v1/conversations?limit=100": [house.anns.conversation],
        "/v1/keys?limit=100": [house.anns.key],
        "/v1/users": [house.anns.user],
    }.items():
        text = await whole_list(house, path, headers)
        assert [id for id in ours if id not in text] == []


async def test_the_admin_of_another_tenant_has_no_letters_of_ours(house: House) -> None:
    """An admin of another tenant lists and replays none of our dead letters, whatever the filter."""
    headers = house.people["their admin"]
    async with house.nothing_happens():
        for query in ("", "?topic=the.house", "?replayed=false&limit=100"):
            answer = await house.ask("GET", f"/v1/dead-letters{query}", headers)
            assert (answer.status_code, answer.json()) == (200, {"data": [], "next": None})
        sent = await house.ask("POST", "/v1/dead-letters/replay", headers, {"topic": "the.house"})
        assert (sent.status_code, sent.json()) == (202, {"replayed": 0, "skipped": 0, "next": None})


@pytest.mark.parametrize("on_busy", ["enqueue", "interrupt", "reject"])
@pytest.mark.parametrize("caller", ["bob", "bob's key", "program"])
async def test_a_word_in_anothers_conversation(house: House, caller: str, on_busy: str) -> None:
    """A message into another user's conversation fails in every way as if that did not exist, and changes nothing."""
    headers = house.people[caller]
    body = message("let me in", conversation_id=house.anns.conversation, on_busy=on_busy)
    before = await _anns(house)

    waited = await house.ask("POST", "/v1/messages", headers, body)
    assert code(waited) == (404, "not_found")
    later = await house.ask("POST", "/v1/messages", {**headers, "Prefer": "respond-async"}, body)
    assert later.status_code == 202
    failed = await house.until(later.json()["id"], headers, "failed")
    assert (failed["error"]["code"], failed["reply"]) == ("not_found", None)
    streamed = {**body, "stream": True}
    async with streaming(house.client, "POST", "/v1/messages", json=streamed, headers=headers) as reader:
        told = [(event.name, event.data.get("code")) for event in await reader.rest() if event.name != "pending"]
    assert told == [("failed", "not_found")]
    for path in ("/tasks", "/v1/tasks"):
        wanted = task("let me in", conversation_id=house.anns.conversation, on_busy=on_busy)
        made = await house.made(path, headers, wanted)
        assert (await house.until(made["task_id"], headers, "failed"))["error"]["code"] == "not_found"
        again = await house.made(f"/v1/tasks/{made['task_id']}/retry", headers, None)
        assert (await house.until(again["id"], headers, "failed"))["error"]["code"] == "not_found"

    assert before == await _anns(house)
    assert before[0]["open_requests"] == [house.anns.open]


async def _anns(house: House) -> tuple[Any, ...]:
    """Her conversation, its history, and all her rows."""
    path, ann = f"/v1/conversations/{house.anns.conversation}", house.people["ann"]
    seen = [(await house.ask("GET", url, ann)).json() for url in (path, f"{path}/messages")]
    rows = [line for line in await house.state() if not line.startswith(("orchestra_", "made"))]
    return *seen, rows


async def test_a_conversation_that_another_has_deleted(house: House) -> None:
    """A deleted conversation is as unknown to a stranger as before, and they cannot create it."""
    ann, bob = house.people["ann"], house.people["bob"]
    mine = (await house.made("/v1/conversations", house.people["carol"], {}))["id"]
    assert (await house.ask("DELETE", f"/v1/conversations/{mine}", house.people["carol"])).status_code == 204

    for id in (mine, house.anns.conversation):
        for path, body in (("/v1/messages", message("x", conversation_id=id)), ("/v1/conversations", {"id": id})):
            assert code(await house.ask("POST", path, bob, body)) == (404, "not_found")
    assert code(await house.ask("GET", f"/v1/conversations/{mine}", ann)) == (404, "not_found")


async def test_the_same_conversation_id_in_another_tenant(house: House) -> None:
    """The same conversation id in another tenant is another conversation: its model call has nothing of the first."""
    headers, before = house.people["their key"], await _anns(house)
    body = message("theirs", "simulated:reply=hash", conversation_id=house.anns.conversation, context="stored")
    answer = await house.ask("POST", "/v1/messages", headers, body)

    assert answer.json()["reply"] == conversation_hash([ChatMessage(role="user", content="theirs")])
    said = (await house.ask("GET", f"/v1/conversations/{house.anns.conversation}/messages", headers)).json()["data"]
    assert [each["content"] for each in said][:1] == ["theirs"]
    assert before == await _anns(house)


@pytest.mark.parametrize("path", ["/v1/messages", "/tasks", "/v1/tasks"])
async def test_the_same_idempotency_key(house: House, path: str) -> None:
    """Another user's Idempotency-Key has no effect: the same body is a new request, another body no conflict."""
    key = {"Idempotency-Key": str(uuid4())}
    make, status = (message, 200) if path == "/v1/messages" else (task, 201)

    async def post(caller: str, text: str) -> tuple[int, dict[str, Any]]:
        response = await house.ask("POST", path, {**house.people[caller], **key}, make(text))
        return response.status_code, response.json()

    carols = (await post("carol", "same"))[1]
    name = "request_id" if path == "/v1/messages" else "task_id"
    for caller, text in (("bob", "same"), ("their key", "another"), ("admin", "another")):
        answered, got = await post(caller, text)
        assert answered == status
        assert got[name] != carols[name]
    assert (await post("carol", "same"))[1][name] == carols[name]
    assert (await post("carol", "another"))[0] == 422


async def test_the_stream_of_another(house: House) -> None:
    """A stranger cannot resume a stream, at any place that its owner has reached."""
    url = f"/v1/requests/{house.anns.open}/events"
    async with streaming(house.client, "GET", url, headers=house.people["ann"]) as reader:
        place = (await reader.until("delta"))[-1].id
    assert place

    for caller in STRANGERS:
        for headers, query in (({"Last-Event-ID": place}, ""), ({}, f"?last_event_id={place}")):
            answers = [
                shown(await house.ask("GET", f"/v1/requests/{id}/events{query}", {**house.people[caller], **headers}))
                for id in (house.anns.open, str(uuid4()))
            ]
            assert answers[0] == answers[1]
            assert answers[0][0] == 404


@pytest.mark.parametrize("caller", STRANGERS)
async def test_many_cancels_at_once(house: House, caller: str) -> None:
    """A cancel by filter never matches another user's tasks."""
    async with house.nothing_happens():
        for filter in (
            {"user": house.anns.user},
            {"user": house.anns.user, "status": "in_progress"},
            {"created_before": "2100-01-01T00:00:00Z", "status": "in_progress"},
        ):
            answer = await house.ask("POST", "/v1/tasks/cancel", house.people[caller], filter)
            assert (answer.status_code, answer.json()) == (202, {"cancel_requested": 0, "more": False})


async def test_what_an_admin_makes_for_somebody(house: House) -> None:
    """What an admin creates in a user's name belongs to that user alone."""
    headers = {**house.people["program"], "X-User-ID": house.ids["carol"]}
    made = await house.made("/v1/tasks", headers, task())

    await house.until(made["id"], house.people["carol"], "completed")
    assert code(await house.ask("GET", f"/v1/tasks/{made['id']}", house.people["bob"])) == (404, "not_found")


async def test_what_is_taken_away_counts_everywhere(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revoked key, a deleted user, a changed password and a lost role take effect on another gateway 20 s later."""
    clock = Clock()
    monkeypatch.setattr("gateway.app.Callers", partial(Callers, clock=clock))
    names = ("revoked", "deleted", "new password", "no admin")
    people = {name: await house.move_in(f"{name} one", "admin") for name in names}
    people["revoked"] = await house.key("revoked one", "revoked one", "admin")
    key = key_id(people["revoked"]["Authorization"])
    users = {name: f"/v1/users/{house.ids[f'{name} one']}" for name in names}
    async with running_gateway(house.env, open_mode=False) as other:

        async def statuses() -> list[int]:
            return [(await other.client.get("/v1/users", headers=each)).status_code for each in people.values()]

        assert await statuses() == [200] * 4
        program = house.people["program"]
        for method, path, body in (
            ("DELETE", f"/v1/keys/{key}", None),
            ("DELETE", users["deleted"], None),
            ("PUT", users["new password"], {"password": "another long one"}),
            ("PUT", users["no admin"], {"role": "user"}),
        ):
            assert (await house.ask(method, path, program, body)).status_code in (200, 204)
        here = [await house.ask("GET", "/v1/users", each) for each in people.values()]
        clock.now += TIMINGS.fresh_row

        assert await statuses() == [each.status_code for each in here] == [401, 401, 401, 403]


async def test_who_loses_their_rights_is_told_no_more(house: House) -> None:
    """Open streams and waits of a caller that loses its access end, on another gateway too; others continue."""
    soon = Timings(ask_again=0.1, fresh_row=0.0)
    people = {name: await house.move_in(f"{name} two") for name in ("revoked", "deleted", "new password", "stays")}
    people["no admin"] = await house.move_in("no admin two", "admin")
    people["revoked"] = await house.key("revoked two", "revoked two", "write")
    users = {name: f"/v1/users/{house.ids[f'{name} two']}" for name in people}
    people["a page of the key"] = await house.page(json={"api_key": people["revoked"]["Authorization"].split()[1]})
    me = (await house.ask("GET", "/users/me", people["new password"])).json()["username"]
    people["a page of the user"] = await house.page(data={"username": me, "password": PASSWORD})
    async with running_gateway(house.env, soon, open_mode=False) as other, AsyncExitStack() as undo:
        streams, waits, posts, urls = {}, {}, {}, {}
        for name, headers in people.items():
            later = {**headers, "Prefer": "respond-async"}
            asked = await other.client.post("/v1/messages", json=message(model=ENDLESS), headers=later)
            urls[name] = f"/v1/requests/{house.anns.open if name == 'no admin' else asked.json()['id']}"
            stream = streaming(other.client, "GET", f"{urls[name]}/events", headers=headers)
            streams[name] = await undo.enter_async_context(stream)
            await streams[name].until("delta")
            wait = other.client.get(urls[name], headers={**headers, "Prefer": "wait=60"}, timeout=60)
            post = other.client.post("/v1/messages", json=message(model=ENDLESS), headers=headers, timeout=60)
            waits[name], posts[name] = asyncio.create_task(wait), asyncio.create_task(post)
        program = house.people["program"]
        for method, path, body in (
            ("DELETE", f"/v1/keys/{key_id(people['revoked']['Authorization'])}", None),
            ("DELETE", users["deleted"], None),
            ("PUT", users["new password"], {"password": "another long one"}),
            ("PUT", users["no admin"], {"role": "user"}),
        ):
            assert (await house.ask(method, path, program, body)).status_code in (200, 204)

        for name, told in LOST.items():
            assert (await streams[name].rest())[-1].name == "retry"
            assert told == code(await waits[name]) == code(await posts[name])
        assert not waits["stays"].done()
        assert not posts["stays"].done()
        assert (await other.client.post(f"{urls['stays']}/cancel", headers=people["stays"])).status_code == 202
        assert (await streams["stays"].rest())[-1].name == "cancelled"
        assert (await waits["stays"]).json()["status"] == "cancelled"
        posts["stays"].cancel()


async def test_the_logs_and_problems_keep_secrets(house: House) -> None:
    """No key, token, password, name or prompt is in a problem document or in any service's log."""
    ann, bad = house.people["ann"], f"{CANARY}-{uuid4()}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    text = {"messages": [{"role": bad, "content": bad}], "model": bad, bad: bad, "metadata": {bad: [bad]}}
    calls: list[tuple[str, str, Headers, Any]] = [
        ("POST", "/v1/messages", ann, text),
        ("POST", "/v1/messages", ann, message(bad, bad)),
        ("POST", "/v1/messages", ann, message(FAILING, FAILING)),
        ("POST", "/tasks", ann, task(bad, task_type=bad)),
        ("POST", "/v1/tasks", ann, {bad: bad}),
        ("POST", "/v1/tasks/cancel", ann, {"type": bad, bad: bad}),
        ("POST", "/v1/keys", ann, {"name": bad, "scopes": [bad]}),
        ("POST", "/v1/users", house.people["admin"], {"username": bad, "password": "short", "role": bad}),
        ("GET", f"/v1/tasks?cursor={bad}&type={bad}", ann, None),
        ("GET", f"/v1/requests/{bad}", ann, None),
        ("GET", f"/v1/requests?model={bad}&{bad}={bad}&conversation_id={bad}", ann, None),
        ("PUT", f"/v1/dead-letters/{house.anns.letter}", house.people["admin"], {"value_base64": bad, bad: bad}),
        ("POST", "/v1/dead-letters/replay", house.people["admin"], {"reason": bad, "cursor": bad}),
        ("GET", f"/{bad}?key={house.people['program']['Authorization'][7:]}", ann, None),
        ("GET", "/v1/tasks", {"Authorization": f"Bearer {bad}"}, None),
        ("GET", "/v1/tasks", {**ann, "X-User-ID": bad}, None),
        ("POST", "/v1/messages", {**ann, "Idempotency-Key": f"{bad} {bad}"}, message()),
        ("POST", "/token", form, {"username": bad, "password": bad}),
        ("POST", "/v1/session", {"Sec-Fetch-Site": "same-origin"}, {"api_key": bad}),
        ("GET", "/v1/tasks", {"Cookie": f"orchestra={bad}"}, None),
    ]
    for method, path, headers, body in calls:
        assert (await house.ask(method, path, headers, body)).is_error
    wrong = await house.client.post("/token", data={"username": f"ann-{CANARY}", "password": bad})
    assert code(wrong) == (401, "unauthorized")
    assert house.leaks(wrong.text) == []

    assert PASSWORD in house.secrets
    for service in house.services:
        assert service.alive
        assert service.log
        assert house.leaks(service.log) == []


async def test_all_this_has_left_anns_things_alone(house: House) -> None:
    """After all that strangers have tried, Ann's data are unchanged."""
    ann = house.people["ann"]
    for id, status in ((house.anns.open, "in_progress"), (house.anns.open_task, "in_progress")):
        assert (await house.ask("GET", f"/v1/requests/{id}", ann)).json()["status"] == status
    # Anything that was sent for her by mistake is ahead of this on its way.
    last = {**ann, "Prefer": "respond-async"}
    turn = await house.made("/v1/messages", last, message(conversation_id=house.anns.conversation, model=ENDLESS), 202)
    await house.until(turn["id"], ann, "pending")
    for id in (house.anns.open, house.anns.open_task):
        found = (await house.ask("GET", f"/v1/requests/{id}", ann)).json()
        assert (found["status"], found["cancel_requested"]) == ("in_progress", False)

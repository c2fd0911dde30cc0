"""A gateway that asks for credentials, who lives behind it, and what is theirs."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx

from orchestra.store.database import Database
from schemas.errors import ErrorCode
from tests.support.gateway import own_env
from tests.support.people import PASSWORD, bearer, key_id, make_key, make_user
from tests.support.services import Service, Services
from tests.support.stack import Stack
from tests.support.store import connect, letter, take
from tests.support.waiting import eventually

# In everything that Ann, or another owner under test, can put words in: what a stranger must never see.
CANARY = "canary-8c1f"
# In the names of the others. Neither belongs into a log.
_NAME = "magpie-77d0"
JSON = {"Content-Type": "application/json"}
ECHO, FAILING = "simulated", "simulated:fail=content_filter"
# Speaks at once, and every twenty seconds from then on.
ENDLESS = "simulated:tokens=1000,gap_ms=20000"
OTHER_TENANT = "them"

Headers = dict[str, str]


class Upload(NamedTuple):
    """A body that is a form with a file."""

    name: str
    content: bytes


_PARTS = {
    "requests": "SELECT to_jsonb(t) FROM requests t WHERE user_name = :owner",
    # A refused turn takes a number too.
    "conversations": "SELECT to_jsonb(t) - 'next_seq' FROM conversations t WHERE owner = :owner",
    "messages": """SELECT to_jsonb(t) FROM messages t WHERE (tenant, conversation_id) IN (
        SELECT tenant, id FROM conversations WHERE owner = :owner)""",
    "letters": "SELECT to_jsonb(t) FROM dead_letters t WHERE topic = 'the.house' AND :owner <> ''",
    "files": "SELECT to_jsonb(t) FROM files t WHERE owner = :owner",
    "users": "SELECT to_jsonb(t) FROM users t WHERE id = CAST(:owner AS uuid)",
    "keys": "SELECT to_jsonb(t) - 'last_used_at' FROM api_keys t WHERE user_id = CAST(:owner AS uuid)",
    "made": """SELECT to_jsonb(t) FROM (SELECT (SELECT count(*) FROM users) AS u, (SELECT count(*) FROM api_keys) AS k,
        (SELECT count(*) FROM conversations WHERE metadata <> '{}') AS c) AS t""",
}
_STATE = " UNION ALL ".join(f"SELECT '{name}', (p.row)::text FROM ({sql}) AS p(row)" for name, sql in _PARTS.items())


@dataclass(frozen=True)
class Things:
    """Ids of what one user has. ``conversation`` has the turn that is ``answered``, and the one that is ``open``.

    ``letter``: the number of a dead letter of the tenant, which could be replayed. ``response``: one of OpenAI's API,
    running in the background. ``item``: the conversation's id in OpenAI's form, a space, and the id of an item of it.
    ``parked``: a request that is to start tomorrow.
    """

    user: str
    conversation: str
    answered: str
    open: str
    done_task: str
    failed_task: str
    open_task: str
    key: str
    file: str
    letter: str
    response: str
    item: str
    parked: str

    def by_parameter(self, name: str) -> list[str]:
        """Every value that a path's parameter could have."""
        tasks = [self.done_task, self.failed_task, self.open_task]
        return {
            "request_id": [self.answered, self.open, self.parked, *tasks],
            "task_id": tasks,
            "conversation_id": [self.conversation],
            "user_id": [self.user],
            "key_id": [self.key],
            "file_id": [self.file],
            "letter_id": [self.letter],
            "response_id": [self.response],
            "conv_id": [self.item.partition(" ")[0]],
            "item_id": [self.item],
            "model_id": [ECHO],
            "worker_id": [str(UUID(int=7))],
            "erasure_id": [str(UUID(int=8))],
            "partition": ["llm.requests 0"],
        }[name]

    @property
    def all(self) -> list[str]:
        """All ids that are found nowhere by chance, as a letter's number would be."""
        return [id for name, id in vars(self).items() if name != "letter"]


# A stream of all turns of a conversation, also of those to come, and the live view.
_ENDLESS_STREAM = re.compile(r"/v1/conversations/[^/]+/events|/v1/live")


async def _whole(answer: httpx.Response) -> httpx.Response:
    await answer.aread()
    return answer


async def _first_event(answer: httpx.Response) -> httpx.Response:
    """The response with no more of its stream than the first event."""
    if answer.is_error:
        return await _whole(answer)
    content = b""
    async for chunk in answer.aiter_raw():
        content += chunk
        if b"data: " in content:
            break
    return httpx.Response(answer.status_code, headers=answer.headers, content=content)


@dataclass
class House:
    """A running gateway and its callers.

    ``people``: the headers of every kind of caller. ``secrets``: texts that no log and no problem document may have.
    """

    client: httpx.AsyncClient
    database: Database
    env: dict[str, str]
    services: list[Service]
    people: dict[str, Headers] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=lambda: {CANARY, _NAME, PASSWORD, PASSWORD.replace(" ", "+")})
    anns: Things = field(init=False)

    async def ask(self, method: str, path: str, headers: Headers, body: Any = None, **more: Any) -> httpx.Response:
        """One call. A problem that comes back is one by its form, and repeats nothing secret."""
        if isinstance(body, Upload):
            form = {"data": {"purpose": "user_data"}, "files": {"file": (body.name, body.content)}}
            response = await self.client.request(method, path, headers=headers, **form, **more)
        else:
            more |= {"content": None if body is None else json.dumps(body), "headers": {**JSON, **headers}}
            async with self.client.stream(method, path, **more) as answer:
                response = await _first_event(answer) if _ENDLESS_STREAM.fullmatch(path) else await _whole(answer)
        if response.status_code >= 400:
            if path.startswith("/openai/"):
                assert {"message", "type", "param", "code"} == set(response.json()["error"])
            else:
                assert response.headers["content-type"] == "application/problem+json"
                assert response.json()["status"] == response.status_code
            assert self.leaks(response.text + repr(response.headers)) == []
        return response

    async def made(self, path: str, headers: Headers, body: Any, status: int = 201) -> dict[str, Any]:
        """What a POST makes."""
        response = await self.ask("POST", path, headers, body)
        assert response.status_code == status, response.text
        return dict(response.json())

    def leaks(self, text: str) -> list[str]:
        """Which secrets are in a text."""
        return [secret for secret in self.secrets if secret in text]

    def keep(self, name: str, credentials: str) -> Headers:
        """Give a caller these credentials; what proves them is a secret from now on."""
        self.people[name] = bearer(credentials)
        self.secrets.add(credentials.rpartition("_")[2] if credentials.startswith("orc_") else credentials)
        return self.people[name]

    async def sign_in(self, username: str, name: str) -> Headers:
        """Sign in; the token goes by this name."""
        response = await self.client.post("/token", data={"username": username, "password": PASSWORD})
        assert response.status_code == 200, response.text
        return self.keep(name, response.json()["access_token"])

    async def page(self, **sent: Any) -> Headers:
        """Sign a page of the gateway in; the headers that it sends from then on."""
        own = {"Sec-Fetch-Site": "same-origin"}
        response = await self.client.post("/v1/session", headers=own, **sent)
        assert response.status_code == 204, response.text
        self.client.cookies.clear()
        cookie = response.headers["set-cookie"].partition(";")[0]
        self.secrets.add(cookie.partition("=")[2])
        return {**own, "Cookie": cookie}

    async def move_in(self, name: str, role: str = "user") -> Headers:
        """A new user, who signs in."""
        body = {"username": f"{name}-{CANARY if name == 'ann' else _NAME}", "password": PASSWORD, "role": role}
        self.ids[name] = (await self.made("/v1/users", self.people["program"], body))["id"]
        return await self.sign_in(body["username"], name)

    async def key(self, of: str, name: str, *scopes: str) -> Headers:
        """Create a key in the session of this user, for themselves."""
        made = await self.made("/v1/keys", self.people[of], {"name": _NAME, "scopes": list(scopes)})
        return self.keep(name, made["key"])

    async def furnish(self, name: str) -> Things:
        """Create one of everything for a signed-in user; return when all of it is in the state that its name says."""
        me = self.people[name]
        talk = (await self.made("/v1/conversations", me, {"metadata": {CANARY: CANARY}}))["id"]
        answered = (await self.made("/v1/messages", me, message(conversation_id=talk), 200))["request_id"]
        later = {**me, "Prefer": "respond-async"}
        turn = await self.made("/v1/messages", later, message(conversation_id=talk, model=ENDLESS), 202)
        done, failed, running = [
            (await self.made("/tasks", me, task(model=model)))["task_id"] for model in (ECHO, FAILING, ENDLESS)
        ]
        key = key_id((await self.made("/v1/keys", me, {"name": CANARY, "scopes": ["read"]}))["key"])
        file = (await self.made("/v1/files", me, upload(), 200))["id"]
        lost = await self.letter()
        tomorrow = {"not_before": str(datetime.now(UTC) + timedelta(days=1)), "metadata": {CANARY: CANARY}}
        parked = (await self.made("/v1/messages", later, message(**tomorrow), 202))["id"]
        body = {"model": ENDLESS, "input": CANARY, "background": True}
        response = (await self.made("/openai/v1/responses", me, body, 200))["id"]
        conversation = f"conv_{UUID(talk).hex}"
        [first, *_] = (await self.ask("GET", f"/openai/v1/conversations/{conversation}/items?order=asc", me)).json()[
            "data"
        ]
        item = f"{conversation} {first['id']}"
        things = Things(
            self.ids[name], talk, answered, turn["id"], done, failed, running, key, file, lost, response, item, parked
        )
        states = {things.open: "in_progress", done: "completed", failed: "failed", running: "in_progress"}
        states[parked] = "pending"
        states[str(UUID(response.removeprefix("resp_")))] = "in_progress"
        for id, status in states.items():
            await self.until(id, me, status)
        return things

    async def letter(self) -> str:
        """A new dead letter of the tenant, which could be replayed; its number."""
        lost = letter(topic="the.house", value=json.dumps(message()).encode()).because(ErrorCode.INTERNAL, "")
        await take(self.database, dead_letters=[lost])
        rows = await self.database.run("SELECT max(id) AS id FROM dead_letters WHERE topic = 'the.house'")
        return str(rows[0].id)

    async def until(self, id: str, headers: Headers, status: str) -> dict[str, Any]:
        """A request, once it is in this state."""

        async def attempt() -> dict[str, Any] | None:
            found = (await self.ask("GET", f"/v1/requests/{id}", headers)).json()
            return dict(found) if found["status"] == status else None

        found = await eventually(attempt)
        assert found is not None
        return found

    async def state(self) -> list[str]:
        """All that Ann has in the database, how many users and keys there are, and what was written to Kafka."""
        rows = await self.database.run(_STATE, owner=self.ids["ann"])
        metrics = (await self.client.get("/metrics")).text.splitlines()
        accepted = [line for line in metrics if line.startswith("orchestra_gateway_accepted_total")]
        return sorted([*(f"{part} {text}" for part, text in rows), *accepted])

    @asynccontextmanager
    async def audited(self, action: str | None) -> AsyncIterator[None]:
        """What is called within makes an entry with this action in the audit, and none has a text or a secret."""
        (before,) = await self.database.run("SELECT coalesce(max(id), 0) AS id FROM audit")
        yield
        new = "SELECT action, to_jsonb(a)::text AS entry FROM audit a WHERE id > :id"

        async def found() -> bool:
            rows = await self.database.run(new, id=before.id)
            assert [row.entry for row in rows if self.leaks(row.entry)] == []
            return action is None or action in {row.action for row in rows}

        await eventually(found)

    @asynccontextmanager
    async def nothing_happens(self) -> AsyncIterator[None]:
        """What is called within changes nothing of Ann's, makes nothing and sends nothing."""
        before = await self.state()
        yield
        assert before == await self.state()


def message(text: str = CANARY, model: str = ECHO, **more: Any) -> dict[str, Any]:
    """The body of a message."""
    return {"messages": [{"role": "user", "content": text}], "model": model, **more}


def task(text: str = CANARY, model: str = ECHO, **more: Any) -> dict[str, Any]:
    """The body of a task."""
    return {"task_type": "summarization", "prompt": text, "model": model, **more}


def upload(text: str = CANARY) -> Upload:
    """The body of an upload."""
    return Upload(f"{text}.txt", text.encode())


@asynccontextmanager
async def open_house(stack: Stack, folder: Path) -> AsyncIterator[House]:
    """A house with every user in it, and with Ann's things."""
    env = {**await own_env(stack), "FILES_URL": (folder / "files").as_uri()}
    services = Services(env, folder)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(services.close)
        database = connect(env["DATABASE_URL"])
        undo.push_async_callback(database.close)
        await services.llm(LOG_LEVEL="debug")
        _, gateway = await asyncio.gather(
            services.worker(LOG_LEVEL="debug"), services.gateway(OPEN_MODE="false", LOG_LEVEL="debug")
        )
        client = await undo.enter_async_context(httpx.AsyncClient(base_url=gateway.url, timeout=60))
        house = House(client, database, env, services.started)
        await _fill(house)
        yield house


async def _fill(house: House) -> None:
    database = house.database
    house.keep("program", await make_key(database, "admin"))
    house.keep("an operator's key", await make_key(database, "operate"))
    await house.move_in("admin", "admin")
    for name in ("ann", "bob", "carol"):
        await house.move_in(name)
    await house.key("bob", "bob's key", "write")
    await house.key("ann", "ann's reading key", "read")
    await database.run(
        "INSERT INTO erasures (id, tenant, owner_hash, recorded, finished_at) VALUES (:id, 'default', '', true, now())",
        id=UUID(int=8),
    )
    # One that had more scopes than the role of its user allows now.
    stored = await make_user(database, "former")
    house.keep("former admin's key", await make_key(database, "admin", user=stored))
    await _refused(house)
    stranger = await make_user(database, "stranger", "admin", OTHER_TENANT)
    house.keep("their key", await make_key(database, "read", "write", user=stranger, tenant=OTHER_TENANT))
    house.keep("their program", await make_key(database, "read", "write", tenant=OTHER_TENANT))
    await house.sign_in("stranger", "their admin")
    house.anns = await house.furnish("ann")


async def _refused(house: House) -> None:
    house.people["nobody"] = {}
    past = datetime.now(UTC) - timedelta(seconds=1)
    house.keep("an expired key", await make_key(house.database, "admin", expires_at=past))
    await house.key("ann", "a revoked key", "write")
    revoked = key_id(house.people["a revoked key"]["Authorization"])
    assert (await house.ask("DELETE", f"/v1/keys/{revoked}", house.people["ann"])).status_code == 204
    await house.move_in("a deleted user")
    await house.key("a deleted user", "a deleted user's key", "write")
    gone = f"/v1/users/{house.ids['a deleted user']}"
    assert (await house.ask("DELETE", gone, house.people["program"])).status_code == 204
    genuine = house.people["program"]["Authorization"].removeprefix("Bearer ")
    house.keep("a guessed key", f"{genuine[:-64]}{secrets.token_hex(32)}")
    house.keep("a key of no form", "orc_nonsense")

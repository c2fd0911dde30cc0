"""Erasures on the whole road: nothing of an erased person is left, and what Kafka still has does not bring it back."""

import asyncio
import base64
import dataclasses
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest
from aiokafka import TopicPartition

from orchestra.kafka.clients import make_producer, open_browser
from orchestra.kafka.topics import Admin
from orchestra.signing import Signer
from orchestra.store.database import Database
from schemas import envelope
from schemas.requests import MESSAGE_REQUESTED
from schemas.topics import REQUESTS
from tests.support.gateway import own_env, running_gateway
from tests.support.house import CANARY, House, Things, message, upload
from tests.support.people import make_key
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.store import connect
from tests.support.waiting import eventually
from workers import app
from workers.metrics import Metrics
from workers.settings import WorkerSettings
from workers.timings import TIMINGS

LATER = {"Prefer": "respond-async"}
WORDS = "what-only-Ann-says-7f31"
AT_ONCE = dataclasses.replace(TIMINGS, sweep=0.2, erasure_settles=1.0, erase_again=0.2, remove_files=0.2)
_COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c
JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' ORDER BY c.table_name, c.ordinal_position
"""


@asynccontextmanager
async def reading(env: dict[str, str], metrics: Metrics) -> AsyncIterator[str]:
    """A worker in this process that reads everything from the start; the name of its group."""
    group = f"test-{uuid4().hex}"
    values = {name.lower(): value for name, value in env.items()}
    settings = WorkerSettings.model_validate({**values, "drain_seconds": 0})
    with patch.object(app, "GROUP", group):
        async with app.worker(settings, metrics, AT_ONCE) as worker:
            run = asyncio.create_task(worker.run())
            try:
                yield group
            finally:
                worker.stop()
                await run


@pytest.fixture
async def house(stack: Stack, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway that requires credentials, and people with everything that one can have."""
    env = {**await own_env(stack), "FILES_URL": (tmp_path / "files").as_uri()}
    services = Services(env, tmp_path)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(services.close)
        await services.llm()
        database = connect(env["DATABASE_URL"])
        undo.push_async_callback(database.close)
        gateway = await undo.enter_async_context(running_gateway(services.env, open_mode=False))
        house = House(gateway.client, database, services.env, [])
        house.keep("program", await make_key(database, "admin"))
        for name in ("ann", "bob"):
            await house.move_in(name)
        yield house


async def columns_with(database: Database, *sought: bytes) -> list[str]:
    """The columns of all tables in which one of these is found: as text, in bytes, or in base64."""
    needles = [part for each in sought for part in (each.decode(), each.hex(), base64.b64encode(each).decode())]
    found = []
    for table, column, _ in await database.run(_COLUMNS):
        rows = await database.run(
            f'SELECT 1 FROM (SELECT lower(CAST("{column}" AS text)) AS text FROM "{table}") AS v, '
            f"unnest(CAST(:needles AS text[])) AS x(needle) WHERE position(lower(x.needle) IN v.text) > 0 LIMIT 1",
            needles=needles,
        )
        found += [f"{table}.{column}"] if rows else []
    return found


def files_with(folder: Path, *sought: bytes) -> list[str]:
    """The files below a folder in which one of these is found."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and any(s in path.read_bytes() for s in sought)]


async def of_bob(database: Database, bob: Things) -> list[str]:
    """All rows that have Bob's id in them."""
    tables = {row.table_name for row in await database.run(_COLUMNS)} - {"owner_totals"}
    return [
        f"{table} {row.text}"
        for table in sorted(tables)
        for row in await database.run(
            f"SELECT CAST(to_jsonb(t) - 'last_used_at' AS text) AS text FROM \"{table}\" t "
            "WHERE position(:id IN CAST(to_jsonb(t) AS text)) > 0 ORDER BY 1",
            id=bob.user,
        )
    ]


async def spoil(house: House, owner: str) -> None:
    """A record of this owner that no worker can read, as a gateway of a later release may write it."""
    value = json.dumps({"messages": WORDS}).encode()
    fields = {"tenant": "default", "user": owner, "key": b"", "value": value}
    id = str(uuid4())
    signer = Signer([house.env["ORCHESTRA_SECRET"].encode()])
    signature = signer.sign(id=id, type=MESSAGE_REQUESTED, **fields)  # type: ignore[arg-type]
    more = [(envelope.TENANT, "default"), (envelope.USER, owner), (envelope.SIGNATURE, signature)]
    headers = envelope.write_headers(id=id, type=MESSAGE_REQUESTED, source="/gateway", extra=more)
    producer = make_producer(Stack(house.env["KAFKA_BOOTSTRAP_SERVERS"], "").kafka_settings, "test")
    await producer.start()
    try:
        await producer.send_and_wait(REQUESTS.name, value, headers=[(name, text.encode()) for name, text in headers])
    finally:
        await producer.stop()


async def erase(house: House, owner: str, *options: str) -> dict[str, Any]:
    """Erase an owner on the command line; what it says at the end."""
    key = house.people["program"]["Authorization"].removeprefix("Bearer ")
    words = ("-P", "-m", "orchestra.cli", "erase", owner, "--json", "--gateway", str(house.client.base_url), *options)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env={**os.environ, "ORCHESTRA_API_KEY": key}, stdin=DEVNULL, stdout=PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return dict(json.loads(said))


async def all_is_read(stack: Stack, group: str) -> None:
    """Wait until this group has read everything that gateways have written so far."""
    async with Admin(stack.kafka_settings) as admin, open_browser(stack.kafka_settings, "test") as browser:
        places = [TopicPartition(REQUESTS.name, number) for number in range(REQUESTS.partitions)]
        starts, ends = await browser.beginning_offsets(places), await browser.end_offsets(places)
        wanted = {place: end for place, end in ends.items() if end > starts[place]}

        async def read() -> bool:
            offsets = await admin.client.list_consumer_group_offsets(group)
            return all(place in offsets and offsets[place].offset >= end for place, end in wanted.items())

        await eventually(read)


async def test_nothing_of_an_erased_person_is_left(house: House, stack: Stack, tmp_path: Path) -> None:
    """No column of any table and no file has a text, a name or an id of theirs, also after Kafka is read again."""
    database, admin, files = house.database, house.people["program"], tmp_path / "files"
    async with reading(house.env, Metrics()):
        ann, bob = await asyncio.gather(house.furnish("ann"), house.furnish("bob"))
        her, older = house.people["ann"], uuid4()
        own = message(WORDS, metadata={"who": WORDS}, conversation_id=ann.conversation)
        await house.made("/v1/messages", her | {"Idempotency-Key": WORDS, "Prefer": "respond-async"}, own, 202)
        await house.made("/openai/v1/chat/completions", her, message(WORDS), 200)
        await house.made("/v1/files", her, upload(WORDS), 200)
        await house.made(f"/v1/conversations/{ann.conversation}/branch", admin, {})
        await house.ask("POST", f"/v1/requests/{ann.parked}/cancel", admin)
        await house.ask("DELETE", f"/v1/keys/{ann.key}", her)
        await spoil(house, ann.user)
        await eventually(lambda: database.run("SELECT 1 FROM dead_letters WHERE topic = 'llm.requests'"))
        await database.run(  # As the system before this one has kept it.
            "INSERT INTO conversations (tenant, id, user_id, next_seq, metadata) "
            "VALUES ('default', :id, :user, 1, jsonb_build_object('who', CAST(:text AS text)))",
            id=older, user=UUID(ann.user), text=WORDS,
        )  # fmt: skip
        ids = {id for name, id in vars(ann).items() if name not in ("letter", "item", "response")}
        ids |= {str(UUID(ann.response.removeprefix("resp_"))), str(older)}
        sought = [text.encode() for text in (*ids, WORDS, f"ann-{CANARY}")]
        before = await of_bob(database, bob)
        counted = await erase(house, ann.user, "--dry-run")
        assert await columns_with(database, *sought)
        assert files_with(files, WORDS.encode())

        done = await erase(house, ann.user)

        assert [] == await columns_with(database, *sought)
        assert [] == files_with(files, WORDS.encode())
        assert before == await of_bob(database, bob)
        assert counted["counts"].keys() == done["counts"].keys()
        assert all(counted["counts"].values())
        assert 401 == (await house.ask("GET", "/v1/conversations", her)).status_code

    metrics = Metrics()
    async with reading(house.env, metrics) as group:  # The same records again.
        await all_is_read(stack, group)
        # An operator's cancel is not hers: the bare number of the request is noted for a while.
        sought.remove(ann.parked.encode())
        assert [] == await columns_with(database, *sought)
        assert 0 < (metrics.registry.get_sample_value("orchestra_worker_erased_records_total") or 0)


async def test_an_owner_that_is_being_erased_is_told(house: House) -> None:
    """What they had asked ends with the reason, nothing new is accepted, and afterwards the name is free again."""
    admin = house.people["program"]
    carl = admin | {"X-User-ID": "carl"}
    one = "/v1/requests/" + (await house.made("/v1/messages", carl | LATER, message("Hello"), 202))["id"]
    erasure = await house.made("/v1/erasures", admin, {"owner": "carl"}, 202)
    for path, body in (("/v1/messages", message("Hello")), ("/v1/conversations", {}), ("/v1/files", upload("Hello"))):
        await house.made(path, carl, body, 409)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(house.ask("GET", one, carl | {"Prefer": "wait=60"}))
        streaming = group.create_task(house.ask("GET", f"{one}/events", carl))
        async with reading(house.env, Metrics()):
            ended = (await waiting).json()
            events = (await streaming).text

            async def is_done() -> bool:
                shown = await house.ask("GET", f"/v1/erasures/{erasure['id']}", admin)
                return bool(shown.json()["status"] == "done")

            async def is_free() -> bool:
                return (await house.ask("POST", "/v1/messages", carl, message("Hello"))).status_code == 200

            await eventually(is_done)
            await eventually(is_free)

    assert ("failed", "owner_erased") == (ended["status"], ended["error"]["code"])
    assert "owner_erased" in events

"""Bodies that exceed a record: kept in the home of files, named by the record, and answered as all others are."""

import base64
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.files.folder import Folder
from schemas.topics import REQUESTS
from tests.support.file_house import TEXT, House, open_house
from tests.support.homes import MIB, keys_of
from tests.support.stack import Stack
from tests.support.waiting import eventually
from workers.files import FileSweep


@pytest.fixture(scope="module")
async def house(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(stack, tmp_path_factory.mktemp("home") / "files", ALLOW_MEDIA_URLS="true") as opened:
        yield opened


def data(size: int) -> str:
    return base64.b64encode(os.urandom(size)).decode()


def image() -> dict[str, Any]:
    """An image of 3 MiB, with a parameter that no list of media types has."""
    return {"type": "image_url", "image_url": {"url": f"data:image/png;x=1;base64,{data(3 * MIB)}", "detail": "low"}}


def document() -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": f"data:text/plain;base64,{data(100_000)}", "filename": "a.txt"}}


def recording() -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data(20_000), "format": "wav"}}


LONG = "lorem ipsum " * 250_000


async def rows(house: House, text: str, **values: Any) -> list[Any]:
    return list(await house.database.run(text, **values))


async def test_a_conversation_with_large_bodies(house: House) -> None:
    """The model gets exactly what was sent, in this turn and in the next; rows and records stay small."""
    sent, conversation = [TEXT, image(), document(), recording()], str(uuid4())

    first = await house.post(*sent, conversation_id=conversation)
    of_first = house.seen()
    second = await house.post(TEXT, conversation_id=conversation)

    assert ("4 parts", "1 parts") == (first.json()["reply"], second.json()["reply"])
    assert [sent] == of_first
    assert [sent, "4 parts", [TEXT]] == house.seen()
    (row,) = await rows(
        house, "SELECT pg_column_size(body) AS bytes FROM requests WHERE id = :id", id=UUID(first.json()["request_id"])
    )
    (said,) = await rows(
        house,
        "SELECT pg_column_size(parts) AS bytes, weight FROM messages WHERE request_id = :id AND role = 'user'",
        id=UUID(first.json()["request_id"]),
    )
    assert row.bytes < 2000
    assert said.bytes < 2000
    assert len(TEXT["text"]) + 3000 + 10_000 + 200 == pytest.approx(said.weight, rel=0.02)
    stored = (await house.client.get(f"/v1/conversations/{conversation}/messages")).json()["data"][0]["parts"]
    assert ["detail", "file_id"] == sorted(stored[1]["image_url"])
    assert ["file_id", "filename"] == sorted(stored[2]["file"])
    assert ["file_id", "format"] == sorted(stored[3]["input_audio"])


async def test_no_list_shows_a_body_and_no_caller_reads_it(house: House) -> None:
    """The file of a request is not one of its owner's: it is not listed, found, read or deleted by its id."""
    await house.post(image(), user="ann")
    (file,) = await rows(house, "SELECT id, owner, bytes FROM files WHERE owner = 'ann' AND request_id IS NOT NULL")

    listed = await house.client.get("/v1/files", headers={"X-User-ID": "ann"})
    found = [
        await house.client.request(method, f"/v1/files/{file.id}{tail}", headers={"X-User-ID": "ann"})
        for method, tail in (("GET", ""), ("GET", "/content"), ("DELETE", ""))
    ]

    assert [] == listed.json()["data"]
    assert [404] * 3 == [each.status_code for each in found]


async def test_a_long_text_is_kept_and_compared_by_its_own_hash(house: House) -> None:
    """A repeated key finds the same request, and another body is refused, though the record has none of it."""
    key = {"Idempotency-Key": str(uuid4())}
    body = {"model": "looks", "messages": [{"role": "user", "content": LONG}]}

    first = await house.client.post("/v1/messages", json=body, headers=key)
    again = await house.client.post("/v1/messages", json=body, headers=key)
    body["messages"] = [{"role": "user", "content": f"{LONG}."}]
    other = await house.client.post("/v1/messages", json=body, headers=key)

    assert "context_too_long" == first.json()["code"]
    assert first.json()["request_id"] == again.json()["request_id"]
    assert (422, "idempotency_key_reused") == (other.status_code, other.json()["code"])


async def test_a_task_with_a_large_body(house: House) -> None:
    """Its prompt is shown while it is kept, and a retry sends the whole of it again."""
    history = [{"role": "user", "content": [image()]}, {"role": "assistant", "content": "Seen."}]
    task = {"task_type": "analyst", "model": "looks", "prompt": LONG, "history": history}
    made = (await house.client.post("/v1/tasks", json=task)).json()

    async def failed() -> Any:
        found = (await house.client.get(f"/v1/tasks/{made['id']}")).json()
        return found if found["status"] == "failed" else None

    shown = await eventually(failed, seconds=30)
    assert shown
    retried = (await house.client.post(f"/v1/tasks/{made['id']}/retry")).json()

    assert (LONG, 2) == (shown["prompt"], len(shown["history"]))
    again = (await house.client.get(f"/v1/tasks/{retried['id']}")).json()
    assert (made["id"], LONG) == (retried["retry_of"], again["prompt"])
    ids = [UUID(made["id"]), UUID(retried["id"])]
    kept = await rows(house, "SELECT bytes FROM files WHERE request_id = ANY(:ids)", ids=ids)
    assert 2 == len(kept)
    assert kept[0].bytes == pytest.approx(kept[1].bytes, abs=200)


async def test_an_unsigned_record_cannot_name_a_body(house: House) -> None:
    """It becomes a dead letter with the reason, and a request with this id has failed."""
    (file,) = await rows(house, "SELECT id FROM files WHERE request_id IS NOT NULL AND owner = '' LIMIT 1")
    ref = {"file_id": f"{file.id}x0x10", "sha256": "0" * 64, "bytes": 16, "body_hash": "0" * 64}
    id = uuid4()
    value = json.dumps({"model": "looks", "body_ref": ref}).encode()
    await house.producer.send_and_wait(REQUESTS.name, value, key=id.bytes, headers=[("ce_id", str(id).encode())])

    ended = await house.ended(id)

    assert ("failed", "unsigned") == (ended["status"], ended["error"]["code"])


async def test_the_home_away_and_back(house: House) -> None:
    """A new large body is refused and leaves nothing; one that was accepted waits, and is answered exactly once."""
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    calls, away = len(house.llm.calls), house.folder.with_name("away")
    waiting = (await house.post(TEXT, image(), wait=False, not_before=soon)).json()["id"]
    kept = await rows(house, "SELECT id FROM files ORDER BY id")
    house.folder.rename(away)
    try:
        refused = await house.post(TEXT, image(), wait=False)
        left = await rows(house, "SELECT id FROM files ORDER BY id")
        error = await house.waits_for(waiting)
        other = await house.post(TEXT)
    finally:
        away.rename(house.folder)
    ended = await house.ended(waiting)

    assert (503, "unavailable") == (refused.status_code, refused.json()["code"])
    assert kept == left
    assert ("unavailable", "files are unavailable") == (error["code"], error["detail"])
    assert ("1 parts", "completed") == (other.json()["reply"], ended["status"])
    assert calls + 2 == len(house.llm.calls)


async def test_what_is_deleted_takes_its_body_along(house: House) -> None:
    """After the conversation is deleted the next sweep removes the blob; another request keeps its own."""
    conversation = str(uuid4())
    gone = (await house.post(TEXT, image(), conversation_id=conversation)).json()["request_id"]
    kept = (await house.post(TEXT, image())).json()["request_id"]
    await house.client.delete(f"/v1/conversations/{conversation}")

    async def marked() -> bool:
        found = await rows(house, "SELECT deleted_at FROM files WHERE request_id = :id", id=UUID(gone))
        return not found or found[0].deleted_at is not None

    await eventually(marked, seconds=30)
    home = Folder(house.folder)
    await FileSweep(house.database, home, [b"s" * 32], 0.0).remove_gone()

    assert [] == await rows(house, "SELECT id FROM files WHERE request_id = :id", id=UUID(gone))
    (row,) = await rows(house, "SELECT blob FROM files WHERE request_id = :id", id=UUID(kept))
    assert row.blob in await keys_of(home)


async def test_urls_of_media_are_passed_on(house: House) -> None:
    """Where they are allowed, over HTTP and over Kafka, unchanged, in this turn and in the next."""
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png?x=1", "detail": "low"}}
    conversation = str(uuid4())

    await house.post(TEXT, part, conversation_id=conversation)
    await house.ended(await house.produce(part, conversation_id=conversation))

    assert [[TEXT, part], "2 parts", [part]] == house.seen()


async def test_openais_api_takes_large_bodies(house: House) -> None:
    """The model gets what was sent by either of its APIs, and a stored response can show its input and be continued."""
    sent = image()
    chat = {"model": "looks", "messages": [{"role": "user", "content": [TEXT, sent]}]}
    url = sent["image_url"]["url"]
    content = [{"type": "input_text", "text": TEXT["text"]}, {"type": "input_image", "image_url": url, "detail": "low"}]

    completed = await house.client.post("/openai/v1/chat/completions", json=chat)
    of_chat = house.seen()
    body = {"model": "looks", "input": [{"role": "user", "content": content}]}
    first = (await house.client.post("/openai/v1/responses", json=body)).json()
    of_response = house.seen()
    items = await house.client.get(f"/openai/v1/responses/{first['id']}/input_items")
    more = {"model": "looks", "input": "And now?", "previous_response_id": first["id"]}
    second = await house.client.post("/openai/v1/responses", json=more)

    assert (200, 200, 200) == (completed.status_code, items.status_code, second.status_code)
    assert [[TEXT, sent]] == of_chat == of_response
    assert TEXT["text"] == items.json()["data"][0]["content"][0]["text"]
    assert [[TEXT, sent], "2 parts", "And now?"] == house.seen()


async def test_a_large_body_is_retried_whole(house: House) -> None:
    """By either route a retry has a copy of the body, which the model gets in full."""
    sent, later = [TEXT, image(), document()], (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    old = (await house.post(*sent, wait=False, not_before=later)).json()["id"]
    path = f"/v1/requests/{old}"

    async def cancelled() -> bool:
        await house.client.post(f"{path}/cancel")
        return bool((await house.client.get(path)).json()["status"] == "cancelled")

    await eventually(cancelled)
    counted = await house.client.post("/v1/requests/retry", json={"ids": [old], "dry_run": True})
    assert 1 == counted.json()["done"]
    done = (await house.client.post("/v1/requests/retry", json={"ids": [old]})).json()
    assert (1, []) == (done["done"], done["skipped"])
    await eventually(lambda: house.llm.calls)  # A repeat before a worker has read the first keeps a copy, too.
    again = await house.client.post(f"{path}/retry")
    assert 202 == again.status_code, again.text
    new = again.json()["id"]

    assert "3 parts" == (await house.ended(new))["reply"]
    assert [sent] == house.seen()
    copies = await rows(house, "SELECT id FROM files WHERE request_id = ANY(:ids)", ids=[UUID(old), UUID(new)])
    assert 2 == len(copies)

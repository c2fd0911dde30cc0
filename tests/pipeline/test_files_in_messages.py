"""Messages that name uploaded files, over HTTP and over Kafka, with a scripted LLM service that shows what arrives."""

import base64
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.file_house import TEXT, House, open_house
from tests.support.stack import Stack
from workers.media import GONE

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 20


@pytest.fixture(scope="module")
async def house(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(stack, tmp_path_factory.mktemp("home") / "files") as opened:
        yield opened


def image(id: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"file_id": id, "detail": "low"}}


def document(id: str) -> dict[str, Any]:
    return {"type": "file", "file": {"file_id": id}}


def sent(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


SHOWN = {"type": "image_url", "image_url": {"url": sent(PNG, "image/png"), "detail": "low"}}
READ = {"type": "file", "file": {"file_data": sent(PDF, "application/pdf"), "filename": "report.pdf"}}


async def test_a_conversation_about_an_image_and_a_document(house: House) -> None:
    """The model gets the bytes in each turn, over HTTP and over Kafka; the history keeps ids alone."""
    png, pdf = await house.upload(PNG, "a.png"), await house.upload(PDF, "report.pdf")
    conversation = str(uuid4())

    first = (await house.post(TEXT, image(png), document(pdf), conversation_id=conversation)).json()
    of_first = house.seen()
    second = await house.ended(await house.produce(TEXT, document(pdf), conversation_id=conversation))
    of_second = house.seen()

    assert ("3 parts", "2 parts") == (first["reply"], second["reply"])
    assert [[TEXT, SHOWN, READ]] == of_first
    assert [[TEXT, SHOWN, READ], "3 parts", [TEXT, READ]] == of_second
    stored = (await house.client.get(f"/v1/conversations/{conversation}/messages")).json()["data"]
    assert [[TEXT, image(png), document(pdf)], [TEXT, document(pdf)]] == [each["parts"] for each in stored[::2]]
    rows = await house.database.run("SELECT weight FROM messages WHERE parts IS NOT NULL AND role = 'user' ORDER BY id")
    text, of_pdf = len(TEXT["text"]), -(-len(PDF) // 10)
    assert [text + 3000 + of_pdf, text + of_pdf] == [row.weight for row in rows]


async def test_nobody_elses_file_can_be_named(house: House) -> None:
    """Another user's file is unknown to users, to the tenant, and to a record that no gateway has signed."""
    anns, tenants = await house.upload(PNG, "a.png", "ann"), await house.upload(PNG, "a.png")
    before = len(house.llm.calls)

    refused = [
        await house.post(image(anns), user="bob"),
        await house.post(image(anns)),
        await house.post(image(tenants), user="ann"),
    ]
    record = await house.ended(await house.produce(image(anns)))

    assert {(404, "file_not_found")} == {(each.status_code, each.json()["code"]) for each in refused}
    assert ("failed", "file_not_found") == (record["status"], record["error"]["code"])
    assert before == len(house.llm.calls)
    assert "1 parts" == (await house.post(image(anns), user="ann")).json()["reply"]


async def test_a_file_that_is_deleted_between_turns(house: House) -> None:
    """The conversation goes on, and the model reads that the file is gone; naming it again fails by its place."""
    png, conversation = await house.upload(PNG, "a.png"), str(uuid4())
    await house.post(TEXT, image(png), conversation_id=conversation)
    await house.client.delete(f"/v1/files/{png}")

    again = await house.post(image(png), conversation_id=conversation)
    went_on = await house.post(TEXT, conversation_id=conversation)

    place = "messages.0.content.0.image_url.file_id"
    assert (404, True) == (again.status_code, again.json()["detail"].startswith(place))
    assert "1 parts" == went_on.json()["reply"]
    assert [[TEXT, {"type": "text", "text": GONE}], "2 parts", [TEXT]] == house.seen()


async def test_files_away_and_back(house: House) -> None:
    """The request waits and says why, others of its model are answered, and then it is, exactly once."""
    png = await house.upload(PNG, "a.png")
    away, before = house.folder.with_name("away"), len(house.llm.calls)
    house.folder.rename(away)
    try:
        waiting = (await house.post(image(png), wait=False)).json()["id"]
        error = await house.waits_for(waiting)
        other = await house.post(TEXT)
    finally:
        away.rename(house.folder)
    answered = await house.ended(waiting)

    assert ("unavailable", "files are unavailable") == (error["code"], error["detail"])
    assert ("1 parts", "completed") == (other.json()["reply"], answered["status"])
    assert before + 2 == len(house.llm.calls)
    rows = await house.database.run(
        "SELECT count(*) AS count FROM messages WHERE request_id = :id AND role = 'assistant'", id=UUID(waiting)
    )
    assert 1 == rows[0].count

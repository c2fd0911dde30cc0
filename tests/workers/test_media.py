"""Promises of workers/media.py: files of a prompt become data, within bounds, and only those of its own owner."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from orchestra.files.home import BlobMissingError, FilesUnavailableError
from orchestra.store import files
from orchestra.store.claims import Owner
from orchestra.store.files import StoredFile
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import MAX_BODY_BYTES, ChatMessage, GenerateRequest, ModelInfo
from workers.media import GONE, LEFT_OUT, URL_SECONDS, FilesAwayError, Media, Room

OWNER = ("default", "ann")
MODEL = ModelInfo(name="m", provider="p", context_tokens=100, max_output_tokens=10, max_inline_bytes=100)
MIB = 1024 * 1024


class Home:
    """A fake home of files: blobs by key, in chunks that are no multiple of three bytes."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.away = False
        self.read = 0
        self.urls = False

    async def get(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes of a blob."""
        self.read += 1
        if self.away:
            raise FilesUnavailableError("gone fishing")
        if key not in self.blobs:
            raise BlobMissingError
        data, step = self.blobs[key][start:stop], 1000
        for at in range(0, len(data), step):
            await asyncio.sleep(0)
            yield data[at : at + step]

    async def presigned_url(self, key: str, seconds: int) -> str | None:
        """A URL, if it has any."""
        return f"https://bucket/{key}?for={seconds}" if self.urls else None


class Kept:
    """Files of owners, and media over them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = Home()
        self.rows: dict[tuple[Owner, str], StoredFile] = {}
        monkeypatch.setattr(files, "named", self._named)
        self.media = self.made()

    def made(self, *, home: bool = True, **more: Any) -> Media:
        """Media over these files."""
        nothing: Any = None
        anything: Any = self.home
        return Media(nothing, anything if home else None, **more)

    def add(self, data: bytes, media_type: str, name: str = "a", owner: Owner = OWNER) -> str:
        """A new file; its id."""
        id = f"file-{len(self.rows):032x}"
        self.home.blobs[id] = data
        now = datetime.now(UTC)
        row = StoredFile(owner[0], id, owner[1], "vision", name, media_type, len(data), "", id, now, now)
        self.rows[owner, id] = row
        return id

    def add_part(self, data: bytes, behind: bytes = b"") -> str:
        """A part of the body of a request, with something before it and behind it; its id."""
        id = self.add(b"before" + data + behind, "application/octet-stream")
        self.rows[OWNER, id] = replace(self.rows[OWNER, id], request_id=uuid4(), start=6, bytes=len(data))
        return id

    async def filled(
        self,
        current: list[ChatMessage],
        history: Sequence[ChatMessage] = (),
        model: ModelInfo | None = None,
        media: Media | None = None,
    ) -> list[Any]:
        """The contents that the model gets."""
        media = media or self.media
        found, held = await media.find(OWNER, current, model), media.hold()
        ask = GenerateRequest(messages=[*history, *current])
        filled = await media.fill(ask, held, OWNER, model, found, history)
        held.release()
        return [each.content for each in filled.messages]

    async def _named(self, _database: object, owner: Owner, ids: Sequence[str]) -> dict[str, StoredFile]:
        return {id: self.rows[owner, id] for id in ids if (owner, id) in self.rows}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(monkeypatch)


def image(id: str, **more: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"file_id": id, **more}}


def document(id: str) -> dict[str, Any]:
    return {"type": "file", "file": {"file_id": id}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def user(*parts: dict[str, Any]) -> ChatMessage:
    return ChatMessage(role="user", content=list(parts))


def url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 999, 1000, 1001, 4096])
async def test_an_image_becomes_a_data_url(kept: Kept, size: int) -> None:
    """Its bytes arrive whole at any length, with the type that was found and the detail that was asked for."""
    data = bytes(number % 256 for number in range(size))
    id = kept.add(data, "image/png")

    ((said, shown),) = await kept.filled([user(text("What is it?"), image(id, detail="low"))])

    assert text("What is it?") == said
    assert {"type": "image_url", "image_url": {"url": url("image/png", data), "detail": "low"}} == shown


async def test_a_document_keeps_its_name_and_a_text_is_one(kept: Kept) -> None:
    """A PDF is sent as a file, a text as a text with its name in front."""
    pdf, note = kept.add(b"%PDF-1.7", "application/pdf", "a.pdf"), kept.add(b"1\0\xff", "text/plain; charset=utf-8")

    ((first, second),) = await kept.filled([user(document(pdf), document(note))])

    assert {"file_data": url("application/pdf", b"%PDF-1.7"), "filename": "a.pdf"} == first["file"]
    assert text("a:\n\n1\ufffd\ufffd") == second


async def test_the_messages_themselves_stay_as_they_came(kept: Kept) -> None:
    """What is stored later names the file: the data are put into a copy."""
    asked = user(image(id := kept.add(b"x", "image/png")))

    await kept.filled([asked])

    assert [image(id)] == asked.content


async def refusal(kept: Kept, *parts: dict[str, Any], model: ModelInfo | None = None, **more: Any) -> tuple[str, str]:
    """Why a request is refused."""
    with pytest.raises(OrchestraError) as caught:
        await kept.filled([user(*parts)], model=model, **more)
    return caught.value.code, caught.value.detail


async def test_files_that_cannot_be_used_are_refused_by_their_place(kept: Kept) -> None:
    """Another owner's file is as unknown as none; a document is no image; a file may be too large for the model."""
    place, unknown = "messages.0.content.1", "the owner of the request has no file with this id"
    theirs = [kept.add(b"x", "image/png", owner=owner) for owner in (("default", ""), ("default", "bob"), ("t", "ann"))]
    pdf, large = kept.add(b"x", "application/pdf"), kept.add(bytes(101), "image/png")

    for id in (*theirs, f"file-{9:032x}"):
        told = await refusal(kept, text("a"), image(id))
        assert (ErrorCode.FILE_NOT_FOUND, f"{place}.image_url.file_id: {unknown}") == told
    assert (ErrorCode.UNSUPPORTED_PART, f"{place}.image_url.file_id: the file is not an image") == await refusal(
        kept, text("a"), image(pdf)
    )
    code, detail = await refusal(kept, text("a"), document(large), model=MODEL)
    assert (ErrorCode.FILE_TOO_LARGE, True) == (code, detail.startswith(f"{place}.file.file_id: exceeds the limit"))
    assert 0 == kept.home.read


async def test_where_no_files_are_kept_the_part_is_not_supported(kept: Kept) -> None:
    """The error names the part, and says what can be done."""
    told = await refusal(kept, image(kept.add(b"x", "image/png")), media=kept.made(home=False))

    place = "messages.0.content.0.image_url.file_id"
    assert (ErrorCode.UNSUPPORTED_PART, f"{place}: files are not kept here; send the data") == told


async def test_files_that_do_not_fit_together_are_refused_unread(kept: Kept) -> None:
    """Each place counts, also where one file is named twice."""
    id = kept.add(bytes(13 * MIB), "image/png")

    assert (ErrorCode.FILE_TOO_LARGE, 0) == ((await refusal(kept, image(id), image(id)))[0], kept.home.read)


async def test_a_text_that_is_longer_as_json_is_refused(kept: Kept) -> None:
    """A text of characters that JSON escapes fits its file's bound, but not the body's."""
    id = kept.add(b"\x1b" * (6 * MIB), "text/plain")

    assert ErrorCode.FILE_TOO_LARGE == (await refusal(kept, document(id)))[0]


async def test_a_file_of_the_history_that_is_gone_is_a_text(kept: Kept) -> None:
    """Deleted, another owner's, without its bytes, or where no files are kept any more: the conversation goes on."""
    there, lost = kept.add(b"x", "image/png"), kept.add(b"y", "image/png")
    del kept.home.blobs[lost]
    theirs = kept.add(b"z", "image/png", owner=("default", "bob"))
    history = [user(image(there), image(lost), document(theirs), document(f"file-{9:032x}"))]

    (before, now) = await kept.filled([user(text("go on"))], history)
    (without, _) = await kept.filled([user(text("go on"))], history, media=kept.made(home=False))

    assert [{"type": "image_url", "image_url": {"url": url("image/png", b"x")}}, *[text(GONE)] * 3] == before
    assert [text(GONE)] * 4 == without
    assert [text("go on")] == now


async def test_the_request_comes_before_its_history(kept: Kept) -> None:
    """What does not fit beside it is left out of the history, oldest first, and so is what the model does not take."""
    large, newer, older = [kept.add(bytes(size), "image/png") for size in (19 * MIB, 3 * MIB, 3 * MIB)]
    history = [user(image(older)), user(image(newer))]

    contents = await kept.filled([user(image(large))], history)
    (small, _) = await kept.filled([user(text("go on"))], [user(image(newer))], MODEL)

    assert [True, False, False] == [text(LEFT_OUT) in each for each in contents]
    assert [text(LEFT_OUT)] == small
    assert sum(len(str(each)) for each in contents) < MAX_BODY_BYTES


async def test_a_file_whose_bytes_are_gone_is_not_found(kept: Kept) -> None:
    """A file that is removed between two looks fails its request by name."""
    id = kept.add(b"x", "image/png")
    del kept.home.blobs[id]

    assert ErrorCode.FILE_NOT_FOUND == (await refusal(kept, image(id)))[0]


async def test_a_home_that_is_away_is_told_once(kept: Kept) -> None:
    """The error is one that may pass, the log has one line for the outage and one for its end."""
    asked = [user(image(kept.add(b"x", "image/png")))]
    kept.home.away = True
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(FilesAwayError, match="files are unavailable"):
                await kept.filled(asked)
        kept.home.away = False
        await kept.filled(asked)

    assert ["files_unavailable", "files_available"] == [each["event"] for each in lines]


async def test_a_file_is_read_once_for_a_prompt(kept: Kept) -> None:
    """However often a prompt names it in the same way."""
    id = kept.add(b"x", "image/png")

    await kept.filled([user(image(id), image(id, detail="low"))], [user(image(id))])

    assert 1 == kept.home.read


async def test_prompts_wait_for_room(kept: Kept) -> None:
    """What all prompts hold together is bounded; the next one is filled when another lets go, and none fails."""
    media, asked = kept.made(max_held_bytes=1000), [user(image(kept.add(bytes(600), "image/png")))]
    found, ask = await media.find(OWNER, asked, None), GenerateRequest(messages=asked)
    first, second = media.hold(), media.hold()

    await media.fill(ask, first, OWNER, None, found, ())
    waiting = asyncio.ensure_future(media.fill(ask, second, OWNER, None, found, ()))
    await asyncio.sleep(0)
    read = kept.home.read
    first.release()
    first.release()

    assert (await waiting).messages
    assert (1, 2) == (read, kept.home.read)


async def test_room_is_given_in_turn() -> None:
    """A large wish is not passed by small ones that come later, and one that is given up takes nothing."""
    room, got = Room(10), []

    async def take(name: str, size: int) -> None:
        await room.take(size)
        got.append(name)

    await room.take(8)
    tasks = [asyncio.create_task(take(name, size)) for name, size in (("left", 9), ("large", 10), ("small", 1))]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    assert [] == got
    room.give(8)
    await tasks[1]
    assert ["large"] == got
    room.give(10)
    await tasks[2]
    room.give(1)
    await room.take(10)


async def test_room_that_comes_with_a_cancellation_is_not_lost() -> None:
    """A wish that is granted and given up at the same moment leaves its room to others."""
    room = Room(10)
    await room.take(10)
    waiting = asyncio.create_task(room.take(5))
    await asyncio.sleep(0)
    room.give(10)
    waiting.cancel()
    await asyncio.wait([waiting])

    async with asyncio.timeout(5):
        await room.take(10)


async def test_room_that_is_given_while_those_who_wait_are_cancelled_is_not_lost() -> None:
    """A wish that is given up takes nothing, also of what is given back before its task has noticed the cancel."""
    room = Room(10)
    await room.take(10)
    given_up = [asyncio.create_task(room.take(size)) for size in (4, 10)]
    stays = asyncio.create_task(room.take(10))
    await asyncio.sleep(0)
    for each in given_up:
        each.cancel()
    room.give(10)

    async with asyncio.timeout(5):
        await stays
        await asyncio.wait(given_up)
        room.give(10)
        await room.take(10)
    assert [True, True] == [each.cancelled() for each in given_up]


async def test_media_of_a_body_come_back_as_they_were(kept: Kept) -> None:
    """Each part has the text that was sent, whatever it is and however long the model's files may be."""
    long = "data:image/png;x=1;base64," + "A" * 5000
    shown, named = kept.add_part(long.encode(), b"behind"), kept.add_part(b"data:text/plain,hi")
    heard = kept.add_part(b"not base64")
    audio = {"type": "input_audio", "input_audio": {"file_id": heard, "format": "wav"}}
    document = {"type": "file", "file": {"file_id": named, "filename": "b.txt"}}

    (parts,) = await kept.filled([user(image(shown, detail="low"), document, audio)], model=MODEL)

    assert [
        {"type": "image_url", "image_url": {"url": long, "detail": "low"}},
        {"type": "file", "file": {"file_data": "data:text/plain,hi", "filename": "b.txt"}},
        {"type": "input_audio", "input_audio": {"data": "not base64", "format": "wav"}},
    ] == parts


async def test_a_part_of_a_body_is_never_a_url(kept: Kept) -> None:
    """Ids of parts can be made up: what is not data is not found, and in the history it is gone."""
    forged = kept.add_part(b"http://127.0.0.1/secret")

    with pytest.raises(OrchestraError) as refused:
        await kept.filled([user(image(forged))])
    history = await kept.filled([user(text("hi"))], [user(image(forged))])

    assert ErrorCode.FILE_NOT_FOUND == refused.value.code
    assert [[text(GONE)], [text("hi")]] == history


async def test_a_recording_is_sent_as_base64(kept: Kept) -> None:
    """An uploaded recording has the format that was said; what is no recording is refused."""
    wav, png = kept.add(b"RIFF", "audio/x-wav"), kept.add(b"x", "image/png")

    ((part,),) = await kept.filled([user({"type": "input_audio", "input_audio": {"file_id": wav, "format": "wav"}})])
    with pytest.raises(OrchestraError) as refused:
        await kept.filled([user({"type": "input_audio", "input_audio": {"file_id": png, "format": "wav"}})])

    assert {"data": "UklGRg==", "format": "wav"} == part["input_audio"]
    assert "messages.0.content.0.input_audio.file_id: the file is not a recording" == refused.value.detail


TAKES_URLS = MODEL.model_copy(update={"media_urls": ["image_url", "file"]})


async def test_a_file_that_is_too_large_goes_by_its_url(kept: Kept) -> None:
    """If the model takes URLs and the home has them; otherwise, and for a text, it is too large."""
    png, pdf, note = (
        kept.add(bytes(101), kind) for kind in ("image/png", "application/pdf", "text/plain; charset=utf-8")
    )
    kept.home.urls = True

    (parts,) = await kept.filled([user(image(png, detail="low"), document(pdf))], model=TAKES_URLS)

    assert {"url": f"https://bucket/{png}?for={URL_SECONDS}", "detail": "low"} == parts[0]["image_url"]
    assert {"file_data": f"https://bucket/{pdf}?for={URL_SECONDS}", "filename": "a"} == parts[1]["file"]
    assert 0 == kept.home.read
    for asked, model, urls in (
        (image(png), MODEL, True),
        (document(note), TAKES_URLS, True),
        (image(png), TAKES_URLS, False),
    ):
        kept.home.urls = urls
        with pytest.raises(OrchestraError) as refused:
            await kept.filled([user(asked)], model=model)
        assert ErrorCode.FILE_TOO_LARGE == refused.value.code


def ref_of(id: str, data: bytes, **changes: Any) -> dict[str, Any]:
    ref = {"file_id": id, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "body_hash": "0" * 64}
    return {"body_ref": {**ref, **changes}}


async def test_a_large_body_is_read_whole(kept: Kept) -> None:
    """It is counted until its turn ends, and another that does not fit waits."""
    id = kept.add_part(data := b'{"messages": []}', b"behind")
    held = kept.media.hold_body()

    assert {"messages": []} == await kept.media.body(OWNER, ref_of(id, data), held)

    held.release()
    kept.home.away = True
    with pytest.raises(FilesAwayError):
        await kept.media.body(OWNER, ref_of(id, data), kept.media.hold_body())


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"bytes": 15}, {"file_id": f"file-{9:032x}"}], ids=str)
async def test_a_body_that_is_not_the_one_that_was_accepted(kept: Kept, wrong: dict[str, Any]) -> None:
    """Another length, another hash, or none at all: nothing of it is run."""
    id = kept.add_part(data := b'{"messages": []}')

    with pytest.raises(OrchestraError) as refused:
        await kept.media.body(OWNER, ref_of(id, data, **wrong), kept.media.hold_body())

    assert ErrorCode.FILE_NOT_FOUND == refused.value.code

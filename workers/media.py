"""④ Puts the bytes of files in the place of their ids, before a prompt is sent to the model."""

import asyncio
from base64 import b64encode
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import TypeAdapter

from orchestra.files.home import BlobMissingError, FileHome, FilesUnavailableError
from orchestra.store import files
from orchestra.store.claims import Owner
from orchestra.store.database import Database
from orchestra.store.files import StoredFile
from orchestra.store.patience import until_available
from schemas.content import file_id_of, file_ids_in
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import MAX_BODY_BYTES, MAX_INLINE_BYTES, ChatMessage, GenerateRequest, ModelInfo
from workers.timings import TIMINGS, Timings
from workers.weights import is_text

# Of all prompts of a worker together, as base64, from the first byte read to the first piece of the answer.
MAX_HELD_BYTES = 256 * 1024 * 1024
# What a part has beside its data: the file's name, its type, punctuation.
_PART_BYTES = 2048
GONE = "The file that was here is no longer available."
LEFT_OUT = "The file that was here is too large to be sent again."
_BODY = TypeAdapter(GenerateRequest).serializer

log = structlog.get_logger()
Files = Mapping[str, StoredFile]


class FilesAwayError(OrchestraError):
    """The home of files does not work now. Unlike other errors of this code it says nothing about the model."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.UNAVAILABLE, "files are unavailable")


class Room:
    """Bytes that may be held, given out in the order in which they were asked for."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait for this many bytes, which must not be more than there are in all."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove((size, turn))
                self._pass_on()
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give bytes back."""
        self._free += size
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            self._free -= size
            turn.set_result(None)


class Held:
    """The bytes that one prompt holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    async def take(self, size: int) -> None:
        """Wait for room for this many bytes."""
        await self._room.take(size)
        self._size += size

    def release(self) -> None:
        """Give back what is held. It may be called again."""
        size, self._size = self._size, 0
        if size:
            self._room.give(size)


@dataclass(frozen=True)
class _Place:
    """A part that names a file, by its id. ``current``: it is of the request itself, not of the history."""

    part: Mapping[str, Any]
    id: str
    current: bool

    @property
    def form(self) -> tuple[str, str]:
        """What the file's data depend on."""
        return self.id, self.part["type"]

    def takes(self, file: StoredFile) -> bool:
        """Whether a file of this type can be here."""
        return self.part["type"] != "image_url" or file.media_type.startswith("image/")


class Media:
    """Finds files and reads them. ``home`` None: no files are kept."""

    def __init__(
        self,
        database: Database,
        home: FileHome | None,
        timings: Timings = TIMINGS,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self._database = database
        self._home = home
        self._timings = timings
        self._room = Room(max_held_bytes)
        self._away = False

    def hold(self) -> Held:
        """What the files of a prompt are counted in."""
        return Held(self._room)

    async def find(self, owner: Owner, messages: Sequence[ChatMessage], model: ModelInfo | None) -> Files:
        """The files that the messages of a request name, by id. Only those of the request's own owner count.

        Raises ``OrchestraError`` with the place of the part: ``FILE_NOT_FOUND``, ``FILE_TOO_LARGE``, or
        ``UNSUPPORTED_PART`` for an image that is not one, and for all if no files are kept here.
        """
        found = await self._named(owner, messages)
        for where, place in _places(messages, range(len(messages))):
            file = found.get(place.id)
            if self._home is None:
                raise OrchestraError(ErrorCode.UNSUPPORTED_PART, f"{where}: files are not kept here; send the data")
            if file is None:
                raise _not_found(where)
            if not place.takes(file):
                raise OrchestraError(ErrorCode.UNSUPPORTED_PART, f"{where}: the file is not an image")
            if file.bytes > _limit(model):
                detail = f"{where}: exceeds the limit of {_limit(model)} bytes of this model"
                raise OrchestraError(ErrorCode.FILE_TOO_LARGE, detail)
        return found

    async def fill(
        self,
        ask: GenerateRequest,
        held: Held,
        owner: Owner,
        model: ModelInfo | None,
        found: Files,
        history: Sequence[ChatMessage],
    ) -> GenerateRequest:
        """The request with data in the place of ids. ``found``: the files of all messages but those of ``history``.

        A file of the history that is gone or does not fit becomes a text that says so. Waits while other prompts hold
        too much.
        Raises ``OrchestraError``: ``FILE_TOO_LARGE``, ``FILE_NOT_FOUND``, or ``FilesAwayError``.
        """
        earlier = set(map(id, history))
        current = [number for number, message in enumerate(ask.messages) if id(message) not in earlier]
        places = [place for _, place in _places(ask.messages, current)]
        known = {**(await self._named(owner, history)), **found}
        room = MAX_BODY_BYTES - _bytes_of(ask)
        chosen = _chosen(places, known, _limit(model), room)
        await held.take(sum(_encoded(known[place.id].bytes) for place in chosen))
        data: dict[tuple[str, str], dict[str, Any]] = {}
        for place in chosen:
            if place.form not in data:
                data[place.form] = await self._read(known[place.id], place)
        parts = {id(place.part): _note(LEFT_OUT if place.id in known else GONE) for place in places}
        parts |= {id(place.part): _detailed(data[place.form], place.part) for place in chosen}
        filled = ask.model_copy(update={"messages": [_with(message, parts) for message in ask.messages]})
        # A text may need more bytes in JSON than in its file.
        if any(part["type"] == "text" for part in data.values()) and _bytes_of(filled) > MAX_BODY_BYTES:
            raise _too_large_together()
        return filled

    async def _named(self, owner: Owner, messages: Sequence[ChatMessage]) -> Files:
        ids = list(dict.fromkeys(file_ids_in(messages)))
        if not ids or self._home is None:
            return {}
        return await until_available(
            lambda: files.named(self._database, owner, ids), "files_not_found", pause=self._timings.retry_database
        )

    async def _read(self, file: StoredFile, place: _Place) -> dict[str, Any]:
        """The part with the file's data."""
        assert self._home
        try:
            part = await _part(self._home, file, place.part["type"])
        except BlobMissingError:
            if place.current:
                raise _not_found("messages") from None
            return _note(GONE)
        except FilesUnavailableError as error:
            if not self._away:
                log.warning("files_unavailable", reason=str(error))
            self._away = True
            raise FilesAwayError from None
        if self._away:
            log.info("files_available")
        self._away = False
        return part


def _places(messages: Sequence[ChatMessage], current: Collection[int]) -> Iterator[tuple[str, _Place]]:
    """The parts that name files, each with where it is. ``current``: numbers of the messages of the request itself."""
    for number, message in enumerate(messages):
        for at, part in enumerate(message.parts):
            if file := file_id_of(part):
                where = f"messages.{number}.content.{at}.{part['type']}.file_id"
                yield where, _Place(part, file, number in current)


def _chosen(places: Sequence[_Place], known: Files, limit: int, room: int) -> list[_Place]:
    """Where files are sent: all places of the request, then those of the history, newest first, while there is room.

    Raises ``FILE_TOO_LARGE`` if the request's own do not fit.
    """
    chosen = []
    own, history = ([place for place in places if place.current is current] for current in (True, False))
    for place in (*own, *reversed(history)):
        file = known.get(place.id)
        if file is None or not place.takes(file) or file.bytes > limit:
            continue
        size = _encoded(file.bytes) + _PART_BYTES
        if size <= room:
            room -= size
            chosen.append(place)
        elif place.current:
            raise _too_large_together()
    return chosen


async def _part(home: FileHome, file: StoredFile, kind: str) -> dict[str, Any]:
    if kind == "image_url":
        return {"type": kind, "image_url": {"url": await _data_url(home, file)}}
    if is_text(file):
        text = b"".join([chunk async for chunk in home.get(file.blob, 0, file.bytes)]).decode("utf-8", "replace")
        return {"type": "text", "text": f"{file.filename}:\n\n{text}".replace("\0", "\ufffd")}
    return {"type": kind, "file": {"file_data": await _data_url(home, file), "filename": file.filename}}


async def _data_url(home: FileHome, file: StoredFile) -> str:
    # One buffer that grows: many pieces would leave gaps in the process's memory.
    url, rest = bytearray(f"data:{file.media_type};base64,".encode()), b""
    async for chunk in home.get(file.blob, 0, file.bytes):
        joined = rest + chunk
        whole = len(joined) - len(joined) % 3
        rest = joined[whole:]
        url += b64encode(memoryview(joined)[:whole])
    url += b64encode(rest)
    return url.decode("ascii")


def _with(message: ChatMessage, parts: Mapping[int, dict[str, Any]]) -> ChatMessage:
    """The message with these parts in the place of those that name files."""
    if not any(id(part) in parts for part in message.parts):
        return message
    return message.model_copy(update={"content": [parts.get(id(part), part) for part in message.parts]})


def _detailed(data: dict[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """The part with data, looked at as closely as the one that names the file says."""
    if data["type"] != "image_url" or "detail" not in part["image_url"]:
        return data
    return {**data, "image_url": {**data["image_url"], "detail": part["image_url"]["detail"]}}


def _not_found(place: str) -> OrchestraError:
    return OrchestraError(ErrorCode.FILE_NOT_FOUND, f"{place}: the owner of the request has no file with this id")


def _too_large_together() -> OrchestraError:
    detail = "messages: the files are too large together with the rest of the prompt"
    return OrchestraError(ErrorCode.FILE_TOO_LARGE, detail)


def _bytes_of(ask: GenerateRequest) -> int:
    return len(_BODY.to_json(ask, exclude_none=True))


def _limit(model: ModelInfo | None) -> int:
    return model.max_inline_bytes if model and model.max_inline_bytes else MAX_INLINE_BYTES


def _note(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _encoded(size: int) -> int:
    return (size + 2) // 3 * 4

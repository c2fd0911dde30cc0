"""④ Puts the bytes of files in the place of their ids, before a prompt is sent to the model. Reads large bodies."""

import asyncio
import hashlib
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from pydantic import TypeAdapter

from orchestra.files.home import BlobMissingError, FileHome, FilesUnavailableError
from orchestra.store import files
from orchestra.store.claims import Owner
from orchestra.store.database import Database
from orchestra.store.files import StoredFile
from orchestra.store.patience import until_available
from schemas.content import DATA_FIELDS, file_id_of, file_ids_in
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import MAX_BODY_BYTES, MAX_INLINE_BYTES, ChatMessage, GenerateRequest, ModelInfo
from schemas.requests import BodyRef
from workers.timings import TIMINGS, Timings
from workers.weights import is_text

# Limit for the files in all prompts of a worker together, as base64. A prompt's files count from the first byte read to
# the first piece of the answer.
MAX_HELD_BYTES = 256 * 1024 * 1024
# Limit for all large bodies of a worker together, until their turns end. Files have a separate room: a turn that holds
# its body waits for room for files, and in a shared room such turns could wait for each other forever.
MAX_BODIES_BYTES = 256 * 1024 * 1024
# Bytes of a part beside its data: the file's name, its type, punctuation.
_PART_BYTES = 2048
# Validity of a URL from which a provider fetches a file: longer than an attempt takes.
URL_SECONDS = 3600
# The body of a request that was accepted is missing, or is not what was accepted.
_NO_BODY = "the body of the request is no longer kept"
_WRONG_BODY = "the body of the request is not what was accepted"
_NAMES = {"image_url": "an image", "input_audio": "a recording"}
_MEDIA_TYPES = {"image_url": "image/", "input_audio": "audio/"}
GONE = "The file that was here is no longer available."
LEFT_OUT = "The file that was here is too large to be sent again."
_BODY = TypeAdapter(GenerateRequest).serializer

log = structlog.get_logger()
Files = Mapping[str, StoredFile]
_Data = dict[tuple[str, str], dict[str, Any]]


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
                self._pass_on()
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give bytes back."""
        self._free += size
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            # A cancelled one may be here before its task has noticed: a drain stops all turns at once.
            if not turn.cancelled():
                if size > self._free:
                    return
                self._free -= size
                turn.set_result(None)
            self._waiting.popleft()


class Held:
    """The bytes of a ``Room`` that one prompt or one large body holds."""

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
        """Key of the file's data: they depend on the file and on the type of the part."""
        return self.id, self.part["type"]

    def takes(self, file: StoredFile) -> bool:
        """Whether the part may have this file. Data from a stored body always fit: such a part had them there."""
        kind = _MEDIA_TYPES.get(self.part["type"], "")
        return file.of_body or file.media_type.startswith(kind)


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
        self._bodies = Room(MAX_BODIES_BYTES)
        self._away = False

    def hold(self) -> Held:
        """A ``Held`` for the files of one prompt. Nothing is taken yet."""
        return Held(self._room)

    def hold_body(self) -> Held:
        """A ``Held`` for the large body of one turn. Nothing is taken yet."""
        return Held(self._bodies)

    async def body(self, owner: Owner, stored: Mapping[str, Any], held: Held) -> dict[str, Any]:
        """The whole body of a large request, from its stored one. Waits while other bodies hold too much.

        Raises ``OrchestraError``: ``FILE_NOT_FOUND`` or ``FilesAwayError``.
        """
        ref = BodyRef.model_validate(stored["body_ref"])
        file = (await self._look_up(owner, [ref.file_id])).get(ref.file_id)
        if file is None:
            raise OrchestraError(ErrorCode.FILE_NOT_FOUND, _NO_BODY)
        await held.take(file.bytes)
        with self._reading(OrchestraError(ErrorCode.FILE_NOT_FOUND, _NO_BODY)):
            text = await self._bytes(file)
        if len(text) != ref.bytes or await asyncio.to_thread(_digest, text) != ref.sha256:
            raise OrchestraError(ErrorCode.FILE_NOT_FOUND, _WRONG_BODY)
        whole: dict[str, Any] = await asyncio.to_thread(orjson.loads, text)
        return whole

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
                detail = f"{where}: the file is not {_NAMES[place.part['type']]}"
                raise OrchestraError(ErrorCode.UNSUPPORTED_PART, detail)
            if _too_large(file, model) and not await self._url(file, place, model):
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
        data = await self._by_url(places, known, model)
        chosen = _chosen(places, known, model, data, room)
        await held.take(sum(_encoded(known[place.id]) for place in chosen if place.form not in data))
        for place in chosen:
            if place.form not in data:
                data[place.form] = await self._read(known[place.id], place)
        parts = {id(place.part): _note(LEFT_OUT if place.id in known else GONE) for place in places}
        parts |= {id(place.part): _as_named(data[place.form], place.part) for place in chosen}
        filled = ask.model_copy(update={"messages": [_with(message, parts) for message in ask.messages]})
        # A text may need more bytes in JSON than in its file.
        if any(part["type"] == "text" for part in data.values()) and _bytes_of(filled) > MAX_BODY_BYTES:
            raise _too_large_together()
        return filled

    async def _by_url(self, places: Sequence[_Place], known: Files, model: ModelInfo | None) -> _Data:
        """The files that are too large to be sent, as URLs, as far as the model takes them and the home has them."""
        data: _Data = {}
        for place in places:
            file = known.get(place.id)
            if file and _too_large(file, model) and (url := await self._url(file, place, model)):
                kind = place.part["type"]
                name = {"filename": file.filename} if kind == "file" else {}
                data[place.form] = {"type": kind, kind: {DATA_FIELDS[kind]: url, **name}}
        return data

    async def _url(self, file: StoredFile, place: _Place, model: ModelInfo | None) -> str | None:
        kind = place.part["type"]
        of_a_known_type = kind == "image_url" or file.media_type == "application/pdf"
        if not (self._home and model and kind in model.media_urls and of_a_known_type and place.takes(file)):
            return None
        return await self._home.presigned_url(file.blob, URL_SECONDS)

    async def _named(self, owner: Owner, messages: Sequence[ChatMessage]) -> Files:
        ids = list(dict.fromkeys(file_ids_in(messages)))
        return await self._look_up(owner, ids) if ids and self._home else {}

    async def _look_up(self, owner: Owner, ids: Sequence[str]) -> Files:
        return await until_available(
            lambda: files.named(self._database, owner, ids), "files_not_found", pause=self._timings.retry_database
        )

    async def _read(self, file: StoredFile, place: _Place) -> dict[str, Any]:
        """The part with the file's data."""
        try:
            with self._reading(_not_found("messages")):
                return await self._part(file, place.part["type"])
        except OrchestraError as error:
            if error.code is not ErrorCode.FILE_NOT_FOUND or place.current:
                raise
            return _note(GONE)

    async def _part(self, file: StoredFile, kind: str) -> dict[str, Any]:
        if file.of_body:
            # A client can make up the id of a part, which then names arbitrary bytes of the body.
            text = (await self._bytes(file)).decode("utf-8", "replace")
            if kind != "input_audio" and text[:5].lower() != "data:":
                raise BlobMissingError
            return {"type": kind, kind: {DATA_FIELDS[kind]: text}}
        if kind == "file" and is_text(file):
            text = (await self._bytes(file)).decode("utf-8", "replace")
            return {"type": "text", "text": f"{file.filename}:\n\n{text}".replace("\0", "\ufffd")}
        head = "" if kind == "input_audio" else f"data:{file.media_type};base64,"
        data = {DATA_FIELDS[kind]: await self._base64(head, file)}
        return {"type": kind, kind: {**data, "filename": file.filename} if kind == "file" else data}

    async def _base64(self, head: str, file: StoredFile) -> str:
        # One buffer that grows: many pieces would leave gaps in the process's memory.
        text, rest = bytearray(head.encode()), b""
        async for chunk in self._chunks(file):
            joined = rest + chunk
            whole = len(joined) - len(joined) % 3
            rest = joined[whole:]
            text += b64encode(memoryview(joined)[:whole])
        text += b64encode(rest)
        return text.decode("ascii")

    async def _bytes(self, file: StoredFile) -> bytes:
        read = bytearray()
        async for chunk in self._chunks(file):
            read += chunk
        return bytes(read)

    def _chunks(self, file: StoredFile) -> AsyncIterator[bytes]:
        if self._home is None:
            raise FilesUnavailableError("FILES_URL is not set")
        return self._home.get(file.blob, file.start, file.start + file.bytes)

    @contextmanager
    def _reading(self, missing: OrchestraError) -> Iterator[None]:
        """Translates the errors of the home, and logs when it is away and when it is back."""
        try:
            yield
        except BlobMissingError:
            raise missing from None
        except FilesUnavailableError as error:
            if not self._away:
                log.warning("files_unavailable", reason=str(error))
            self._away = True
            raise FilesAwayError from None
        if self._away:
            log.info("files_available")
        self._away = False


def _places(messages: Sequence[ChatMessage], current: Collection[int]) -> Iterator[tuple[str, _Place]]:
    """The parts that name files, each with where it is. ``current``: numbers of the messages of the request itself."""
    for number, message in enumerate(messages):
        for at, part in enumerate(message.parts):
            if file := file_id_of(part):
                where = f"messages.{number}.content.{at}.{part['type']}.file_id"
                yield where, _Place(part, file, number in current)


def _chosen(places: Sequence[_Place], known: Files, model: ModelInfo | None, urls: _Data, room: int) -> list[_Place]:
    """Where files are sent: all places of the request, then those of the history, newest first, while there is room.

    Raises ``FILE_TOO_LARGE`` if the request's own do not fit.
    """
    chosen = []
    own, history = ([place for place in places if place.current is current] for current in (True, False))
    for place in (*own, *reversed(history)):
        file = known.get(place.id)
        by_url = place.form in urls
        if file is None or not place.takes(file) or (_too_large(file, model) and not by_url):
            continue
        size = _PART_BYTES if by_url else _encoded(file) + _PART_BYTES
        if size <= room:
            room -= size
            chosen.append(place)
        elif place.current:
            raise _too_large_together()
    return chosen


def _with(message: ChatMessage, parts: Mapping[int, dict[str, Any]]) -> ChatMessage:
    """The message with these parts in the place of those that name files."""
    if not any(id(part) in parts for part in message.parts):
        return message
    return message.model_copy(update={"content": [parts.get(id(part), part) for part in message.parts]})


def _as_named(data: dict[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """The part with the data, and the other fields (such as ``detail``) of the part that named the file."""
    kind = part["type"]
    if data["type"] != kind:
        return data  # A text.
    said = {name: value for name, value in part[kind].items() if name != "file_id"}
    return {"type": kind, kind: {**data[kind], **said}}


def _not_found(place: str) -> OrchestraError:
    return OrchestraError(ErrorCode.FILE_NOT_FOUND, f"{place}: the owner of the request has no file with this id")


def _too_large_together() -> OrchestraError:
    detail = "messages: the files are too large together with the rest of the prompt"
    return OrchestraError(ErrorCode.FILE_TOO_LARGE, detail)


def _bytes_of(ask: GenerateRequest) -> int:
    return len(_BODY.to_json(ask, exclude_none=True))


def _too_large(file: StoredFile, model: ModelInfo | None) -> bool:
    """Whether the file is too large for the model. Data from a stored body are sent whatever their size."""
    return not file.of_body and file.bytes > _limit(model)


def _limit(model: ModelInfo | None) -> int:
    return model.max_inline_bytes if model and model.max_inline_bytes else MAX_INLINE_BYTES


def _note(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _encoded(file: StoredFile) -> int:
    """Bytes of the file's data in a prompt."""
    return file.bytes if file.of_body else (file.bytes + 2) // 3 * 4


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()

"""Ways in which a hot path gets slower by accident; each is planted for the life of a process."""

import copy
import json
from collections.abc import Callable
from typing import Any

from gateway.following.events import Hub
from gateway.submit import Submissions
from orchestra.store import endings
from orchestra.store.claims import ClaimOrder
from orchestra.store.database import Database
from schemas.requests import MessageRequested
from workers.deltas import Deltas
from workers.records import RecordReader


def body_read_twice() -> None:
    """A record's body is parsed and validated once more than it must be."""
    plain = RecordReader.read

    def read(self: RecordReader, record: Any) -> Any:
        MessageRequested.model_validate_json(record.value)
        MessageRequested.model_validate(json.loads(record.value))
        return plain(self, record)

    RecordReader.read = read  # type: ignore[method-assign]


def event_through_json() -> None:
    """An event goes through JSON and back before it is looked at."""
    plain = Hub.take

    def take(self: Hub, key: bytes | None, headers: Any, value: bytes | None) -> None:
        json.dumps(json.loads(value or b"")).encode()  # What is handed on is what was signed.
        plain(self, key, headers, value)

    Hub.take = take  # type: ignore[method-assign]


def message_copied() -> None:
    """What is sent is copied, deeply, so that no other code can change it."""
    plain = Submissions.send

    async def send(self: Submissions, ask: Any, live: Any, **more: Any) -> Any:
        copy.deepcopy(ask.body.model_dump())
        return await plain(self, ask, live, **more)

    Submissions.send = send  # type: ignore[method-assign]


def text_looked_through() -> None:
    """Every piece of text is looked through, character by character."""
    plain = Deltas.add

    def add(self: Deltas, piece: str) -> None:
        assert all(letter.isprintable() for letter in piece)
        plain(self, piece)

    Deltas.add = add  # type: ignore[method-assign]


def statement_for_each() -> None:
    """A statement for each ending, where one is enough for all."""
    plain = endings.finish

    async def finish(database: Database, ended: Any, order: ClaimOrder | None = None) -> Any:
        for _ in ended:
            await database.run("SELECT 1")
        return await plain(database, ended, order)

    endings.finish = finish


PLANTS: dict[str, Callable[[], None]] = {
    plant.__name__: plant
    for plant in (body_read_twice, event_through_json, message_copied, text_looked_through, statement_for_each)
}

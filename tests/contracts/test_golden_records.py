"""Whole records, byte by byte as an earlier version wrote them onto a topic: every later one reads the same in them.

They were taken from the topics of a running system; those with pieces, items and parts were put together in the form in
which services write them. `meaning` is what that version read. Files are added, never edited.
"""

import base64
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.following.events import Hub
from gateway.metrics import Metrics
from orchestra.agents.catalogue import Agents
from orchestra.incoming import Judge
from orchestra.signing import EventSigner
from orchestra.store.intake import NewRequest
from schemas import dead_letters, envelope
from schemas.errors import ErrorCode
from schemas.events import EVENT_TYPES
from schemas.replies import REPLY, Reply
from schemas.requests import RECORD_TYPES
from schemas.status import ENDINGS
from schemas.topics import DEAD_LETTERS, EVENTS, REPLIES, REQUESTS
from workers.records import Cancel, Delete, RecordReader

FOLDER = Path(__file__).parent / "golden/records"
SECRET = b"golden-records-are-signed-with-this-one"
TENANTS = {REQUESTS.name: envelope.DEFAULT_TENANT}


@dataclass(frozen=True)
class Golden:
    """One record as it lay on its topic."""

    name: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    meaning: dict[str, Any]

    @cached_property
    def texts(self) -> dict[str, str]:
        return {name: value.decode() for name, value in self.headers if value is not None}


def raw(text: Any) -> bytes | None:
    return base64.b64decode(text["base64"]) if isinstance(text, dict) else None if text is None else text.encode()


def load(path: Path) -> Golden:
    read = json.loads(path.read_text("utf-8"))
    read |= {"key": raw(read["key"]), "value": raw(read["value"])}
    read["headers"] = tuple((name, raw(value)) for name, value in read["headers"])
    return Golden(name=path.stem, **read)


ALL = [load(path) for path in sorted(FOLDER.glob("*.json"))]


def of(topic: str) -> pytest.MarkDecorator:
    """All records of one topic."""
    return pytest.mark.parametrize("golden", [each for each in ALL if each.topic == topic], ids=lambda each: each.name)


@of(EVENTS.name)
def test_events_reach_who_waits(golden: Golden) -> None:
    """A piece of text is shown, signed or not; an ending from before signatures has Postgres asked at once."""
    hub, said = Hub(Metrics(), 1024 * 1024, EventSigner([SECRET])), json.loads(golden.value or b"")
    ref = golden.texts[envelope.TENANT], UUID(golden.texts[envelope.SUBJECT])
    with hub.watch(ref) as live:
        hub.take(golden.key, golden.headers, golden.value)

        signed, ended = envelope.SIGNATURE in golden.texts, golden.texts[envelope.TYPE].rpartition(".")[2] in ENDINGS
        hinted = ended and not signed
        assert (hinted, [ref] if hinted else []) == (hub.hinted.is_set(), hub.due())
        assert (signed, signed and ended) == (live.signed, live.ending is not None)
        assert live.attempt == (0 if hinted else said["attempt"])


def asked(golden: Golden) -> dict[str, Any]:
    """What a worker of today reads in a record of requests."""
    reader = RecordReader(Judge([SECRET]), Agents.load(None), TENANTS, "llama3", require_signed=False)
    match reader.read(golden):
        case NewRequest() as request:
            return {name: getattr(request, name) for name in golden.meaning}
        case Cancel(request=ref):
            return {"cancel": ref}
        case Delete(conversation=ref):
            return {"delete": ref}
        case letter:
            raise AssertionError(letter)


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


@of(REQUESTS.name)
def test_requests_ask_for_the_same(golden: Golden) -> None:
    """A worker reads what was asked, for whom, under which id and in which conversation, signatures included."""
    read = plain(asked(golden))
    if "body" in read:
        read["body"] = {name: read["body"][name] for name in golden.meaning["body"]}

    assert golden.meaning == read


@of(EVENTS.name)
def test_events_tell_the_same(golden: Golden) -> None:
    """A gateway takes the event in, and reads the same in it."""
    read = EVENT_TYPES[golden.texts[envelope.TYPE]].model_validate_json(golden.value or b"").model_dump(mode="json")
    metrics = Metrics()
    Hub(metrics, 1024 * 1024, EventSigner([SECRET])).take(golden.key, golden.headers, golden.value)

    assert metrics.events_skipped._value.get() == 0
    assert golden.meaning == subset(read, golden.meaning)


@of(REPLIES.name)
def test_replies_say_the_same(golden: Golden) -> None:
    """A reply is read whole, and can be matched to its request."""
    read = Reply.model_validate_json(golden.value or b"")

    assert golden.meaning == subset(read.model_dump(mode="json"), golden.meaning)
    assert golden.texts[envelope.SUBJECT] == str(read.request_id)
    assert golden.key == str(read.conversation_id).encode()


@of(DEAD_LETTERS.name)
def test_dead_letters_say_why_and_where_from(golden: Golden) -> None:
    """A dead letter has a reason of the list and its record's place, beside the bytes and headers as they came."""
    assert golden.meaning.items() <= golden.texts.items()
    assert ErrorCode(golden.texts[dead_letters.REASON])
    assert golden.texts[dead_letters.TOPIC] == REQUESTS.name
    assert int(golden.texts[dead_letters.PARTITION]) >= 0
    assert int(golden.texts[dead_letters.OFFSET]) >= 0


def test_a_reader_of_today_is_not_satisfied_by_anything() -> None:
    """The signature of a golden record counts: with another value it is a dead letter."""
    signed = next(each for each in ALL if envelope.SIGNATURE in each.texts)
    forged = replace(signed, value=(signed.value or b"").replace(b"{", b'{"id":null,', 1))

    with pytest.raises(AssertionError, match="BAD_SIGNATURE"):
        asked(forged)


def test_every_kind_is_there() -> None:
    """There is a golden record of each type that is written, and of each topic."""
    types = {each.texts[envelope.TYPE] for each in ALL if envelope.TYPE in each.texts}

    assert types == {*RECORD_TYPES, *EVENT_TYPES, REPLY}
    assert {each.topic for each in ALL} == {REQUESTS.name, EVENTS.name, REPLIES.name, DEAD_LETTERS.name}


def subset(read: Any, meaning: Any) -> Any:
    """What is read of what there was then: later versions may read more."""
    if isinstance(meaning, dict) and isinstance(read, dict):
        return {name: subset(read[name], value) for name, value in meaning.items()}
    return read

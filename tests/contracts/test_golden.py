"""A record that a release wrote is read by every later one. Golden files are added, never edited."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from schemas.envelope import ID, TYPE, read_headers
from schemas.events import EVENT_TYPES
from schemas.publish import PUBLISHED
from schemas.replies import REPLY, Reply
from schemas.requests import RECORD_TYPES

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.json"))
RECORDS: dict[str, type[BaseModel]] = {**RECORD_TYPES, **EVENT_TYPES, REPLY: Reply}

golden = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def load(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    document = json.loads(path.read_text("utf-8"))
    return document["headers"], document["value"]


@golden
def test_values_are_read_whole(path: Path) -> None:
    """Each field of a golden record is read, and means what it meant."""
    headers, value = load(path)

    read = RECORDS[headers[TYPE]].model_validate(value).model_dump(mode="json")

    assert value == {name: read[name] for name in value}


@golden
def test_headers_are_read(path: Path) -> None:
    """The headers of a golden record are those of a record of today."""
    headers, _ = load(path)

    envelope = read_headers([(name, text.encode()) for name, text in headers.items()])

    assert headers[TYPE] == envelope.type
    assert headers[ID] == str(envelope.id)
    assert headers.get("correlation_id") == envelope.correlation_id


@golden
def test_published_schemas_accept_them(path: Path) -> None:
    """A golden record is right by the schema that is published for its type."""
    headers, value = load(path)
    schema = json.loads((PUBLISHED / f"{headers[TYPE]}.json").read_text("utf-8"))

    Draft202012Validator(schema).validate(value)


def test_every_type_has_one() -> None:
    """No record type is without a golden record."""
    assert set(RECORDS) == {load(path)[0][TYPE] for path in FILES}


def test_none_was_edited() -> None:
    """Golden files have the checksums that they were added with: a new shape is a new file and a new line."""
    sums = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text("utf-8").splitlines())

    files = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*.json")}
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}

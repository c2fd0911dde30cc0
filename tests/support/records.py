"""Records as aiokafka hands them out, and turns as a worker claims them."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from orchestra.agents.catalogue import Agents
from orchestra.incoming import Judge
from orchestra.signing import HintSigner, Signer
from orchestra.store.claims import Claimed
from schemas import envelope
from schemas.requests import MESSAGE_REQUESTED
from workers.records import RecordReader

SECRET = b"s" * 32
TOPIC = "llm.requests"
_offsets = itertools.count()

Headers = list[tuple[str, bytes | None]]


@dataclass
class Record:
    """One record."""

    value: bytes | None = b'{"messages":[{"role":"user","content":"hi"}]}'
    key: bytes | None = None
    headers: Any = field(default_factory=tuple)
    topic: str = TOPIC
    partition: int = 3
    offset: int = field(default_factory=lambda: next(_offsets))
    timestamp: int = 1_700_000_000_000


def message(content: str = "hi", **more: Any) -> bytes:
    """The value of a request record."""
    return json.dumps({"messages": [{"role": "user", "content": content}], **more}).encode()


def signed(
    tenant: str = "tenant",
    user: str = "user",
    *,
    value: bytes | None = None,
    key: bytes | None = b"key",
    id: UUID | None = None,
    type: str | None = None,
    secret: bytes = SECRET,
    hints: Sequence[tuple[str, str]] = (),
) -> Record:
    """A record as a gateway writes it."""
    value = message() if value is None else value
    fields = {"tenant": tenant, "user": user, "key": key or b"", "value": value}
    signature = Signer([secret]).sign(id=str(id or ""), type=type or MESSAGE_REQUESTED, **fields)  # type: ignore[arg-type]
    headers = [
        ("orchestra-signature", signature),
        ("orchestra-tenant", tenant),
        ("orchestra-user", user),
        *([("ce_id", str(id))] if id else []),
        *([("ce_type", type)] if type else []),
        ("orchestra-hints", HintSigner([secret]).sign(signature, _read(hints).hints)),
        *hints,
    ]
    return Record(value, key, [(name, text.encode()) for name, text in headers])


def _read(headers: Sequence[tuple[str, str]]) -> envelope.Envelope:
    return envelope.read_headers([(name, text.encode()) for name, text in headers])


def reader(*, require_signed: bool = False, media_urls: bool = False, **settings: Any) -> RecordReader:
    """A reader of the usual topic, which is the default tenant's, and of one of another tenant."""
    tenants = {TOPIC: "default", "theirs": "them"}
    judge = Judge([SECRET], media_urls=media_urls)
    return RecordReader(judge, Agents.load(None), tenants, "llama3", require_signed=require_signed, **settings)


def claimed(**changes: Any) -> Claimed:
    """A turn that a worker holds."""
    fields: dict[str, Any] = {
        "tenant": "default",
        "id": uuid4(),
        "conversation_id": uuid4(),
        "seq": 1,
        "body": {"messages": [{"role": "user", "content": "hi"}]},
        "body_hash": "hash",
        "worker_id": uuid4(),
        "model": "llama3",
        "user": None,
        "traceparent": None,
        "fence": 1,
        "tries": 1,
        "max_tries": 5,
        "caller_seconds": 0.0,
        "seconds_left": 3600.0,
        "seconds_queued": 0.1,
        "cancelled": False,
        "has_history": True,
    }
    return Claimed(**{**fields, **changes})

"""An attacker with access to our topics but not to the secret: forges events, cancels and deletions for others."""

import asyncio
import json
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import RecordMetadata

from faults.evidence import Evidence, Place
from faults.ground import Scene
from faults.injected import Injected
from orchestra.kafka.records import read_any_record
from schemas import envelope, events
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import CANCEL_REQUESTED, MESSAGE_REQUESTED, MessageRequested, read_record
from schemas.topics import EVENTS, REQUESTS

FORGED = "FORGED"
# Higher than any real attempt.
_ATTEMPT = 1_000_000
_ROUNDS = 2
_ROUND_SECONDS = 2.0


@dataclass(frozen=True)
class Target:
    """A request as it is on the topic, readable by all."""

    id: UUID
    tenant: str
    body_hash: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Forgery:
    """A record to write, to this partition or, if None, to that of its key."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    partition: int | None = None

    @property
    def kind(self) -> str:
        """What it pretends to be."""
        return dict(self.headers).get(envelope.TYPE, MESSAGE_REQUESTED.encode()).decode()


def target_of(record: Any) -> Target | None:
    """The request that a record asks for, if a gateway signed it."""
    with suppress(OrchestraError):
        headers = envelope.read_headers(record.headers)
        body = read_record(headers.type, envelope.parse_json(record.value or b""))
        if isinstance(body, MessageRequested) and headers.id and headers.tenant and headers.signature:
            raw = tuple((name, bytes(value or b"")) for name, value in record.headers)
            return Target(headers.id, headers.tenant, body.body_hash(), record.key or b"", record.value, raw)
    return None


def forgeries(target: Target) -> Iterator[Forgery]:
    """An attempt that never happened, each ending that it could have had, and a cancel; none validly signed.

    The cancel is written after its request and to another partition, where it may be read first. So are other requests
    under its id, and the request itself with another deadline.
    """
    failed: dict[str, object] = {"code": ErrorCode.BAD_UPSTREAM, "detail": FORGED}
    told: Iterable[tuple[str, dict[str, object]]] = (
        (events.DELTA, {"attempt": 1, "at": 0, "text": FORGED}),
        (events.STARTED, {"attempt": _ATTEMPT, "conversation_id": str(uuid4())}),
        (events.DELTA, {"attempt": _ATTEMPT, "at": 0, "text": FORGED}),
        (events.PIECE, {"attempt": _ATTEMPT, "n": len(FORGED), "kind": "refusal", "text": FORGED}),
        (events.RESTART, {"attempt": _ATTEMPT, "text": FORGED, "last_error": failed}),
        (events.COMPLETED, {"attempt": _ATTEMPT, "reply": FORGED, "usage": {"input_tokens": 1, "output_tokens": 1}}),
        (events.FAILED, {"attempt": _ATTEMPT, **failed}),
        (events.CANCELLED, {"attempt": _ATTEMPT}),
        (events.EXPIRED, {"attempt": _ATTEMPT}),
    )
    subject = str(target.id).encode()
    for kind, value in told:
        for signature in ((), ((envelope.SIGNATURE, os.urandom(16).hex().encode()),)):
            named = {
                envelope.ID: str(uuid4()), envelope.TYPE: kind, envelope.SUBJECT: str(target.id),
                envelope.TENANT: target.tenant, envelope.BODY_HASH: target.body_hash,
            }  # fmt: skip
            headers = tuple((name, text.encode()) for name, text in named.items())
            yield Forgery(EVENTS.name, subject, json.dumps(value).encode(), headers + signature)
    cancel = json.dumps({"request_id": str(target.id)}).encode()
    kind_only = (envelope.TYPE, CANCEL_REQUESTED.encode())
    for key in (target.key, os.urandom(8)):
        yield Forgery(REQUESTS.name, key, cancel, (kind_only,))
    signed = ((envelope.TENANT, target.tenant.encode()), (envelope.SIGNATURE, b"v1=" + b"0" * 64))
    yield Forgery(REQUESTS.name, target.key, cancel, (kind_only, *signed))
    yield from _firsts(target)


def _firsts(target: Target) -> Iterator[Forgery]:
    """Other requests under the target's id, on two partitions, one of which may be read sooner; and a copy of its own.

    The copy has an expired deadline. It is written after the original: elsewhere it could come before it, and so before
    earlier turns (docs/decisions/0028).
    """
    body = json.dumps({"messages": [{"role": "user", "content": FORGED}]}).encode()
    named = ((envelope.ID, str(target.id).encode()),)
    # The topic is this tenant's: under another tenant's id it would be an ordinary request.
    for partition in random.sample(range(REQUESTS.partitions), 2 if target.tenant == envelope.DEFAULT_TENANT else 0):
        yield Forgery(REQUESTS.name, target.key, body, named, partition)
    late = ((envelope.DEADLINE, b"2020-01-01T00:00:00Z"),)
    yield Forgery(REQUESTS.name, target.key, target.value, target.headers + late)


@dataclass
class Forger:
    """Answers every request that it reads in the workers' place, at once and while it runs. ``done``: what it wrote.

    ``events``, ``cancels``, ``requests``: their places; for cancels and other requests with the id that each targets.
    """

    done: Injected
    events: set[Place] = field(default_factory=set)
    cancels: dict[Place, UUID] = field(default_factory=dict)
    requests: dict[Place, UUID] = field(default_factory=dict)

    async def run(self, scene: Scene) -> None:
        """Run until cancelled."""
        read_any_record()  # Bombs are read here as well.
        reader = AIOKafkaConsumer(bootstrap_servers=scene.kafka.bootstrap, auto_offset_reset="latest")
        writer = AIOKafkaProducer(bootstrap_servers=scene.kafka.bootstrap, linger_ms=5)
        seen: set[UUID] = set()
        async with reader, writer:
            parts = [TopicPartition(REQUESTS.name, number) for number in range(REQUESTS.partitions)]
            reader.assign(parts)
            await reader.seek_to_end(*parts)
            async with asyncio.TaskGroup() as tasks:
                while True:
                    for records in (await reader.getmany(timeout_ms=50)).values():
                        for target in filter(None, map(target_of, records)):
                            if target.id not in seen:  # Its own copies are signed too.
                                seen.add(target.id)
                                tasks.create_task(self._forge(writer, target))

    def wrong(self, evidence: Evidence) -> Iterator[str]:
        """Everything that was shown or ended although no worker said it and no caller asked for it."""
        for entry in evidence.entries:
            if entry.reply and FORGED in entry.reply:
                yield f"{entry.id}: a caller received a forged answer"
        for row in evidence.requests:
            if row.cancel_requested or row.status == "cancelled":
                yield f"{row.id}: a forged cancel was accepted"
            if row.status == "expired":
                yield f"{row.id}: a forged deadline was accepted"
        reasons = {letter.place: letter.reason for letter in evidence.dead_letters}
        for place, id in self.cancels.items():
            reason = reasons.get(place)
            early = reason is None and id in evidence.early_cancels
            if not early and reason not in (ErrorCode.UNSIGNED, ErrorCode.BAD_SIGNATURE):
                yield f"the forged cancel of {id} at {place}: {reason}, must be a dead letter or kept without an owner"
        for place, id in self.requests.items():
            if reasons.get(place) != ErrorCode.UNSIGNED:
                yield f"the forged request {id} at {place}: {reasons.get(place)}, must be a dead letter"

    async def _forge(self, writer: AIOKafkaProducer, target: Target) -> None:
        for number in range(_ROUNDS):
            await asyncio.sleep(number * _ROUND_SECONDS)
            for forgery in forgeries(target):
                sent = await writer.send(
                    forgery.topic, forgery.value, forgery.key, forgery.partition, headers=list(forgery.headers)
                )
                # Written even if this task is over by then: the producer flushes before it stops.
                sent.add_done_callback(partial(self._note, target, forgery))
                await asyncio.shield(sent)

    def _note(self, target: Target, forgery: Forgery, sent: "asyncio.Future[RecordMetadata]") -> None:
        written = sent.result()
        place = (written.topic, written.partition, written.offset)
        if forgery.topic == EVENTS.name:
            self.events.add(place)
        elif forgery.kind == CANCEL_REQUESTED:
            self.cancels[place] = target.id
        elif forgery.value != target.value:
            self.requests[place] = target.id
        self.done.note()
        self.done.counts["events" if place in self.events else "cancels" if place in self.cancels else "requests"] += 1

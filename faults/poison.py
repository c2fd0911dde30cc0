"""Eighteen kinds of records that cannot be answered, among others that must be."""

import asyncio
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from faults.bombs import MAX_BYTES, Batch, bomb
from faults.evidence import Evidence, Place
from faults.ground import Scene
from faults.injected import Injected, Limit
from orchestra.signing import Signer
from schemas import envelope
from schemas.errors import ErrorCode
from schemas.requests import MESSAGE_REQUESTED
from schemas.topics import MAX_HEADERS, REQUESTS

_GOOD = b'{"messages":[{"role":"user","content":"not to be run"}]}'
_MORE_THAN_A_RECORD = 3 * 1024 * 1024
_BOMB = 16 * 1024 * 1024
_BOMB_OF = "bomb of "
_AT_ONCE = 20
# Stored as a whole, each of these is megabytes in Postgres and on a topic: one in this many is enough.
_FEWER = {"too large": 10, "bomb": 50, **{_BOMB_OF + codec: 100 for codec in MAX_BYTES}}


@dataclass(frozen=True)
class Poison:
    """A record, and the reason that its dead letter must have. ``packed``: compressed in transit.

    ``batch``: a whole batch to send instead.
    """

    reason: ErrorCode
    value: bytes | None = _GOOD
    key: bytes | None = b"poison"
    headers: tuple[tuple[str, bytes], ...] = ()
    packed: bool = False
    batch: Batch | None = None


def _foreign() -> Poison:
    id, tenant = str(uuid4()), "somebody-else"
    signer = Signer([os.urandom(32)])
    signature = signer.sign(id=id, type=MESSAGE_REQUESTED, tenant=tenant, user="", key=b"poison", value=_GOOD)
    named = ((envelope.ID, id), (envelope.TENANT, tenant), (envelope.SIGNATURE, signature))
    return Poison(ErrorCode.BAD_SIGNATURE, headers=tuple((name, text.encode()) for name, text in named))


def _bomb_of(codec: str) -> Poison:
    return Poison(ErrorCode.TOO_LARGE, batch=bomb(codec, MAX_BYTES[codec]))


def _an_id() -> tuple[str, bytes]:
    return envelope.ID, str(uuid4()).encode()


KINDS: Mapping[str, Callable[[], Poison]] = {
    "bytes": lambda: Poison(ErrorCode.NOT_JSON, b"\xff" + os.urandom(200)),
    "header": lambda: Poison(ErrorCode.BAD_HEADER, headers=(_an_id(), (envelope.DEADLINE, b"\xff\xfe"))),
    "tombstone": lambda: Poison(ErrorCode.TOMBSTONE, None),
    "no key": lambda: Poison(ErrorCode.INVALID_REQUEST, b"{}", None),
    "too large": lambda: Poison(ErrorCode.TOO_LARGE, b" " * _MORE_THAN_A_RECORD + _GOOD, packed=True),
    "bomb": lambda: Poison(ErrorCode.TOO_LARGE, bytes(_BOMB), packed=True),
    "version": lambda: Poison(ErrorCode.UNKNOWN_TYPE, headers=(_an_id(), (envelope.TYPE, b"llm.message.requested.v9"))),
    "foreign tenant": _foreign,
    "signature": lambda: Poison(ErrorCode.BAD_SIGNATURE, headers=((envelope.SIGNATURE, b"f" * 64),)),
    "deep": lambda: Poison(ErrorCode.NOT_JSON, b'{"a":' * 100_000),
    "NaN": lambda: Poison(ErrorCode.NOT_JSON, _GOOD.replace(b'"user"', b"NaN")),
    "NUL": lambda: Poison(
        ErrorCode.INVALID_REQUEST, json.dumps({"messages": [{"role": "user", "content": "\0"}]}).encode()
    ),
    "headers": lambda: Poison(ErrorCode.TOO_LARGE, headers=((("x", b""),) * (MAX_HEADERS + 1))),
    **{_BOMB_OF + codec: partial(_bomb_of, codec) for codec in MAX_BYTES},
}


BOMBS = tuple(kind for kind in KINDS if kind.startswith(_BOMB_OF))


def mixed(each: int) -> list[str]:
    """This many of each kind, shuffled."""
    kinds = [kind for kind in KINDS for _ in range(max(1, each // _FEWER.get(kind, 1)))]
    random.shuffle(kinds)
    return kinds


@dataclass
class Poisoner:
    """Sends them, and remembers the expected reason by place."""

    sent: dict[Place, tuple[str, ErrorCode]] = field(default_factory=dict)

    async def run(self, scene: Scene, kinds: Sequence[str], limit: Limit) -> Injected:
        """Send one of each of these kinds."""
        done = Injected("poison records", len(kinds))
        async with AsyncExitStack() as stack:
            plain, packing = [
                await stack.enter_async_context(_producer(scene, compression)) for compression in (None, "gzip")
            ]
            whole = await stack.enter_async_context(AIOKafkaProducer(bootstrap_servers=scene.kafka.bootstrap))
            for at in range(0, len(kinds), _AT_ONCE):
                if limit.over:
                    break
                await asyncio.gather(
                    *(self._send(plain, packing, whole, kind, done) for kind in kinds[at : at + _AT_ONCE])
                )
        return done

    def wrong(self, evidence: Evidence) -> Iterator[str]:
        """Every such record that is not a dead letter with its reason."""
        reasons = {letter.place: letter.reason for letter in evidence.dead_letters}
        for place, (kind, reason) in self.sent.items():
            if reasons.get(place) != reason:
                yield f"poison '{kind}' at {place}: {reasons.get(place)}, must be a dead letter with {reason}"

    async def _send(
        self, plain: AIOKafkaProducer, packing: AIOKafkaProducer, whole: AIOKafkaProducer, kind: str, done: Injected
    ) -> None:
        poison = KINDS[kind]()
        if poison.batch:
            partition = random.randrange(REQUESTS.partitions)
            told: RecordMetadata = await (await whole.send_batch(poison.batch, REQUESTS.name, partition=partition))
        else:
            producer = packing if poison.packed else plain
            told = await producer.send_and_wait(
                REQUESTS.name, poison.value, key=poison.key, headers=list(poison.headers)
            )
        self.sent[told.topic, told.partition, told.offset] = kind, poison.reason
        done.note()
        done.counts[kind] += 1


def _producer(scene: Scene, compression: str | None) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=scene.kafka.bootstrap,
        compression_type=compression,
        enable_idempotence=True,
        max_request_size=2 * _BOMB,
    )

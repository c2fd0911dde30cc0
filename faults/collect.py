"""Collects evidence from Postgres, dumps of the topics, the oracle's log and the ledger.

await until_settled(database_url, seconds=120)      # None, or what is still open
evidence = await collect(database_url, bootstrap, ledger_path, oracle_log_path)
evidence.worker_faults = …                          # known only to the code that injected the faults
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from faults.evidence import (
    Call,
    DeadLetter,
    Event,
    Evidence,
    Message,
    OutboxRow,
    Record,
    ReplyRecord,
    Request,
    call_of,
)
from faults.ledger import read_ledger
from faults.question import INSTRUCTIONS, Said, said
from orchestra.files.home import FileHome
from orchestra.kafka.records import read_any_record
from orchestra.settings import DatabaseSettings
from orchestra.store import files
from orchestra.store.database import Database, DatabaseUnavailableError
from schemas import dead_letters as dead
from schemas import envelope
from schemas.errors import OrchestraError
from schemas.ids import record_id
from schemas.requests import CancelRequested, ConversationDeleteRequested, MessageRequested, read_record
from schemas.topics import DEAD_LETTERS, EVENTS, REPLIES, REQUESTS

GROUP = "llm-orchestra-workers"
_ONE_POLL_MS = 1000
_T = TypeVar("_T")

_REQUESTS = """
SELECT tenant, id, conversation_id, seq, status, body_hash, body->'messages' AS messages,
    body->'body_ref'->>'file_id' AS body_id, coalesce(user_name, '') AS owner,
    body->>'task_type' AS task_type, fence, tries, losses, error_code,
    CAST(extract(epoch FROM created_at) AS float8) AS created_at,
    CAST(extract(epoch FROM finished_at) AS float8) AS finished_at,
    cancel_requested_at IS NOT NULL AS cancel_requested, deleted_at IS NOT NULL AS deleted,
    src_topic, src_partition, src_offset
FROM requests
"""
_MESSAGES = """
SELECT id, tenant, conversation_id, request_id, role, content, tool_call_id, CAST(output AS text) AS output,
    CAST(parts AS text) AS parts
FROM messages
"""
_OUTBOX = """
SELECT id, tenant, request_id, conversation_id, event_id, value, published_at IS NOT NULL AS published FROM outbox
"""
_DEAD = "SELECT topic, partition, record_offset, reason, request_id FROM dead_letters"
_STALE = "SELECT count(*) AS n FROM workers WHERE lease_until < now() - interval '30 seconds'"
_IDLE = """
SELECT count(*) AS n FROM pg_stat_activity
WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND state_change < now() - interval '5 seconds'
"""
_OPEN = """
SELECT (SELECT count(*) FROM requests WHERE finished_at IS NULL) AS requests,
    (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS replies
"""


async def until_settled(database_url: str, bootstrap: str, seconds: float) -> str | None:
    """Wait until everything is read, ended and published. None; or, after ``seconds``, what is not."""
    database = Database.connect(DatabaseSettings.model_validate({"database_url": database_url}), "faults")
    limit = asyncio.get_running_loop().time() + seconds
    try:
        while problem := await _unsettled(database, bootstrap):
            if asyncio.get_running_loop().time() > limit:
                return problem
            await asyncio.sleep(0.5)
    finally:
        await database.close()
    return None


async def _unsettled(database: Database, bootstrap: str) -> str | None:
    # In this order: records read a moment later have not ended by then.
    starts, ends = await offsets(bootstrap, [REQUESTS.name])
    committed = await _committed(bootstrap)
    if behind := sum(end - max(committed.get(tp, 0), starts[tp]) for tp, end in ends.items()):
        return f"{behind} records are not read"
    try:
        (left,) = await database.run(_OPEN)
    except DatabaseUnavailableError:
        return "Postgres cannot be reached"
    if left.requests or left.replies:
        return f"{left.requests} requests are open, {left.replies} replies unpublished"
    return None


async def collect(
    database_url: str,
    bootstrap: str,
    ledger: Path,
    oracle_log: Path,
    topics: Sequence[str] = (REQUESTS.name,),
    since: float = 0.0,
    home: FileHome | None = None,
) -> Evidence:
    """All that a run left behind. ``topics``: the ingress topics; ``since``: start of the run (seconds since 1970).

    ``home``: where large bodies are kept.

    Older records are left out: a killed broker forgets for up to a minute that they were deleted.
    """
    evidence = Evidence(entries=read_ledger(ledger), calls=read_calls(oracle_log))
    await _read_tables(evidence, database_url, home)
    evidence.log_starts, evidence.log_ends = await offsets(bootstrap, topics)
    evidence.committed = await _committed(bootstrap)
    for topic in topics:
        evidence.records += await dump(bootstrap, topic, record_of, since)
    evidence.replies = await dump(bootstrap, REPLIES.name, _reply, since)
    evidence.events = await dump(bootstrap, EVENTS.name, _event, since)
    evidence.published_dead_letters = await dump(bootstrap, DEAD_LETTERS.name, _dead_letter, since)
    return evidence


def read_calls(path: Path) -> list[Call]:
    """The complete lines of the oracle's log."""
    with path.open(encoding="utf-8") as lines:
        return [call_of(json.loads(line)) for line in lines if line.endswith("\n")]


async def dump(bootstrap: str, topic: str, read: Callable[[Any], _T], since: float = 0.0) -> list[_T]:
    """Every committed record of a topic from ``since`` on, parsed by ``read``."""
    read_any_record()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        parts = await _partitions(bootstrap, [topic])
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        found: list[_T] = []
        while any([await consumer.position(part) < ends[part] for part in parts]):
            polled = await consumer.getmany(timeout_ms=_ONE_POLL_MS)
            records = [record for batch in polled.values() for record in batch]
            found += [read(record) for record in records if record.timestamp >= since * 1000]
        return found
    finally:
        await consumer.stop()


async def offsets(
    bootstrap: str, topics: Sequence[str]
) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
    """First and next offset of each partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        parts = await _partitions(bootstrap, topics)
        consumer.assign(parts)
        starts, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        return {tuple(tp): at for tp, at in starts.items()}, {tuple(tp): at for tp, at in ends.items()}
    finally:
        await consumer.stop()


async def _partitions(bootstrap: str, topics: Sequence[str]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        described = await admin.describe_topics(list(topics))
    finally:
        await admin.close()
    return [TopicPartition(each["topic"], part["partition"]) for each in described for part in each["partitions"]]


async def _committed(bootstrap: str) -> dict[tuple[str, int], int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(GROUP)
        return {(tp.topic, tp.partition): mark.offset for tp, mark in found.items() if mark.offset >= 0}
    finally:
        await admin.close()


async def _read_tables(evidence: Evidence, database_url: str, home: FileHome | None) -> None:
    database = Database.connect(DatabaseSettings.model_validate({"database_url": database_url}), "faults")
    try:
        for row in await database.run(_REQUESTS):
            evidence.requests.append(_request(row, await _large(database, home, row)))
        evidence.messages = [_message(row) for row in await database.run(_MESSAGES)]
        evidence.outbox = [OutboxRow(**row) for row in await database.run(_OUTBOX)]
        evidence.dead_letters = [
            DeadLetter((row.topic, row.partition, row.record_offset), row.reason, row.request_id)
            for row in await database.run(_DEAD)
        ]
        evidence.early_cancels = {row.id for row in await database.run("SELECT id FROM early_cancels")}
        evidence.stale_workers = (await database.run(_STALE))[0].n
        evidence.idle_in_transaction = (await database.run(_IDLE))[0].n
    finally:
        await database.close()


async def _large(database: Database, home: FileHome | None, row: Any) -> Sequence[Mapping[str, Any]] | None:
    """The messages of a large body; None if it is not large."""
    if row.body_id is None:
        return None
    assert home
    file = (await files.named(database, (row.tenant, row.owner), [row.body_id]))[row.body_id]
    text = b"".join([chunk async for chunk in home.get(file.blob, file.start, file.start + file.bytes)])
    messages: Sequence[Mapping[str, Any]] = json.loads(text)["messages"]
    return messages


def _message(row: Any) -> Message:
    read = {name: text and json.loads(text) for name, text in (("output", row.output), ("parts", row.parts))}
    return Message(**{**row, **read})


def _request(row: Any, large: Sequence[Mapping[str, Any]] | None) -> Request:
    fields = dict(row)
    del fields["body_id"], fields["owner"]
    place = tuple(fields.pop(f"src_{name}") for name in ("topic", "partition", "offset"))
    messages = tuple(said(each) for each in large or fields["messages"] or ())
    del fields["messages"]
    instructions: tuple[Said, ...] = (("system", INSTRUCTIONS),) if fields.pop("task_type") and messages else ()
    return Request(**fields, place=place, messages=instructions + messages)


def record_of(record: Any) -> Record:
    """What a record on an ingress topic asks for by the contracts; its signature is not checked."""
    place = (record.topic, record.partition, record.offset)
    at = record.timestamp / 1000
    own = record_id(*place, record.timestamp)
    with suppress(OrchestraError):
        headers = envelope.read_headers(record.headers)
        body = read_record(headers.type, envelope.parse_json(record.value or b""))
        match body:
            case MessageRequested():
                return Record(place, "message", headers.id or body.id or own, body.body_hash(), at)
            case CancelRequested():
                return Record(place, "cancel", body.request_id, at=at)
            case ConversationDeleteRequested():
                return Record(place, "delete", body.conversation_id, at=at)
    return Record(place, "unreadable", at=at)


def _reply(record: Any) -> ReplyRecord:
    value = json.loads(record.value)
    id, source = dict(record.headers)["ce_id"].decode(), value["source"]
    return ReplyRecord(
        (record.topic, record.partition, record.offset),
        UUID(value["request_id"]),
        UUID(value["conversation_id"]),
        id,
        record.value.decode(),
        # Only the reply to a refused record has an id that is not random.
        (source["topic"], source["partition"], source["offset"]) if UUID(id).version == 5 else None,
    )


def _event(record: Any) -> Event:
    value, headers = json.loads(record.value), dict(record.headers)
    kind = headers["ce_type"].decode().rpartition(".")[2]
    place = (record.topic, record.partition, record.offset)
    text, at = (value["text"], value["at"]) if kind == "delta" else ("", 0)
    if kind == "piece" and value["kind"] == "tool_arguments":
        kind, text, at = "delta", value["text"], value["n"] - 1  # The head of the call is a unit, too.
    event_id = headers["ce_id"].decode()
    return Event(place, UUID(record.key.decode()), kind, value["attempt"], text, at, event_id)


def _dead_letter(record: Any) -> DeadLetter:
    # The record may have carried headers of these names too; ours are the last ones.
    headers = dict(record.headers)
    place = (headers[dead.TOPIC].decode(), int(headers[dead.PARTITION]), int(headers[dead.OFFSET]))
    return DeadLetter(place, headers[dead.REASON].decode())

"""Tables of the command line on a terminal of 80 columns."""

import importlib
import inspect
import io
import pkgutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from rich.table import Table

import orchestra.cli
from orchestra.cli import (
    controls,
    conversations,
    dead_letters,
    doctor,
    erase,
    files,
    keys,
    models,
    operations,
    requests,
    status,
)
from orchestra.cli.examine import Finding
from orchestra.cli.terminal import Terminal
from schemas.api.audit import AuditEntry
from schemas.api.conversations import ConversationResource
from schemas.api.erasures import ErasureResource
from schemas.api.files import FileObject
from schemas.api.keys import KeyResource, Scope
from schemas.api.queue import QueueState
from schemas.api.requests import ListedRequest
from schemas.api.stats import Durations, StatsPoint
from schemas.api.topics import TopicList
from schemas.api.workers import WorkerList
from schemas.errors import ErrorCode
from schemas.generation import ModelInfo, ModelList, Price
from schemas.replies import RequestError
from schemas.status import Status
from tests.support.operating import MODEL, QUEUE, TOPICS, WORKERS

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
USER = UUID("5a6d0c5e-4f8e-4d4e-9d0f-0d7d9b0c1a2b")


def _status() -> Table:
    parts = [
        {"name": "gateway-10", "state": "restarting", "pid": 4194304, "address": "http://127.0.0.1:65535"},
        {"name": "model", "state": "ready", "pid": None, "address": "http://127.0.0.1:65535/v1"},
    ]
    return status._table({"status": {"state": "degraded"}, "parts": parts})


def _models() -> Table:
    model = ModelInfo(
        name="gemini-2.5-flash-lite", aliases=("llama3",), provider="openai_compatible", context_tokens=1_000_000,
        max_output_tokens=131_072, price=Price(input=0.15, output=1.25), fallbacks=("quick",), reachable=False,
    )  # fmt: skip
    return models._table(ModelList(data=[model], default="llama3", other=model))


def _keys() -> Table:
    made: dict[str, Any] = dict.fromkeys(("created_at", "expires_at", "last_used_at", "revoked_at"), NOON)
    scopes = [Scope.ADMIN, Scope.READ, Scope.WRITE]
    return keys._table([KeyResource(id="a1b2c3d4e5f6", name="nightly import", user_id=USER, scopes=scopes, **made)])


def _dead_letters() -> Table:
    letter = {
        "id": 123456, "reason": "idempotency_key_reused", "topic": "llm.requests", "partition": 31, "offset": 123456789,
        "value_bytes": 1048576, "detail": "The header correlation_id must be shorter than 200 characters.",
        "created_at": NOON.isoformat(), "edited_at": NOON.isoformat(), "replayed_at": NOON.isoformat(),
    }  # fmt: skip
    return dead_letters._table([letter])


def _doctor() -> Table:
    return doctor._table([
        Finding("default model", "llama3 is unknown", "set LLM_MODEL to one of them, or add it to MODELS_FILE"),
        Finding("Kafka", "kafka.internal.example:19092: KafkaConnectionError",
                "KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the SASL settings must match a reachable broker"),
        Finding("topics", "llm.dead-letters: 32 partitions, replication factor 3"),
    ])  # fmt: skip


def _files() -> Table:
    file = FileObject(
        id="file-6a3f0b1c2d4e5f60718293a4b5c6d7e8", bytes=26_214_400, created_at=1769860798, expires_at=1772452798,
        filename="quarterly-report.pdf", purpose="user_data", owner="key:nightly",
    )  # fmt: skip
    return files._table([file])


def _conversations() -> Table:
    made = ConversationResource(
        id=USER, created_at=NOON, metadata={"topic": "logs"}, open_requests=[UUID(int=1), UUID(int=2)], branch_of=USER
    )
    return conversations._table([made])


def _audit() -> Table:
    before, after = {"status": "pending", "priority": 5}, {"status": "pending", "priority": 9}
    entry = AuditEntry(
        id=4711, created_at=NOON, actor=f"user:{USER}", action="request.change", target=f"requests/{USER}",
        before=before, after=after, trace_id=None,
    )  # fmt: skip
    return controls._table([entry])


def _erasures() -> Table:
    counts = dict.fromkeys(("conversations", "messages", "requests", "files", "dead_letters"), 1_000_000)
    erasure = ErasureResource(
        id=USER, status="done", counts=counts, requested_at=NOON, finished_at=NOON, topics_free_at={},
    )  # fmt: skip
    return erase._table([erasure])


def _requests() -> Table:
    row = ListedRequest(
        id=USER, status=Status.IN_PROGRESS, model=MODEL, owner="ada", priority=5, attempts=12, created_at=NOON,
        started_at=NOON + timedelta(seconds=119), finished_at=NOON + timedelta(hours=47),
        last_error=RequestError(code=ErrorCode.RATE_LIMITED, detail="not now"),
    )  # fmt: skip
    return requests._table([row])


def _stats(by: str | None) -> Table:
    times = Durations(mean=1.0, p50=59.9, p95=7100.0, p99=9000.0)
    point = StatsPoint(
        at=NOON, key=by and MODEL, requests=4210, completed=4000, failed=200, cancelled=5, expired=5,
        input_tokens=8_123_456, output_tokens=912_345, cost=123.45, queue_seconds=times, model_seconds=times,
    )  # fmt: skip
    return operations._stats([point], by)  # type: ignore[arg-type]


# By module and name. The tables of the queue are those of a gateway that answers as `tests.support.operating` says.
TABLES: dict[str, list[Callable[[], Table]]] = {
    "status._table": [_status],
    "models._table": [_models],
    "keys._table": [_keys],
    "dead_letters._table": [_dead_letters],
    "doctor._table": [_doctor],
    "files._table": [_files],
    "conversations._table": [_conversations],
    "controls._table": [_audit],
    "erase._table": [_erasures],
    "requests._table": [_requests],
    "operations._by_priority": [lambda: operations._by_priority(QueueState.model_validate(QUEUE).by_priority)],
    "operations._by_model": [lambda: operations._by_model(QueueState.model_validate(QUEUE).by_model)],
    "operations._next": [lambda: operations._next(QueueState.model_validate(QUEUE).head)],
    "operations._workers": [lambda: operations._workers(WorkerList.model_validate(WORKERS).data)],
    "operations._topics": [lambda: operations._topics(TopicList.model_validate(TOPICS).data)],
    "operations._stats": [lambda: _stats(None), lambda: _stats("model")],
}
# What tables are made with.
MAKERS = {"terminal.plain_table", "operations._depth"}


def test_every_table_is_looked_at() -> None:
    """Every function of the command line that makes a table has a case here."""
    made = set()
    for each in pkgutil.iter_modules(orchestra.cli.__path__):
        if each.name != "__main__":
            module = importlib.import_module(f"orchestra.cli.{each.name}")
            functions = [value for _, value in inspect.getmembers(module, inspect.isfunction)]
            own = [value for value in functions if value.__module__ == module.__name__]
            made |= {f"{each.name}.{value.__name__}" for value in own if value.__annotations__.get("return") is Table}

    assert made - MAKERS == TABLES.keys()


@pytest.mark.parametrize("name", TABLES)
def test_no_word_is_broken_at_80_columns(name: str) -> None:
    """Every word of every cell stands whole on one line, and no line is longer than the terminal is wide."""
    for table in TABLES[name]:
        made = table()
        file = io.StringIO()
        Terminal(file=file, width=80).print(made)
        words = {word for column in made.columns for cell in column.cells for word in _shown(cell).split()}

        assert max(map(len, file.getvalue().splitlines())) <= 80
        assert {word for word in words if word not in file.getvalue()} == set()


def _shown(cell: Any) -> str:
    console = Terminal(file=io.StringIO(), width=1000)
    return console.render_str(cell).plain if isinstance(cell, str) else str(cell)

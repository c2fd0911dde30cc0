"""Tables of the command line on a terminal of 80 columns."""

import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from rich.table import Table

from orchestra.cli import dead_letters, doctor, keys, models, status
from orchestra.cli.examine import Finding
from orchestra.cli.terminal import Terminal
from schemas.api.keys import KeyResource, Scope
from schemas.generation import ModelInfo, ModelList, Price

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


@pytest.mark.parametrize("table", [_status, _models, _keys, _dead_letters, _doctor])
def test_no_word_is_broken_at_80_columns(table: Any) -> None:
    """Every word of every cell stands whole on one line, and no line is longer than the terminal is wide."""
    made: Table = table()
    file = io.StringIO()
    Terminal(file=file, width=80).print(made)
    words = {word for column in made.columns for cell in column.cells for word in _shown(cell).split()}

    assert max(map(len, file.getvalue().splitlines())) <= 80
    assert {word for word in words if word not in file.getvalue()} == set()


def _shown(cell: Any) -> str:
    console = Terminal(file=io.StringIO(), width=1000)
    return console.render_str(cell).plain if isinstance(cell, str) else str(cell)

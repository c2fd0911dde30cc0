"""`orchestra erase` against a gateway that follows a script, and `orchestra rewind` where it cannot work."""

from typing import Any
from uuid import uuid4

from tests.support.command_line import orchestra
from tests.support.scripted_gateway import ScriptedGateway

ID = str(uuid4())


def erasure(status: str, **counts: int) -> dict[str, Any]:
    """An erasure, as a gateway shows it."""
    at = "2026-01-31T12:00:00Z"
    return {
        "id": None if status == "counted" else ID, "status": status, "counts": counts, "requested_at": at,
        "finished_at": at if status == "done" else None, "topics_free_at": {"llm.requests": "2026-02-08T16:00:00Z"},
    }  # fmt: skip


async def test_a_dry_run_only_counts(script: ScriptedGateway) -> None:
    """It prints what there is, and when topics will be free of it; nothing else is called."""
    script.answers = {"POST /v1/erasures": erasure("counted", conversations=2, messages=10_000)}

    done = await script.orchestra("erase", "key:billing", "--dry-run")

    assert (0, [("POST /v1/erasures", {"owner": "key:billing", "dry_run": True})]) == (done.status, script.asked)
    assert "there are: 2 conversations, at least 10000 messages\nllm.requests is free of it at " in done.output


async def test_it_waits_until_all_is_gone(script: ScriptedGateway) -> None:
    """After the count it erases, looks until the erasure is done, and prints what was deleted."""
    script.answers = {
        "POST /v1/erasures": [erasure("counted", messages=4), erasure("running")],
        f"GET /v1/erasures/{ID}": [erasure("running", messages=2), erasure("done", messages=10_004)],
    }

    done = await script.orchestra("erase", "ann")

    assert 0 == done.status
    assert [{"owner": "ann", "dry_run": True}, {"owner": "ann"}] == [sent for name, sent in script.asked if sent]
    assert done.output.startswith("deleted: 10004 messages\n")


async def test_what_is_refused_is_said(script: ScriptedGateway) -> None:
    """A refusal of the gateway is shown, and the exit code is 1."""
    script.answers = {"POST /v1/erasures": 403}

    done = await script.orchestra("erase", "ann")

    assert (1, "because: of this\n") == (done.status, done.stderr)


async def test_nothing_is_rewound_without_a_database() -> None:
    """`orchestra rewind` says what it needs: the database that was restored."""
    done = await orchestra("rewind", DATABASE_URL="")

    assert 1 == done.status
    assert "DATABASE_URL is not set" in done.stderr


async def test_a_database_that_is_away_is_named() -> None:
    """If Kafka or Postgres cannot be reached, one line says which, without a password."""
    done = await orchestra(
        "rewind", DATABASE_URL="postgres://u:secret@127.0.0.1:1/x", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1",
        ORCHESTRA_SECRET="s" * 32,
    )  # fmt: skip

    assert 1 == done.status
    assert "Kafka at 127.0.0.1:1" in done.stderr
    assert "secret" not in done.stderr

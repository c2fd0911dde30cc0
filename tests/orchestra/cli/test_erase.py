"""`orchestra erase` against a gateway that follows a script, and `orchestra rewind` where it cannot work."""

import asyncio
import json
import re
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from orchestra.cli.main import build
from tests.support.command_line import orchestra
from tests.support.operating import WORKERS
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


async def test_erasures_are_listed(script: ScriptedGateway) -> None:
    """A line for each says since when, whether it is done, and what has been deleted, but not whose it was."""
    page = {"data": [erasure("running", messages=2), erasure("done")], "next": None}
    script.answers = {"GET /v1/erasures": [page, page]}

    shown, raw = await script.orchestra("erasures"), await script.orchestra("erasures", "--json")

    assert (0, 0) == (shown.status, raw.status)
    assert ["running", "2 messages", "done", "nothing"] == re.findall("running|done|2 messages|nothing", shown.output)
    assert ["running", "done"] == [each["status"] for each in json.loads(raw.output)["data"]]


async def test_what_is_accepted_is_said_at_once(script: ScriptedGateway) -> None:
    """The erasure's id goes to stderr, and the result on stdout stays JSON."""
    script.answers = {"POST /v1/erasures": [erasure("counted"), erasure("done", messages=4)]}

    done = await script.orchestra("erase", "ann", "--json")

    assert {"messages": 4} == json.loads(done.output)["counts"]
    assert f"erasure {ID} is accepted" in done.stderr


async def test_an_erasure_outlives_the_connection(script: ScriptedGateway) -> None:
    """If it can no longer be looked at, it is said that it goes on, and how to look again."""
    script.answers = {
        "POST /v1/erasures": [erasure("counted"), erasure("running")], f"GET /v1/erasures/{ID}": 502,
    }  # fmt: skip

    done = await script.orchestra("erase", "ann b")

    assert 1 == done.status
    assert "the erasure goes on: `" in done.stderr
    assert f"erase 'ann b'` waits for it again, `GET /v1/erasures/{ID}` shows it\n" in done.stderr


async def test_an_erasure_outlives_the_command(script: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the waiting, and says that the erasure goes on."""

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    script.answers = {"POST /v1/erasures": [erasure("counted"), erasure("running")]}
    monkeypatch.setattr("orchestra.cli.erase.time.sleep", interrupted)
    words = ["erase", "ann", "--gateway", script.url]

    done = await asyncio.to_thread(CliRunner().invoke, build(), words)

    assert 0 != done.exit_code
    assert f"`GET /v1/erasures/{ID}` shows it\n" in done.stderr


async def test_without_a_worker_it_says_who_does_the_work(
    script: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is deleted and no worker is alive, it says so once, and waits on."""
    script.answers = {
        "POST /v1/erasures": [erasure("counted"), erasure("running")],
        f"GET /v1/erasures/{ID}": [erasure("running")] * 20 + [erasure("done")],
        "GET /v1/workers": {**WORKERS, "data": []},
    }
    monkeypatch.setattr("orchestra.cli.erase._POLL_SECONDS", 0.0)
    words = ["erase", "ann", "--gateway", script.url]

    done = await asyncio.to_thread(CliRunner().invoke, build(), words)

    assert (0, 1) == (done.exit_code, done.stderr.count("no worker is alive, and workers do the work"))


async def test_the_question_names_the_owner(script: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal it asks about this owner, and without a yes nothing is deleted."""
    script.answers = {"POST /v1/erasures": erasure("counted")}
    monkeypatch.setattr("orchestra.cli.erase.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    words = ["erase", "ann", "--gateway", script.url]

    done = await asyncio.to_thread(CliRunner().invoke, build(), words, input="n\n")

    assert "Delete all that ann has?" in done.stderr
    assert [{"owner": "ann", "dry_run": True}] == [sent for _, sent in script.asked]


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

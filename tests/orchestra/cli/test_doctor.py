"""`orchestra doctor` finds what is wrong, and never tells a secret."""

import asyncio
import secrets
from uuid import uuid4

import pytest

from orchestra.cli import examine as cli_examine
from orchestra.cli.examine import Finding, LlmSettings, _clock, examine
from orchestra.cli.migrate import dbmate
from orchestra.settings import DatabaseSettings, FileSettings, KafkaSettings
from orchestra.store import leases
from orchestra.store.database import Database, server_settings
from orchestra.store.progress import Standstill, Why, note_progress
from schemas.topics import REQUESTS
from tests.support.poolers import Habits, open_pooler, open_refusing
from tests.support.ports import free_port
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

SECRET = secrets.token_hex(32)


def to_mend(findings: list[Finding]) -> set[str]:
    return {finding.check for finding in findings if finding.fix}


def told(findings: list[Finding], check: str) -> str:
    return next(finding.result for finding in findings if finding.check == check)


def database(url: str) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"database_url": url})


async def test_all_is_well(services: Services, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete deployment has nothing to fix, and its secret and password are in no finding."""
    monkeypatch.setenv("ORCHESTRA_SECRET", SECRET)
    llm = await services.llm()
    url = await stack.fresh_database()
    store = Database.connect(database(url), "a worker")
    await leases.register(store, uuid4())
    await store.close()
    findings = await examine(stack.kafka_settings, database(url), LlmSettings(llm_service_url=llm.url), FileSettings())

    assert to_mend(findings) == set()
    assert "1 alive" in told(findings, "workers")
    assert "every topic is read" == told(findings, "intake")
    assert f"llm.requests: {REQUESTS.partitions} partitions, replication factor 1" in told(findings, "topics")
    assert {finding.check for finding in findings} >= {"Kafka's version", "topics", "migrations", "clock", "secret"}
    assert SECRET not in str(findings)
    assert url.split(":")[2].split("@")[0] not in str(findings)


async def test_without_a_worker_no_topic_is_read(stack: Stack) -> None:
    """While no worker is alive it is not said that topics are read, but how to start one, by hand and in a stack."""
    url = await stack.fresh_database()

    findings = await examine(stack.kafka_settings, database(url), LlmSettings(), FileSettings())

    assert "intake" not in {finding.check for finding in findings}
    fix = next(finding.fix for finding in findings if finding.check == "workers")
    assert "no topic is read" in fix
    assert "`orchestra worker`" in fix
    assert "`orchestra scale workers 1`" in fix


async def test_a_missing_table_is_found(stack: Stack) -> None:
    """Where all migrations are noted and a table is missing, as after half a restore, that is the finding."""
    url = await stack.fresh_database()
    store = Database.connect(database(url), "a test")
    await store.run("DROP TABLE workers CASCADE")
    await store.close()

    findings = await examine(stack.kafka_settings, database(url), LlmSettings(), FileSettings())

    assert "tables" in to_mend(findings)
    assert "orchestra migrate" in next(finding.fix for finding in findings if finding.check == "tables")


async def test_a_read_only_postgres_is_found(stack: Stack) -> None:
    """A standby, or what a provider made read-only, can be read, and is no database of this system."""
    url = await stack.fresh_database()
    store = Database.connect(database(url), "an operator")
    await store.run(f"ALTER DATABASE {url.rpartition('/')[2].partition('?')[0]} SET default_transaction_read_only = on")
    await store.close()

    findings = await examine(stack.kafka_settings, database(url), LlmSettings(), FileSettings())

    assert "read-only" in next(finding.fix for finding in findings if finding.check == "Postgres")


async def test_a_table_that_is_locked_is_found(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sessions wait for a lock, for example of VACUUM FULL, that is the finding."""
    monkeypatch.setattr(cli_examine, "_LOCKED_SECONDS", 0)
    url = await stack.fresh_database()
    store = Database.connect(database(url), "an operator")
    async with store.transaction() as tx:
        await tx.run("LOCK TABLE requests IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(store.run("SELECT count(*) FROM requests"))
        locked = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        await eventually(lambda: store.run(locked))
        findings = await examine(stack.kafka_settings, database(url), LlmSettings(), FileSettings())
    await waiting
    await store.close()

    assert "locks" in to_mend(findings)
    assert told(findings, "locks").startswith("1 sessions")


async def test_a_topic_that_stands_still_is_found(stack: Stack) -> None:
    """With the reason, and with what to do about it."""
    url = await stack.fresh_database()
    store = Database.connect(database(url), "a worker")
    await note_progress(store, [Standstill(Why.HELD, "one").mark, Standstill(Why.STALLED, "two").mark])
    await store.close()

    findings = await examine(stack.kafka_settings, database(url), LlmSettings(), FileSettings())

    assert "intake" in to_mend(findings)
    assert ["one: paused: ", "two: a produc"] == [line[:13] for line in told(findings, "intake").splitlines()]


async def test_what_is_missing_is_found(services: Services, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short secret, a missing migration and an unknown model are each told with a way to fix them."""
    monkeypatch.setenv("ORCHESTRA_SECRET", "short")
    llm = await services.llm()
    url = await stack.fresh_database()
    dbmate("down", url=url)
    settings = LlmSettings(llm_service_url=f"{llm.url}/generate", llm_model="nobody")
    findings = await examine(stack.kafka_settings, database(url), settings, FileSettings())

    assert to_mend(findings) == {"secret", "migrations", "default model"}
    complete = await examine(stack.kafka_settings, database(await stack.fresh_database()), settings, FileSettings())
    assert to_mend(complete) == {"secret", "workers", "default model"}
    assert "short" not in str(findings).replace("shorter", "")


@pytest.mark.parametrize(("lost", "fix"), [({}, "SET statement_timeout"), (None, "pgbouncer.ini")])
async def test_a_pooler_that_cannot_be_used(stack: Stack, lost: dict[str, str] | None, fix: str) -> None:
    """A pooler that loses or refuses settings is one finding, with the remedy."""
    opened = open_refusing(stack.database_url) if lost is None else open_pooler(stack.database_url, Habits(lost))
    async with opened as url:
        findings = await examine(stack.kafka_settings, database(url), LlmSettings(), FileSettings())

    assert "pooler" in to_mend(findings)
    assert fix in next(finding.fix for finding in findings if finding.check == "pooler")


async def test_an_address_for_workers_is_well(stack: Stack) -> None:
    """The settings that a pooler gives to workers are as good as those for gateways."""
    as_worker = Habits(server_settings("x", takes_first=True))
    async with open_pooler(await stack.fresh_database(), as_worker) as url:
        findings = await examine(stack.kafka_settings, database(url), LlmSettings(), FileSettings())

    assert {"pooler", "Postgres", "migrations"} & to_mend(findings) == set()


async def test_nothing_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing running, each address is reported, and no wait is endless."""
    monkeypatch.delenv("ORCHESTRA_SECRET", raising=False)
    port = free_port()
    findings = await examine(
        KafkaSettings(kafka_bootstrap_servers=f"127.0.0.1:{port}"),
        database(f"postgres://user:hidden@127.0.0.1:{port}/x"),
        LlmSettings(llm_service_url=f"http://127.0.0.1:{port}"),
        FileSettings(files_url="file:///nowhere/at/all"),
    )

    assert to_mend(findings) == {"secret", "Kafka", "Postgres", "LLM service", "files"}
    results = {finding.check: finding.result for finding in findings}
    assert all(f"127.0.0.1:{port}" in results[check] for check in ("Kafka", "Postgres", "LLM service"))
    assert "hidden" not in str(findings)


@pytest.mark.parametrize(("there", "well"), [(99.0, True), (100.5, True), (110.0, False), (90.0, False)])
def test_clocks_apart(there: float, *, well: bool) -> None:
    """Clocks may be two seconds apart, counted from the ends of the question."""
    assert (_clock(100.0, there, 101.0).fix == "") is well

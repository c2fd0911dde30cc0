"""The checks of ``orchestra doctor``."""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from aiokafka.errors import KafkaError
from pydantic import Field, SecretStr, ValidationError

from orchestra.cli.environment import is_address
from orchestra.cli.migrate import dbmate
from orchestra.cli.options import WORKER_STARTER
from orchestra.files.home import FilesUnavailableError
from orchestra.files.opening import open_home
from orchestra.kafka.topics import Admin
from orchestra.kafka.unreachable import KafkaUnreachableError
from orchestra.setting_names import suspects
from orchestra.settings import DatabaseSettings, FileSettings, KafkaSettings, SecretSettings, SettingsGroup
from orchestra.store.database import READ_ONLY, Database, DatabaseUnavailableError, DatabaseUnsuitableError, PoolerError
from orchestra.store.progress import Why, standstills
from schemas.generation import ModelList
from schemas.invalid import problems_of
from schemas.topics import TOPICS

_MIN_POSTGRES = 15
_LOCKED_SECONDS = 5
_MAX_CLOCK_SECONDS = 2.0
# Why intake of a topic is stopped: what was found, and what to do.
_STANDS_STILL = {
    Why.HELD: ("paused: only dead letters came from it", "see `orchestra dead-letters list`"),
    Why.STALLED: (
        "a producer's transaction is open, and Kafka returns nothing after it",
        "abort it with `kafka-transactions.sh`; it ends by itself after `transaction.max.timeout.ms`",
    ),
}
_FOR_OTHERS = "this address suits gateways and commands; one for workers has `enable_bitmapscan = off`"
_FOR_WORKERS = "this address suits workers; one for gateways and commands has `enable_bitmapscan = on`"


class LlmSettings(SettingsGroup):
    """Where the LLM service is, from the same settings as the workers'."""

    llm_service_url: str = Field("http://127.0.0.1:8082", description="Base URL, or full URL ending in `/generate`.")
    llm_service_token: SecretStr | None = Field(None, description="Sent as a bearer token.")
    llm_model: str = Field("llama3", description="Model for requests that name none.")


@dataclass(frozen=True)
class Finding:
    """The result of one check. ``fix``: what to do; empty if all is well. ``works``: it is only a warning."""

    check: str
    result: str
    fix: str = ""
    works: bool = False


async def examine(
    kafka: KafkaSettings, database: DatabaseSettings, llm: LlmSettings, files: FileSettings
) -> list[Finding]:
    """Run all checks concurrently. Findings contain no secrets."""
    groups = await asyncio.gather(
        _settings(), _secret(), _kafka(kafka), _postgres(database), _models(llm), _files(files)
    )
    return [finding for group in groups for finding in group]


async def _settings() -> list[Finding]:
    if not (found := suspects(os.environ)):
        return [Finding("settings", "no variable looks like a misspelt one")]
    fix = "correct the name, or ignore this if another program reads it"
    return [Finding("settings", "\n".join(map(str, found)), fix, works=True)]


async def _secret() -> list[Finding]:
    try:
        secrets = SecretSettings.model_validate({}).secrets
    except ValidationError as error:
        wrong = "; ".join(each["msg"] for each in problems_of(error))
        fix = "set ORCHESTRA_SECRET to the output of `openssl rand -hex 32`, the same for all gateways and workers"
        return [Finding("secret", wrong, fix)]
    return [Finding("secret", f"{len(secrets[0])} bytes{', and a previous one' if len(secrets) > 1 else ''}")]


async def _files(settings: FileSettings) -> list[Finding]:
    home = open_home(settings)
    if home is None:
        return [Finding("files", "not offered: FILES_URL is not set")]
    try:
        await home.check()
    except FilesUnavailableError as error:
        fix = (
            "FILES_URL must name a folder that gateways and workers see, or a bucket that they can reach; "
            "the first gateway that starts marks it"
        )
        return [Finding("files", str(error), fix)]
    return [Finding("files", f"{settings.files_url}: can be reached")]


async def _kafka(settings: KafkaSettings) -> list[Finding]:
    where = settings.kafka_bootstrap_servers
    try:
        async with Admin(settings) as admin:
            brokers, recent = await admin.brokers(), await admin.is_recent()
            problems, sizes = await admin.wrong_settings(TOPICS), await admin.sizes(TOPICS)
    except KafkaUnreachableError as error:
        return [Finding("Kafka", f"{where}: cannot be used", error.told)]
    except (KafkaError, OSError) as error:
        fix = "KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the SASL settings must match a reachable broker"
        return [Finding("Kafka", f"{where}: {type(error).__name__}", fix)]
    return [
        Finding("Kafka", f"{where}: {brokers} broker(s)"),
        Finding("Kafka's version", "3.7 or newer" if recent else "too old", "" if recent else "use Kafka 3.7 or newer"),
        _topics(problems, sizes),
    ]


def _topics(problems: list[str], sizes: list[tuple[str, int, int]]) -> Finding:
    if problems:
        fix = "`orchestra topics` creates missing topics; change settings with Kafka's own tools"
        return Finding("topics", "\n".join(problems), fix)
    lines = [f"{name}: {partitions} partitions, replication factor {copies}" for name, partitions, copies in sizes]
    return Finding("topics", "\n".join(lines))


async def _postgres(settings: DatabaseSettings) -> list[Finding]:
    try:
        return await _postgres_for(settings, workers=False)
    except PoolerError as error:
        # A pooler gives workers and gateways different settings, under two addresses.
        with suppress(PoolerError):
            return await _postgres_for(settings, workers=True)
        return [Finding("pooler", error.reason, error.fix)]


async def _postgres_for(settings: DatabaseSettings, *, workers: bool) -> list[Finding]:
    """Check Postgres with the settings of workers, or those of all others. Raises ``PoolerError``."""
    two = settings.model_copy(update={"database_pool_size": 2})
    database = Database.connect(two, "orchestra doctor", takes_first=workers)
    try:
        before = time.time()
        rows = await database.run(
            "SELECT current_setting('server_version_num')::int / 10000 AS version,"
            " extract(epoch FROM clock_timestamp())::float AS now,"
            " current_setting('transaction_read_only')::bool AS read_only,"
            " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query_start < now() - make_interval(secs => :seconds)) AS locked",
            seconds=_LOCKED_SECONDS,
        )
        after = time.time()
        if rows[0].read_only:
            raise DatabaseUnsuitableError(READ_ONLY)
        found = [_version(rows[0].version), _clock(before, rows[0].now, after), _locks(rows[0].locked)]
        if await database.shares_sessions():
            found.append(Finding("pooler", _FOR_WORKERS if workers else _FOR_OTHERS))
        found.append(await _migrations(settings))
        return found if found[-1].fix else [*found, *await _workers(database)]
    except PoolerError:
        raise
    except DatabaseUnsuitableError as error:
        return [Finding("Postgres", "can be reached", error.told)]
    except DatabaseUnavailableError as error:
        where = urlsplit(settings.database_url.get_secret_value()).netloc.rpartition("@")[2]
        fix = "DATABASE_URL must point to a reachable Postgres, with a valid user and password"
        return [Finding("Postgres", f"{where}: {error}", fix)]
    finally:
        await database.close()


async def _workers(database: Database) -> list[Finding]:
    try:
        rows = await database.run("SELECT count(*) AS living FROM workers WHERE lease_until > now()")
        found = await standstills(database)
    except DatabaseUnsuitableError as error:
        return [Finding("tables", "some are missing", error.told)]
    except DatabaseUnavailableError as error:
        return [Finding("workers", str(error), "run it again: Postgres answered a moment ago")]
    living = rows[0].living
    fix = "" if living else f"no topic is read and no request is answered: start one with {WORKER_STARTER}"
    alive = Finding("workers", f"{living} alive", fix)
    if not found:
        return [alive, Finding("intake", "every topic is read")] if living else [alive]
    lines = [f"{each.topic}: {_STANDS_STILL[each.why][0]}" for each in found]
    what_to_do = "; ".join(dict.fromkeys(_STANDS_STILL[each.why][1] for each in found))
    return [alive, Finding("intake", "\n".join(lines), what_to_do)]


def _version(version: int) -> Finding:
    fix = "" if version >= _MIN_POSTGRES else f"use Postgres {_MIN_POSTGRES} or newer"
    return Finding("Postgres", f"version {version}", fix)


def _locks(waiting: int) -> Finding:
    fix = "pg_blocking_pids() says which session holds it, such as VACUUM FULL or a migration" if waiting else ""
    return Finding("locks", f"{waiting} sessions have waited for a lock for {_LOCKED_SECONDS} s or longer", fix)


def _clock(before: float, there: float, after: float) -> Finding:
    apart = max(before - there, there - after, 0.0)
    fix = "" if apart <= _MAX_CLOCK_SECONDS else "synchronise both clocks with NTP"
    return Finding("clock", f"{apart:.1f} s off the database's", fix)


async def _migrations(settings: DatabaseSettings) -> Finding:
    url = settings.database_url.get_secret_value()
    done = await asyncio.to_thread(dbmate, "status", "--exit-code", url=url, wait_seconds=5)
    summary = [line.strip() for line in done.stdout.splitlines() if line.startswith(("Applied", "Pending"))]
    return Finding("migrations", ", ".join(summary) or "unknown", "run `orchestra migrate`" if done.returncode else "")


async def _models(settings: LlmSettings) -> list[Finding]:
    base = settings.llm_service_url.rstrip("/").removesuffix("/generate")
    if not is_address(base):
        return [
            Finding("LLM service", "has no valid address", "set LLM_SERVICE_URL to one such as http://127.0.0.1:8082")
        ]
    token = settings.llm_service_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    if token and not (token.get_secret_value().isascii() and token.get_secret_value().isprintable()):
        return [Finding("LLM service", "the token cannot be sent", "LLM_SERVICE_TOKEN must be printable ASCII")]
    try:
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=5) as client:
            listing = ModelList.model_validate_json((await client.get("/models")).raise_for_status().content)
    except (httpx.HTTPError, httpx.InvalidURL, ValidationError) as error:
        fix = "LLM_SERVICE_URL and LLM_SERVICE_TOKEN must match a reachable LLM service; `orchestra llm` starts one"
        return [Finding("LLM service", f"{base}: {type(error).__name__}", fix)]
    names = {name for model in listing.data for name in (model.name, *model.aliases)}
    known = settings.llm_model in names or listing.other is not None
    fix = "" if known else "set LLM_MODEL to one of them, or add it to MODELS_FILE"
    return [
        Finding("LLM service", f"{base}: {', '.join(sorted(names))}"),
        Finding("default model", f"{settings.llm_model} is {'known' if known else 'unknown'}", fix),
    ]

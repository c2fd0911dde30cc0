"""The checks of ``orchestra doctor``."""

import asyncio
import time
from dataclasses import dataclass

import httpx
from aiokafka.errors import KafkaError
from pydantic import Field, SecretStr, ValidationError

from orchestra.cli.environment import is_address
from orchestra.cli.migrate import dbmate
from orchestra.kafka.topics import Admin
from orchestra.settings import DatabaseSettings, KafkaSettings, Piece, SecretSettings
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.progress import Why, standstills
from schemas.generation import ModelList
from schemas.topics import TOPICS

_LEAST_POSTGRES = 15
_MOST_CLOCK_SECONDS = 2.0
# Why a topic stands still: what is seen, and what to do.
_STANDS_STILL = {
    Why.HELD: ("not read for now, nothing but dead letters came from there", "see `orchestra dead-letters list`"),
    Why.STALLED: (
        "a transaction of some producer is open, and Kafka shows nothing behind it",
        "abort it with `kafka-transactions.sh`; it ends by itself after `transaction.max.timeout.ms`",
    ),
}


class LlmSettings(Piece):
    """Where the LLM service is, as the workers are told."""

    llm_service_url: str = Field("http://127.0.0.1:8082", description="Base URL, or full URL ending in `/generate`.")
    llm_service_token: SecretStr | None = Field(None, description="Sent as a bearer token.")
    llm_model: str = Field("llama3", description="The model of requests that name none.")


@dataclass(frozen=True)
class Finding:
    """What one check found; ``mend`` is empty when all is well."""

    check: str
    result: str
    mend: str = ""


async def examine(kafka: KafkaSettings, database: DatabaseSettings, llm: LlmSettings) -> list[Finding]:
    """Run all checks at the same time. Nothing secret is in what they find."""
    groups = await asyncio.gather(_secret(), _kafka(kafka), _postgres(database), _models(llm))
    return [finding for group in groups for finding in group]


async def _secret() -> list[Finding]:
    try:
        secrets = SecretSettings.model_validate({}).secrets
    except ValidationError as error:
        wrong = "; ".join(str(each["msg"]) for each in error.errors(include_input=False, include_url=False))
        mend = "set ORCHESTRA_SECRET to what `openssl rand -hex 32` prints, the same for all gateways and workers"
        return [Finding("secret", wrong, mend)]
    return [Finding("secret", f"{len(secrets[0])} bytes{', and an old one' if len(secrets) > 1 else ''}")]


async def _kafka(settings: KafkaSettings) -> list[Finding]:
    where = settings.kafka_bootstrap_servers
    try:
        async with Admin(settings) as admin:
            brokers, recent = await admin.brokers(), await admin.is_recent()
            problems, sizes = await admin.wrong_settings(TOPICS), await admin.sizes(TOPICS)
    except (KafkaError, OSError) as error:
        mend = "KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the SASL settings must fit a broker in reach"
        return [Finding("Kafka", f"{where}: {type(error).__name__}", mend)]
    return [
        Finding("Kafka", f"{where}: {brokers} broker(s)"),
        Finding("Kafka's version", "3.7 or newer" if recent else "too old", "" if recent else "use Kafka 3.7 or newer"),
        _topics(problems, sizes),
    ]


def _topics(problems: list[str], sizes: list[tuple[str, int, int]]) -> Finding:
    if problems:
        mend = "`orchestra topics` makes what is missing; change the rest with Kafka's own tools"
        return Finding("topics", "\n".join(problems), mend)
    lines = [f"{name}: {partitions} partitions, replication factor {copies}" for name, partitions, copies in sizes]
    return Finding("topics", "\n".join(lines))


async def _postgres(settings: DatabaseSettings) -> list[Finding]:
    database = Database.connect(settings, "orchestra doctor")
    try:
        before = time.time()
        rows = await database.run(
            "SELECT current_setting('server_version_num')::int / 10000 AS version,"
            " extract(epoch FROM clock_timestamp())::float AS now"
        )
        after = time.time()
    except DatabaseUnavailableError as error:
        mend = "DATABASE_URL must name a Postgres in reach, with a user and password that it knows"
        return [Finding("Postgres", str(error), mend)]
    finally:
        await database.close()
    migrations = await _migrations(settings)
    found = [_version(rows[0].version), _clock(before, rows[0].now, after), migrations]
    return found if migrations.mend else [*found, *await _workers(settings)]


async def _workers(settings: DatabaseSettings) -> list[Finding]:
    database = Database.connect(settings, "orchestra doctor")
    try:
        rows = await database.run("SELECT count(*) AS living FROM workers WHERE lease_until > now()")
        found = await standstills(database)
    except DatabaseUnavailableError as error:
        return [Finding("workers", str(error), "look again: Postgres was there a moment ago")]
    finally:
        await database.close()
    living = rows[0].living
    alive = Finding(
        "workers", f"{living} alive", "" if living else "nothing is answered: start one, `orchestra worker`"
    )
    if not found:
        return [alive, Finding("intake", "every topic is read")]
    lines = [f"{each.topic}: {_STANDS_STILL[each.why][0]}" for each in found]
    what_to_do = "; ".join(dict.fromkeys(_STANDS_STILL[each.why][1] for each in found))
    return [alive, Finding("intake", "\n".join(lines), what_to_do)]


def _version(version: int) -> Finding:
    mend = "" if version >= _LEAST_POSTGRES else f"use Postgres {_LEAST_POSTGRES} or newer"
    return Finding("Postgres", f"version {version}", mend)


def _clock(before: float, there: float, after: float) -> Finding:
    apart = max(before - there, there - after, 0.0)
    mend = "" if apart <= _MOST_CLOCK_SECONDS else "keep both clocks right, with NTP"
    return Finding("clock", f"{apart:.1f} s from the database's", mend)


async def _migrations(settings: DatabaseSettings) -> Finding:
    url = settings.database_url.get_secret_value()
    done = await asyncio.to_thread(dbmate, "status", "--exit-code", url=url, wait_seconds=5)
    summary = [line.strip() for line in done.stdout.splitlines() if line.startswith(("Applied", "Pending"))]
    return Finding("migrations", ", ".join(summary) or "unknown", "run `orchestra migrate`" if done.returncode else "")


async def _models(settings: LlmSettings) -> list[Finding]:
    base = settings.llm_service_url.rstrip("/").removesuffix("/generate")
    if not is_address(base):
        return [Finding("LLM service", "is not at any address", "LLM_SERVICE_URL must be as http://127.0.0.1:8082 is")]
    token = settings.llm_service_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    if token and not (token.get_secret_value().isascii() and token.get_secret_value().isprintable()):
        return [Finding("LLM service", "the token cannot be sent", "LLM_SERVICE_TOKEN must be printable ASCII")]
    try:
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=5) as client:
            listing = ModelList.model_validate_json((await client.get("/models")).raise_for_status().content)
    except (httpx.HTTPError, httpx.InvalidURL, ValidationError) as error:
        mend = "LLM_SERVICE_URL and LLM_SERVICE_TOKEN must fit an LLM service in reach: `orchestra llm` runs one"
        return [Finding("LLM service", f"{base}: {type(error).__name__}", mend)]
    names = {name for model in listing.data for name in (model.name, *model.aliases)}
    known = settings.llm_model in names or listing.other is not None
    mend = "" if known else "set LLM_MODEL to one of them, or add it to MODELS_FILE"
    return [
        Finding("LLM service", f"{base}: {', '.join(sorted(names))}"),
        Finding("default model", f"{settings.llm_model} is {'known' if known else 'not known'}", mend),
    ]

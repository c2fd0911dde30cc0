"""Promises of orchestra/settings.py: the environment is read once, clearly, and secrets stay secret."""

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import make_url

from gateway.settings import GatewaySettings
from llm_service.settings import LlmServiceSettings
from orchestra.settings import DatabaseSettings, KafkaSettings, ListenSettings, SecretSettings, SettingsGroup, load
from workers.settings import WorkerSettings

CANARY = "canary-of-32-bytes-or-more-0123456789"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing were set."""
    for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "ORCHESTRA_SECRET", "ORCHESTRA_SECRET_OLD", "HOST"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_is_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are found under their documented names; others are ignored."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:1, b:2,,")
    monkeypatch.setenv("KAFKA_NONSENSE", "1")

    assert ["a:1", "b:2"] == load(KafkaSettings).bootstrap


def test_a_bad_setting_ends_the_process_with_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name and what is wrong, never the value; the exit code is that of a bad configuration."""
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", CANARY)

    with pytest.raises(SystemExit) as ended:
        load(KafkaSettings)

    said = capsys.readouterr().err
    assert (78, 1) == (ended.value.code, len(said.splitlines()))
    assert said.startswith("setting KAFKA_SECURITY_PROTOCOL: ")
    assert CANARY not in said


def test_a_missing_secret_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """There is no default secret."""
    with pytest.raises(SystemExit):
        load(SecretSettings)

    assert "setting ORCHESTRA_SECRET: is required\n" == capsys.readouterr().err


def test_a_short_secret_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer than 32 bytes are too few, for the old one too; the secret itself is not shown."""
    monkeypatch.setenv("ORCHESTRA_SECRET", CANARY)
    monkeypatch.setenv("ORCHESTRA_SECRET_OLD", "canary")

    with pytest.raises(SystemExit):
        load(SecretSettings)

    said = capsys.readouterr().err
    assert "ORCHESTRA_SECRET_OLD" in said
    assert "canary" not in said


def test_the_new_secret_comes_first() -> None:
    """It signs; the old one, where there is one, only verifies."""
    both = SecretSettings.model_validate({"orchestra_secret": "n" * 32, "orchestra_secret_old": "o" * 32})

    assert [b"n" * 32, b"o" * 32] == both.secrets
    assert [b"n" * 32] == SecretSettings.model_validate({"orchestra_secret": "n" * 32}).secrets


def test_no_setting_shows_a_secret() -> None:
    """Printed or logged by mistake, none of them tells its value."""
    values = {
        "orchestra_secret": CANARY,
        "database_url": f"postgres://user:{CANARY}@host/db",
        "kafka_sasl_password": CANARY,
    }
    settings = [piece.model_validate(values) for piece in (KafkaSettings, DatabaseSettings, SecretSettings)]

    assert CANARY not in " ".join(f"{each!r} {each} {each.model_dump_json()}" for each in settings)


@pytest.mark.parametrize(
    ("url", "host", "query"),
    [
        ("postgres://user:p%40ss@host:5433/db", "host", {}),
        ("postgresql://user:p%40ss@host:5433/db?sslmode=disable", "host", {"ssl": "disable"}),
        ("postgres://user:p%40ss@[::1]:5433/db?sslmode=verify-full", "::1", {"ssl": "verify-full"}),
    ],
)
def test_any_postgres_url_becomes_the_drivers(url: str, host: str, query: dict[str, str]) -> None:
    """Both schemes are known; escaped characters and sslmode reach the driver."""
    made = make_url(DatabaseSettings.model_validate({"database_url": url}).driver_url)

    assert "postgresql+asyncpg" == made.drivername
    assert ("user", "p@ss", host, 5433, "db") == (made.username, made.password, made.host, made.port, made.database)
    assert query == dict(made.query)


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "postgres://", "http://host/db", "postgres://host:99999/db", "postgres://host:0/db",
     "postgres://host:canary/db", "postgres://[::1/db", "mysql://host/db"],
)  # fmt: skip
def test_an_address_that_cannot_be_postgres_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """In one line at the start, which does not repeat the password that may be in it."""
    monkeypatch.setenv("DATABASE_URL", url)

    with pytest.raises(SystemExit):
        load(DatabaseSettings)

    said = capsys.readouterr().err
    assert said.startswith("setting DATABASE_URL: ")
    assert (1, False) == (said.count("\n"), "canary" in said)


@pytest.mark.parametrize("url", ["postgresql+asyncpg://host/db", "postgres://user@/db?host=%2Frun", "postgres://host"])
def test_postgres_may_be_named_in_other_ways(url: str) -> None:
    """With a driver's name, by a socket, or without a database."""
    assert (
        "postgresql+asyncpg" == make_url(DatabaseSettings.model_validate({"database_url": url}).driver_url).drivername
    )


@pytest.mark.parametrize(
    "text",
    ["", ",", "kafka", "kafka:9092,other", "::1", "kafka:99999", "kafka:x", "kafka:9092,:1", "PLAINTEXT://kafka:9092"],
)
def test_servers_that_cannot_be_are_refused(text: str) -> None:
    """At the start, not at the first attempt to connect."""
    with pytest.raises(ValidationError, match="must be host:port pairs"):
        KafkaSettings.model_validate({"kafka_bootstrap_servers": text})


SERVICES = (GatewaySettings, WorkerSettings, LlmServiceSettings)
URLS = [
    (piece, name)
    for piece in SERVICES
    for name in piece.model_fields
    if re.search("_url$|_servers$|_hosts$|_origins$", name)
]


@pytest.mark.parametrize(("piece", "name"), URLS)
@pytest.mark.parametrize("address", ["http://host:99999", "http://host:canary", "http://:80", "canary://*"])
def test_no_service_starts_with_an_address_that_cannot_be(piece: type[SettingsGroup], name: str, address: str) -> None:
    """Each setting of each service that names addresses is checked at the start."""
    with pytest.raises(ValidationError) as refused:
        piece.model_validate({"orchestra_secret": "s" * 32, name: address})

    assert [(name,)] == [error["loc"] for error in refused.value.errors()]
    assert "canary" not in refused.value.errors()[0]["msg"]


SASL_SSL = {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "u", "kafka_sasl_password": "p"}


def refused(piece: type[SettingsGroup], given: dict[str, Any]) -> list[tuple[int | str, ...]]:
    """Which settings a group refuses."""
    try:
        piece.model_validate(given)
    except ValidationError as error:
        return [each["loc"] for each in error.errors()]
    return []


def test_tls_is_used_where_the_protocol_says_so(tmp_path: Path) -> None:
    """With certificates checked against the given authority; never otherwise, and a missing file is an error."""
    assert KafkaSettings.model_validate(SASL_SSL | {"kafka_security_protocol": "SASL_PLAINTEXT"}).ssl_context() is None
    context = KafkaSettings.model_validate(SASL_SSL).ssl_context()
    assert context is not None
    assert (True, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)
    with pytest.raises(ValidationError, match="must be a file that this process can read"):
        KafkaSettings.model_validate({"kafka_security_protocol": "SSL", "kafka_ssl_cafile": tmp_path / "none"})


def test_files_of_tls_are_read_at_the_start(tmp_path: Path) -> None:
    """A bundle without a certificate, a key alone and a key of nothing are refused, each by the name of its setting."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    for given, name in (
        ({"kafka_ssl_cafile": empty}, "kafka_ssl_cafile"),
        ({"kafka_ssl_keyfile": empty}, "kafka_ssl_keyfile"),
        ({"kafka_ssl_certfile": empty}, "kafka_ssl_keyfile"),
        ({"kafka_ssl_certfile": empty, "kafka_ssl_keyfile": empty}, "kafka_ssl_keyfile"),
    ):
        assert [(name,)] == refused(KafkaSettings, given)


def test_sasl_needs_a_user_and_a_password() -> None:
    """Protocols with SASL name both settings if they are missing or empty; the others need neither."""
    both = [("kafka_sasl_username",), ("kafka_sasl_password",)]
    for none in ({}, {"kafka_sasl_username": "", "kafka_sasl_password": ""}):
        assert both == refused(KafkaSettings, {"kafka_security_protocol": "SASL_PLAINTEXT", **none})
    assert [] == refused(KafkaSettings, {"kafka_security_protocol": "SSL"})


@pytest.mark.parametrize(
    "query",
    ["sslmode=verify", "sslmode=verify-full&sslrootcert=/none.pem", "sslcert=/none.pem", "statement_cache_size=0",
     "channel_binding=require", "target_session_attrs=standby"],
)  # fmt: skip
def test_parameters_of_postgres_that_cannot_be_are_refused(query: str) -> None:
    """A mode that does not exist, a file that cannot be read, a server that does not write, an unknown parameter."""
    assert [("database_url",)] == refused(DatabaseSettings, {"database_url": f"postgres://host/db?{query}"})


@pytest.mark.parametrize("servers", ["any", "primary", "read-write"])
def test_the_primary_of_several_servers_may_be_asked_for(servers: str) -> None:
    """With several hosts, as Patroni has them, the driver looks for the one that takes writes."""
    url = f"postgres://u:p@/db?host=a&host=b&target_session_attrs={servers}"

    assert DatabaseSettings.model_validate({"database_url": url}).driver_url.endswith(
        f"?host=a&host=b&target_session_attrs={servers}"
    )


@pytest.mark.parametrize(("name", "value"), [("PGSSLMODE", "verify"), ("PGSSLROOTCERT", "/none.pem")])
def test_variables_of_libpq_are_checked(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Those that the chart sets beside the URL are named, too."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match=name):
        DatabaseSettings.model_validate({"database_url": "postgres://host/db"})


@pytest.mark.parametrize(
    ("mode", "unread"),
    [("disable", ["PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"]), ("prefer", ["PGSSLROOTCERT"]), ("", ["PGSSLROOTCERT"])],
)
def test_files_that_the_driver_does_not_read_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, mode: str, unread: list[str]
) -> None:
    """A shell may name files for another database, such as `PGSSLROOTCERT=system`, which only libpq understands."""
    for name in unread:
        monkeypatch.setenv(name, "system")

    assert [] == refused(DatabaseSettings, {"database_url": f"postgres://host/db?sslmode={mode}"})


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_a_provider_needs_its_key(provider: str) -> None:
    """Its own API takes no call without one; a compatible server at another URL may."""
    chosen = {"llm_provider": provider}

    assert [(f"{provider}_api_key",)] == refused(LlmServiceSettings, chosen)
    assert [] == refused(LlmServiceSettings, chosen | {f"{provider}_api_key": "key"})
    assert [] == refused(LlmServiceSettings, chosen | {f"{provider}_base_url": "http://127.0.0.1:8000/v1"})


# Any text may be right: what it means is known only to another system, or only once it is used.
ANY_TEXT = {
    "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "anthropic_api_key", "embedded_api_key",
    "gemini_api_key", "kafka_sasl_password", "kafka_sasl_username", "llm_model", "llm_service_token", "models_file",
    "openai_api_key", "ready_file",
}  # fmt: skip


@pytest.mark.parametrize(("piece", "name"), [(piece, name) for piece in SERVICES for name in piece.model_fields])
def test_nonsense_is_refused_by_name(piece: type[SettingsGroup], name: str) -> None:
    """Each setting of each service refuses a text that cannot be right, unless any text may be."""
    token = {"llm_service_token": "t"} if piece is LlmServiceSettings and name != "llm_service_token" else {}
    short = name in ("orchestra_secret", "orchestra_secret_old")
    given = {"orchestra_secret": "s" * 32, **token, name: "short" if short else "/no /nonsense?"}

    assert refused(piece, given) == ([] if name in ANY_TEXT else [(name,)])


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False)]
)
def test_loopback_is_told_from_the_world(host: str, loopback: bool) -> None:
    """Only what no other machine can reach goes without credentials."""
    assert loopback == ListenSettings.model_validate({"host": host}).loopback

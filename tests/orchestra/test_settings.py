"""Promises of orchestra/settings.py: the environment is read once, clearly, and secrets stay secret."""

import re
import ssl
from pathlib import Path

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


@pytest.mark.parametrize("text", ["", ",", "kafka:99999", "kafka:x", "kafka:9092,:1", "PLAINTEXT://kafka:9092"])
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


def test_tls_is_used_where_the_protocol_says_so(tmp_path: Path) -> None:
    """With certificates checked against the given authority; never otherwise, and a missing file is an error."""
    assert KafkaSettings.model_validate({"kafka_security_protocol": "SASL_PLAINTEXT"}).ssl_context() is None
    context = KafkaSettings.model_validate({"kafka_security_protocol": "SASL_SSL"}).ssl_context()
    assert context is not None
    assert (True, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)
    with pytest.raises(FileNotFoundError):
        KafkaSettings.model_validate(
            {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": tmp_path / "none"}
        ).ssl_context()


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False)]
)
def test_loopback_is_told_from_the_world(host: str, loopback: bool) -> None:
    """Only what no other machine can reach goes without credentials."""
    assert loopback == ListenSettings.model_validate({"host": host}).loopback

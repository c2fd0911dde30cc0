"""Settings read from the environment, in groups; each service uses the groups that it needs.

Built once in a service's ``__main__`` and passed down; nothing is read at import.
"""

import os
import re
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    DirectoryPath,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestra.addresses import HOST_NAME, is_host_and_port, is_http_url, is_ipv6, split_url
from orchestra.http.client_address import Proxies
from orchestra.setting_names import is_service_link, suspects
from schemas.invalid import problems_of

# With or without the name of a driver, which is replaced by ours.
_POSTGRES = re.compile(r"postgres(ql)?(\+[a-z0-9]+)?")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_OF_CLIENT = ("sslcert", "sslkey")
_TLS_FILES = ("sslrootcert", *_OF_CLIENT)
# What both the services' driver and that of migrations understand.
_OF_URL = {"sslmode", *_TLS_FILES, "host", "port", "target_session_attrs"}
# Every service writes, so a standby is of no use.
_SERVERS = ("any", "primary", "read-write")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# The name of a bucket, as S3 allows it.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9_.-]+")
_NO_HOST = "must be host names or addresses, as in orchestra.example,10.0.0.5, without scheme, port, path or wildcard"


def _base_url(url: str) -> str:
    if any(character.isspace() or character in "?#" for character in url) or not is_http_url(url):
        raise ValueError(
            "must be an http:// or https:// URL with a host and a possible port, without query or fragment"
        )
    return url


BaseUrl = Annotated[str, AfterValidator(_base_url)]
"""URL of an HTTP service; paths are appended to it."""


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"must be a file that this process can read: {error.strerror}") from None


ReadableFile = Annotated[Path, AfterValidator(_readable)]
"""A file that can be read at the start."""


def _to_bind(host: str) -> str:
    if not (HOST_NAME.fullmatch(host.lower()) or is_ipv6(host)):
        raise ValueError("must be an address or a host name, without scheme or port")
    return host


BindAddress = Annotated[str, AfterValidator(_to_bind)]
"""An address to listen on."""


class SettingsGroup(BaseSettings):
    """One group of environment variables. Unknown variables are ignored."""

    model_config = SettingsConfigDict(extra="ignore", case_sensitive=False, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_service_links(cls, values: dict[str, Any]) -> dict[str, Any]:
        # A Kubernetes Service named `metrics` sets METRICS_PORT in every pod of its namespace.
        return {name: value for name, value in values.items() if not is_service_link(name.upper(), str(value))}


_P = TypeVar("_P", bound=SettingsGroup)


class KafkaSettings(SettingsGroup):
    """How to connect to Kafka. The names are Kafka's own with the prefix ``KAFKA_``."""

    kafka_bootstrap_servers: str = Field("127.0.0.1:19092", description="Comma-separated host:port list.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka's `security.protocol`."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="Kafka's `sasl.mechanism`."
    )
    kafka_sasl_username: str | None = Field(None, validate_default=True, description="Username for SASL.")
    kafka_sasl_password: SecretStr | None = Field(None, validate_default=True, description="Password for SASL.")
    kafka_ssl_cafile: ReadableFile | None = Field(
        None, description="CA bundle (PEM) that verifies the brokers' certificates. Unset: the machine's."
    )
    kafka_ssl_certfile: ReadableFile | None = Field(None, description="Client certificate (PEM) for mutual TLS.")
    kafka_ssl_keyfile: ReadableFile | None = Field(
        None, validate_default=True, description="Key of the client certificate (PEM), without a passphrase."
    )

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _possible(cls, text: str) -> str:
        servers = listed(text)
        if not servers or not all(map(_has_port, servers)):
            raise ValueError("must be host:port pairs with commas between them, as in kafka-1:9092,kafka-2:9092")
        return text

    @field_validator("kafka_sasl_username", "kafka_sasl_password")
    @classmethod
    def _needed_by_sasl(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        if not value and info.data.get("kafka_security_protocol", "").startswith("SASL"):
            raise ValueError("is required with this KAFKA_SECURITY_PROTOCOL")
        return value

    @field_validator("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile", mode="before")
    @classmethod
    def _no_path_is_no_file(cls, path: Any) -> Any:
        return None if path == "" else path

    @field_validator("kafka_ssl_cafile")
    @classmethod
    def _with_certificates(cls, path: Path | None) -> Path | None:
        return with_certificates(path) if path else path

    @field_validator("kafka_ssl_keyfile")
    @classmethod
    def _of_the_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        certificate = info.data.get("kafka_ssl_certfile")
        if path and "kafka_ssl_certfile" in info.data and not certificate:
            raise ValueError("needs KAFKA_SSL_CERTFILE")
        if certificate:
            try:
                # A passphrase is refused instead of being asked for at a terminal.
                ssl.create_default_context().load_cert_chain(certificate, path, password="")
            except (OSError, ValueError):  # Among them is `ssl.SSLError`.
                raise ValueError("must be the key (PEM, without a passphrase) of KAFKA_SSL_CERTFILE") from None
        return path

    @property
    def bootstrap(self) -> list[str]:
        """The bootstrap servers as a list of ``host:port``."""
        return listed(self.kafka_bootstrap_servers)

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context for the protocols that use TLS, else None."""
        if not self.kafka_security_protocol.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=self.kafka_ssl_cafile)
        if self.kafka_ssl_certfile:
            context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile)
        return context


def _has_port(server: str) -> bool:
    parts = split_url(f"//{server}")
    return is_host_and_port(server) and parts is not None and parts.port is not None


def with_certificates(path: Path) -> Path:
    """The same path. Raises ``ValueError`` if the file is not a CA bundle in PEM form."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError:  # Among them is `ssl.SSLError`.
        raise ValueError("must have certificates in PEM form") from None
    return path


class DatabaseSettings(SettingsGroup):
    """How to connect to Postgres."""

    database_url: SecretStr = Field(
        SecretStr("postgres://user:password@127.0.0.1:5432/llm_orchestra"),
        description="`postgres://` or `postgresql://` URL. May have `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, "
        "as libpq; without them `PGSSLMODE`, `PGSSLROOTCERT`, `PGSSLCERT` and `PGSSLKEY` count.",
    )
    database_pool_size: int = Field(8, ge=1, le=100, description="Maximum number of connections per process.")

    @field_validator("database_url")
    @classmethod
    def _of_postgres(cls, url: SecretStr) -> SecretStr:
        parts = split_url(url.get_secret_value())
        if parts is None or not _POSTGRES.fullmatch(parts.scheme) or not parts.netloc:
            raise ValueError("must be a postgres:// or postgresql:// URL with a host and a possible port")
        query = dict(parse_qsl(parts.query))
        if not query.keys() <= _OF_URL:
            raise ValueError(f"may have only these parameters: {', '.join(sorted(_OF_URL))}")
        if query.get("target_session_attrs", "any") not in _SERVERS:
            raise ValueError(f"target_session_attrs must be one of {', '.join(_SERVERS)}")
        mode = query.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"
        if mode not in _SSL_MODES:
            raise ValueError(f"sslmode (or PGSSLMODE) must be one of {', '.join(_SSL_MODES)}")
        for name in _files_read(mode):
            path = query.get(name) or os.environ.get(f"PG{name.upper()}")
            if not path:
                continue
            try:
                _readable(Path(path))
                if name == "sslrootcert":
                    with_certificates(Path(path))
            except ValueError as error:
                raise ValueError(f"{name} (or PG{name.upper()}) {error}") from None
        return url

    @property
    def driver_url(self) -> str:
        """The URL in SQLAlchemy's form; libpq's ``sslmode`` becomes asyncpg's ``ssl``."""
        parts = urlsplit(self.database_url.get_secret_value())
        query = [
            ("ssl" if key == "sslmode" else key, value)
            for key, value in parse_qsl(parts.query)
            if key not in _TLS_FILES
        ]
        return urlunsplit(("postgresql+asyncpg", parts.netloc, parts.path, urlencode(query), ""))

    @property
    def tls_files(self) -> str:
        """The parameters of the URL that name files, in a URL of their own: SQLAlchemy does not know them."""
        query = parse_qsl(urlsplit(self.database_url.get_secret_value()).query)
        return f"postgresql:///?{urlencode([each for each in query if each[0] in _TLS_FILES])}"


class SecretSettings(SettingsGroup):
    """The secret that signs request ids and records. It is the same on all gateways and workers."""

    orchestra_secret: SecretStr = Field(description="Secret that signs request ids and records; at least 32 bytes.")
    orchestra_secret_old: SecretStr | None = Field(
        None, description="Previous secret while you rotate it: still accepted, no longer used to sign."
    )

    @field_validator("orchestra_secret", "orchestra_secret_old")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < 32:
            raise ValueError("must be at least 32 bytes; `openssl rand -hex 32` makes one")
        return value

    @property
    def secrets(self) -> list[bytes]:
        """The signing secret, then the old one if there is one."""
        both = (self.orchestra_secret, self.orchestra_secret_old)
        return [secret.get_secret_value().encode() for secret in both if secret]


class FileSettings(SettingsGroup):
    """Where the bytes of files are kept. It is the same for all gateways and workers."""

    files_url: str | None = Field(
        None,
        description="Where files are kept: `file:///folder`, one folder that all gateways and workers see, or "
        "`s3://bucket/prefix`. Unset: files are not offered.",
    )
    aws_endpoint_url: BaseUrl | None = Field(None, description="S3-compatible server of `s3://`. Unset: Amazon's.")
    aws_region: str = Field("us-east-1", description="Region of the bucket.")
    aws_access_key_id: str | None = Field(
        None, description="Access key for the bucket. Unset: the credentials of the machine's role."
    )
    aws_secret_access_key: SecretStr | None = Field(None, description="Secret of the access key.")
    aws_session_token: SecretStr | None = Field(None, description="Session token of temporary credentials.")

    @field_validator(
        "files_url", "aws_endpoint_url", "aws_region", "aws_access_key_id", "aws_secret_access_key",
        "aws_session_token", mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_is_unset(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[str(info.field_name)].default if value == "" else value

    @field_validator("aws_region")
    @classmethod
    def _a_name(cls, region: str) -> str:
        if not _REGION.fullmatch(region):
            raise ValueError("must be the name of a region, such as eu-central-1")
        return region

    @field_validator("files_url")
    @classmethod
    def _a_folder_or_a_bucket(cls, url: str | None) -> str | None:
        parts = split_url(url or "")
        if url is None or (parts and not (parts.query or parts.fragment) and _is_home(parts)):
            return url
        raise ValueError("must be file:///folder with an absolute path, or s3://bucket/prefix")


class MediaSettings(SettingsGroup):
    """What the media of a message may be. It is the same for gateways, workers and the LLM service."""

    allow_media_urls: bool = Field(
        False,
        description="Messages may have `http:` and `https:` URLs of media. They are passed on to the model's provider, "
        "which fetches them; a model server in your network may reach what callers cannot.",
    )


class ListenSettings(SettingsGroup):
    """The address of an HTTP service."""

    host: BindAddress = Field(
        "127.0.0.1", description="Address to bind. Any address but loopback requires credentials."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Minimum level to log.")
    allowed_hosts: str = Field(
        "", description="Comma-separated host names by which clients may call this service, in addition to localhost."
    )
    trusted_proxies: str = Field(
        "", description="Comma-separated addresses or networks of proxies whose `X-Forwarded-For` is trusted."
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _as_callers_name_them(cls, text: str) -> str:
        # Any other form never equals the host of a call.
        if not all(HOST_NAME.fullmatch(name) or is_ipv6(name) for name in _hosts(text)):
            raise ValueError(_NO_HOST)
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, text: str) -> str:
        Proxies(listed(text))  # Its ValueError names the invalid one.
        return text

    @property
    def loopback(self) -> bool:
        """True if only this machine can reach the service."""
        return self.host in _LOOPBACK

    @property
    def proxies(self) -> Proxies:
        """The proxies whose ``X-Forwarded-For`` is trusted."""
        return Proxies(listed(self.trusted_proxies))

    @property
    def hosts(self) -> frozenset[str]:
        """The host names, in lower case, by which clients may call this service."""
        return _LOOPBACK.union(_hosts(self.allowed_hosts))


class AgentSettings(SettingsGroup):
    """The operator's own agents. The folder is the same on all gateways and workers."""

    agents_dir: DirectoryPath | None = Field(
        None, description="Folder of agents, which are added to the built-in ones or replace them."
    )

    @field_validator("agents_dir", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        return None if value == "" else value


def _files_read(mode: str) -> Sequence[str]:
    """The files of TLS that the driver reads in this mode; a shell may name others for other databases."""
    if mode == "disable":
        return ()
    return _OF_CLIENT if mode in ("allow", "prefer") else _TLS_FILES


def _is_home(parts: SplitResult) -> bool:
    if parts.scheme == "file":
        return not parts.netloc and len(parts.path) > 1
    return parts.scheme == "s3" and bool(_BUCKET.fullmatch(parts.netloc))


def listed(text: str) -> list[str]:
    """The items of a comma-separated setting."""
    return [word for each in text.split(",") if (word := each.strip())]


def _hosts(text: str) -> list[str]:
    return [name.strip("[]").lower() for name in listed(text)]


def refuse_to_start(line: str) -> NoReturn:
    """End the process with this line and the exit code for a bad configuration."""
    print(line, file=sys.stderr)
    raise SystemExit(78)  # EX_CONFIG of sysexits.h


def load(piece: type[_P]) -> _P:
    """Read one settings class from the environment, or end the process with one clear line per bad variable.

    Variables that look like a misspelt setting get a line, too: one of them may be the setting that is missing.
    """
    try:
        return piece()
    except ValidationError as error:
        for problem in problems_of(error):
            name = str(problem["loc"][0]).upper() if problem["loc"] else piece.__name__
            print(f"setting {name}: {problem['msg']}", file=sys.stderr)
        for suspect in suspects(os.environ):
            print(suspect, file=sys.stderr)
        raise SystemExit(78) from None  # EX_CONFIG of sysexits.h

"""The settings of a worker, from environment variables."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from orchestra.settings import (
    AgentSettings,
    BaseUrl,
    BindAddress,
    DatabaseSettings,
    FileSettings,
    KafkaSettings,
    MediaSettings,
    SecretSettings,
)
from schemas.envelope import DEFAULT_TENANT
from schemas.topics import REQUESTS


class WorkerSettings(KafkaSettings, DatabaseSettings, SecretSettings, AgentSettings, FileSettings, MediaSettings):
    """The settings of one worker process."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    llm_service_url: BaseUrl = Field(
        "http://127.0.0.1:8082", description="Base URL of the LLM service, or its full URL that ends in `/generate`."
    )
    llm_service_token: SecretStr | None = Field(None, description="Sent to the LLM service as a bearer token.")
    llm_model: str = Field("llama3", description="Model for requests that do not name one.")
    worker_concurrency: int = Field(1000, ge=1, le=100_000, description="Maximum number of calls in flight per worker.")
    max_owner_share: int = Field(
        75,
        ge=1,
        le=100,
        description="Maximum percentage of a worker's calls in flight for one owner. Applies once credentials exist.",
    )
    max_tenant_share: int = Field(90, ge=1, le=100, description="The same for one tenant.")
    drain_seconds: float = Field(60, ge=0, description="Seconds that running calls may take to finish after SIGTERM.")
    retention_days: int = Field(30, ge=7, description="Days until ended requests and dead letters are deleted.")
    audit_retention_days: int = Field(90, ge=1, description="Days until entries of the audit are deleted.")
    conversation_retention_days: int | None = Field(
        None,
        ge=1,
        description="Days without a turn until a conversation is deleted with its messages. Unset: they are kept.",
    )
    ingress_topics: str = Field(
        f"{REQUESTS.name}={DEFAULT_TENANT}",
        description="Topics to read, each with its tenant: comma-separated `topic=tenant` pairs.",
    )
    ingress_priorities: str = Field(
        "",
        description="Highest priority of records that no gateway has signed: comma-separated `topic=priority` pairs. "
        "A higher priority is lowered to it. Topics that are not named have no limit.",
    )
    require_signed: bool = Field(False, description="Dead-letter records that no gateway has signed.")
    max_open_requests: int = Field(
        1_000_000, ge=1, description="Intake pauses while this many requests are open: an emergency brake."
    )
    ready_file: Path | None = Field(
        None,
        description="File that is created once the worker has a lease and is connected to Kafka, touched every 3 s "
        "while the lease is renewed, and removed on exit.",
    )
    metrics_host: BindAddress = Field(
        "127.0.0.1", description="Serve `/metrics` on this address; `0.0.0.0` in a container."
    )
    metrics_port: int = Field(
        9464,
        ge=0,
        le=65535,
        description="Serve `/metrics` on this port; 0: any free port. If it is taken, the worker runs without metrics.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Minimum level to log.")

    @field_validator("llm_service_url")
    @classmethod
    def _without_path(cls, url: str) -> str:
        return url.rstrip("/").removesuffix("/generate")

    @field_validator("ingress_topics")
    @classmethod
    def _readable(cls, text: str) -> str:
        pairs = [[part.strip() for part in pair.split("=")] for pair in text.split(",")]
        if not all(len(pair) == 2 and all(pair) for pair in pairs):
            raise ValueError("must be comma-separated topic=tenant pairs")
        if len({topic for topic, _ in pairs}) < len(pairs):
            raise ValueError("must name each topic once")
        return ",".join("=".join(pair) for pair in pairs)

    @field_validator("ingress_priorities")
    @classmethod
    def _priorities(cls, text: str) -> str:
        pairs = [[part.strip() for part in pair.split("=")] for pair in text.split(",") if pair.strip()]
        if not all(len(pair) == 2 and pair[0] and pair[1] in "0123456789" and len(pair[1]) == 1 for pair in pairs):
            raise ValueError("must be comma-separated topic=priority pairs with priorities 0 to 9")
        if len({topic for topic, _ in pairs}) < len(pairs):
            raise ValueError("must name each topic once")
        return ",".join("=".join(pair) for pair in pairs)

    @property
    def priorities(self) -> dict[str, int]:
        """The highest priority of unsigned records, by topic."""
        return {
            topic: int(priority)
            for topic, _, priority in (pair.partition("=") for pair in self.ingress_priorities.split(",") if pair)
        }

    @property
    def tenants(self) -> dict[str, str]:
        """The tenant of each topic that is read."""
        return dict(pair.split("=") for pair in self.ingress_topics.split(","))

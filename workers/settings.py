"""What a worker reads from the environment."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from orchestra.settings import AgentSettings, BaseUrl, DatabaseSettings, KafkaSettings, SecretSettings
from schemas.envelope import DEFAULT_TENANT
from schemas.topics import REQUESTS


class WorkerSettings(KafkaSettings, DatabaseSettings, SecretSettings, AgentSettings):
    """One worker process."""

    llm_service_url: BaseUrl = Field(
        "http://127.0.0.1:8082", description="The LLM service: its base URL, or the full URL that ends in `/generate`."
    )
    llm_service_token: SecretStr | None = Field(None, description="Sent to the LLM service as a bearer token.")
    llm_model: str = Field("llama3", description="The model of requests that name none.")
    worker_concurrency: int = Field(1000, ge=1, le=100_000, description="Calls that one worker may have in flight.")
    drain_seconds: float = Field(60, ge=0, description="How long running calls may go on after SIGTERM.")
    retention_days: int = Field(30, ge=7, description="Ended requests and dead letters are deleted after this.")
    ingress_topics: str = Field(
        f"{REQUESTS.name}={DEFAULT_TENANT}",
        description="Topics to read and whose they are: `topic=tenant`, comma-separated.",
    )
    require_signed: bool = Field(False, description="Dead-letter records that no gateway has signed.")
    max_open_requests: int = Field(
        1_000_000, ge=1, description="Emergency brake: intake stops at so many open requests."
    )
    ready_file: Path | None = Field(
        None,
        description="Made once the worker has a lease and has reached Kafka, touched every 3 s while the lease holds, "
        "removed when it stops.",
    )
    metrics_host: str = Field("127.0.0.1", description="Serve `/metrics` on this address; `0.0.0.0` in a container.")
    metrics_port: int = Field(
        9464,
        ge=0,
        le=65535,
        description="Serve `/metrics` on this port; where it is taken the worker works without. 0: any.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("llm_service_url")
    @classmethod
    def _without_path(cls, url: str) -> str:
        return url.rstrip("/").removesuffix("/generate")

    @field_validator("ingress_topics")
    @classmethod
    def _readable(cls, text: str) -> str:
        pairs = [[part.strip() for part in pair.split("=")] for pair in text.split(",")]
        if not all(len(pair) == 2 and all(pair) for pair in pairs):
            raise ValueError("must be topic=tenant pairs with commas between them")
        if len({topic for topic, _ in pairs}) < len(pairs):
            raise ValueError("must name each topic once")
        return ",".join("=".join(pair) for pair in pairs)

    @property
    def tenants(self) -> dict[str, str]:
        """Tenant of each topic that is read."""
        return dict(pair.split("=") for pair in self.ingress_topics.split(","))

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
    max_owner_share: int = Field(
        75,
        ge=1,
        le=100,
        description="Percent of a worker's calls in flight that one owner may have, once somebody has credentials.",
    )
    max_tenant_share: int = Field(90, ge=1, le=100, description="The same for one tenant.")
    drain_seconds: float = Field(60, ge=0, description="How long running calls may go on after SIGTERM.")
    retention_days: int = Field(30, ge=7, description="Ended requests and dead letters are deleted after this.")
    ingress_topics: str = Field(
        f"{REQUESTS.name}={DEFAULT_TENANT}",
        description="Topics to read and whose they are: `topic=tenant`, comma-separated.",
    )
    ingress_priorities: str = Field(
        "",
        description="Highest priority of records that no gateway has signed: `topic=priority`, comma-separated. What "
        "is above is lowered to it; where a topic is not named, any is taken.",
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

    @field_validator("ingress_priorities")
    @classmethod
    def _priorities(cls, text: str) -> str:
        pairs = [[part.strip() for part in pair.split("=")] for pair in text.split(",") if pair.strip()]
        if not all(len(pair) == 2 and pair[0] and pair[1] in "0123456789" and len(pair[1]) == 1 for pair in pairs):
            raise ValueError("must be topic=priority pairs with commas between them, of priorities 0 to 9")
        if len({topic for topic, _ in pairs}) < len(pairs):
            raise ValueError("must name each topic once")
        return ",".join("=".join(pair) for pair in pairs)

    @property
    def priorities(self) -> dict[str, int]:
        """The highest priority of producers, by topic."""
        return {
            topic: int(most)
            for topic, _, most in (pair.partition("=") for pair in self.ingress_priorities.split(",") if pair)
        }

    @property
    def tenants(self) -> dict[str, str]:
        """Tenant of each topic that is read."""
        return dict(pair.split("=") for pair in self.ingress_topics.split(","))

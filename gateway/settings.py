"""What a gateway reads from the environment."""

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from orchestra.settings import DatabaseSettings, KafkaSettings, ListenSettings, SecretSettings
from schemas.requests import Context

_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class GatewaySettings(KafkaSettings, DatabaseSettings, SecretSettings, ListenSettings):
    """One gateway process."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    port: int = Field(8080, ge=0, le=65535, description="Port to bind.")
    tasks_port: int = Field(8081, ge=0, le=65535, description="Second port with the same routes, for task clients.")
    open_mode: bool | None = Field(
        None, description="Answer without credentials; needs no saying while `HOST` is loopback."
    )
    allowed_hosts: str = Field(
        "", description="Comma-separated names that callers may use for this gateway beside localhost."
    )
    llm_model: str = Field("llama3", min_length=1, description="The model of requests that name none.")
    context_default: Context = Field("auto", description="The `context` of requests that say none.")
    sync_limit_seconds: float = Field(60, gt=0, description="How long a POST without `Prefer` waits for its reply.")
    accept_timeout_seconds: float = Field(10, gt=0, description="How long Kafka may take to acknowledge a request.")
    max_pending_sends: int = Field(10_000, ge=1, description="Requests that may be on their way to Kafka at once.")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, le=1024 * 1024, description="Longest body of a call.")
    max_queue_age_seconds: float = Field(
        900, gt=0, description="Nothing more is accepted while the oldest runnable turn has waited longer."
    )
    max_open_turns: int = Field(1000, ge=1, description="Turns of one conversation that may wait for their answer.")
    event_memory_bytes: int = Field(256 * 1024 * 1024, ge=1024 * 1024, description="Memory for texts of open requests.")

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> "GatewaySettings":
        if not self.loopback and not self.open_mode:
            raise ValueError("HOST is not loopback and nobody would be asked for credentials; OPEN_MODE=true allows it")
        if self.open_mode is False:
            raise ValueError("OPEN_MODE=false needs API keys, which there are none of yet")
        return self

    @property
    def hosts(self) -> frozenset[str]:
        """The names, in lower case, by which callers may address this gateway."""
        named = (name.strip().strip("[]").lower() for name in self.allowed_hosts.split(","))
        return _LOCAL_NAMES | {name for name in named if name}

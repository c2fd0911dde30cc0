"""What a gateway reads from the environment."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from orchestra.settings import AgentSettings, DatabaseSettings, KafkaSettings, ListenSettings, SecretSettings
from schemas.requests import Context

_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class GatewaySettings(KafkaSettings, DatabaseSettings, SecretSettings, ListenSettings, AgentSettings):
    """One gateway process."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    port: int = Field(8080, ge=0, le=65535, description="Port to bind.")
    tasks_port: int = Field(8081, ge=0, le=65535, description="Second port with the same routes, for task clients.")
    open_mode: bool | None = Field(
        None, description="Ask nobody for credentials, or everybody; unset: all but callers of a loopback `HOST`."
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

    @property
    def asks_credentials(self) -> bool:
        """True where nobody may call without an API key or a token. Open only on loopback, or where it was said."""
        return not (self.loopback if self.open_mode is None else self.open_mode)

    @property
    def hosts(self) -> frozenset[str]:
        """The names, in lower case, by which callers may address this gateway."""
        named = (name.strip().strip("[]").lower() for name in self.allowed_hosts.split(","))
        return _LOCAL_NAMES | {name for name in named if name}

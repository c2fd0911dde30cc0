"""Settings of a gateway, read from the environment."""

import re

from pydantic import AnyUrl, Field, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from orchestra.addresses import HOST_NAME
from orchestra.settings import (
    AgentSettings,
    DatabaseSettings,
    FileSettings,
    KafkaSettings,
    ListenSettings,
    MediaSettings,
    SecretSettings,
    listed,
)
from schemas.requests import DEFAULT_PRIORITY, Context

# An origin as a browser writes it into a header (RFC 6454, 6.2).
_ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://({HOST_NAME.pattern}|\[[0-9a-f:.]+\])(:[1-9][0-9]*)?")
_NO_ORIGIN = (
    "must be origins as browsers send them, as in https://app.example,http://localhost:3000: "
    "in lower case, with a scheme and a valid host and port, without a path, a wildcard or the scheme's default port"
)

# The default of compose.yaml. With the secret one can sign sessions and tokens of any user.
PUBLISHED_SECRET = "only-for-this-machine-and-its-loopback"  # noqa: S105 - it is no secret


class GatewaySettings(
    KafkaSettings, DatabaseSettings, SecretSettings, ListenSettings, AgentSettings, FileSettings, MediaSettings
):
    """Settings of one gateway process."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    port: int = Field(8080, ge=0, le=65535, description="Port to bind.")
    tasks_port: int = Field(8081, ge=0, le=65535, description="Second port with the same routes, for task clients.")
    open_mode: bool | None = Field(
        None, description="`true`: no authentication. `false`: required. Unset: required unless `HOST` is loopback."
    )
    cors_origins: str = Field(
        "", description="Comma-separated origins whose web pages may call this gateway, such as `https://app.example`."
    )
    llm_model: str = Field("llama3", min_length=1, description="Model for requests that do not name one.")
    context_default: Context = Field("auto", description="Value of `context` for requests that do not set it.")
    max_priority: int | None = Field(
        None,
        ge=0,
        le=9,
        description="Maximum priority of callers without the scope `admin` or `priority`; a higher one is lowered to "
        "it. Unset: 5, or 9 if no authentication is required.",
    )
    sync_limit_seconds: float = Field(
        60, gt=0, description="Maximum time that a POST without `Prefer` waits for its reply."
    )
    door_wait_seconds: float = Field(
        590,
        gt=0,
        description="Maximum time that a call to the OpenAI-compatible API waits for its answer, or a stream for its "
        "next piece. OpenAI's clients wait 600 s.",
    )
    accept_timeout_seconds: float = Field(10, gt=0, description="Maximum time for Kafka to acknowledge a request.")
    max_pending_sends: int = Field(10_000, ge=1, description="Maximum number of requests in flight to Kafka.")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, le=1024 * 1024, description="Maximum length of a request body.")
    max_large_body_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024,
        le=32 * 1024 * 1024,
        description="Maximum length of the body of a message or a task, where `FILES_URL` is set.",
    )
    max_queue_age_seconds: float = Field(
        900, gt=0, description="New requests are rejected while the oldest runnable turn has waited longer than this."
    )
    max_open_turns: int = Field(1000, ge=1, description="Maximum number of open turns in one conversation.")
    max_open_requests: int = Field(
        1_000_000, ge=1, description="Set it as for workers. One tenant may have up to 90 % of this many open requests."
    )
    max_open_by_owner: int = Field(10_000, ge=1, description="Maximum number of open requests per owner.")
    max_parked_by_owner: int = Field(
        5000, ge=1, description="Maximum number of open requests per owner that wait for their `not_before`."
    )
    max_parked_by_tenant: int = Field(50_000, ge=1, description="The same per tenant.")
    max_stored_mib_by_owner: int = Field(10_240, ge=1, description="Maximum MiB of stored data per owner.")
    max_stored_mib_by_tenant: int = Field(102_400, ge=1, description="The same per tenant.")
    max_file_bytes: int = Field(512 * 1024 * 1024, ge=1, description="Maximum length of an uploaded file.")
    max_file_bytes_per_owner: int = Field(
        10 * 1024 * 1024 * 1024, ge=1, description="Maximum total length of the files of one owner."
    )
    files_retention_days: int = Field(30, ge=1, description="Days until an uploaded file expires.")
    max_streams_by_owner: int = Field(
        1000, ge=1, description="Maximum number of open streams per owner at this gateway."
    )
    max_lists_by_owner: int = Field(
        4, ge=1, description="Maximum number of concurrent lists and counts per owner at this gateway; others wait."
    )
    event_memory_bytes: int = Field(
        256 * 1024 * 1024, ge=1024 * 1024, description="Maximum memory for the texts of open requests."
    )

    @field_validator("cors_origins")
    @classmethod
    def _as_browsers_send_them(cls, text: str) -> str:
        # Any other form never equals what a browser sends, and would silently allow nothing.
        if not all(map(_is_origin, listed(text))):
            raise ValueError(_NO_ORIGIN)
        return text

    @model_validator(mode="after")
    def _signs_with_a_secret(self) -> "GatewaySettings":
        if self.asks_credentials and PUBLISHED_SECRET.encode() in self.secrets:
            raise ValueError(
                "ORCHESTRA_SECRET or ORCHESTRA_SECRET_OLD is the one that compose.yaml publishes: anyone could sign in "
                "with it where credentials are required; `openssl rand -hex 32` makes another"
            )
        return self

    @property
    def origins(self) -> frozenset[str]:
        """The origins whose web pages may call this gateway."""
        return frozenset(listed(self.cors_origins))

    @property
    def asks_credentials(self) -> bool:
        """True if calls require an API key or a token. A gateway is open only on loopback, or by ``OPEN_MODE``."""
        return not (self.loopback if self.open_mode is None else self.open_mode)

    @property
    def priority_limit(self) -> int:
        """The maximum priority of callers without a scope for more."""
        if self.max_priority is None:
            return DEFAULT_PRIORITY if self.asks_credentials else 9
        return self.max_priority


def _is_origin(text: str) -> bool:
    """Whether a browser would send it in this form: the parser of the URL standard leaves it unchanged."""
    if not _ORIGIN.fullmatch(text):
        return False
    try:
        return str(AnyUrl(text)).removesuffix("/") == text
    except ValidationError:
        return False

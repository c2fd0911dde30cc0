"""Settings of the LLM service, read from the environment once at start."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from orchestra.settings import BaseUrl, ListenSettings

Seconds = Annotated[float, Field(gt=0)]


class LlmServiceSettings(ListenSettings):
    """Where the service listens, which provider answers, and what a generation may take."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    port: int = Field(8082, ge=0, le=65535, description="Port to bind.")
    open_mode: bool = Field(False, description="Allows an address that is not loopback without a token.")
    llm_service_token: SecretStr | None = Field(
        None, description="Bearer token that `/generate` and `/models` then ask for."
    )
    llm_provider: Literal["embedded", "ollama", "openai", "anthropic", "gemini", "simulated"] = Field(
        "embedded", description="Provider that answers for models which `MODELS_FILE` does not name."
    )
    llm_model: str = Field("llama3", min_length=1, description="Model used when a request names none.")
    simulated_options: bool | None = Field(
        None,
        description="Offers the options of `simulated`, with which a caller decides how long a call takes and how it "
        "fails; unset: where `LLM_PROVIDER` is `simulated` or `embedded`. `simulated` itself is always there.",
    )
    models_file: Path | None = Field(None, description="TOML file with `[[models]]` that add to the built-in table.")
    embedded_base_url: BaseUrl = Field("http://127.0.0.1:8083/v1", description="Where the embedded model's server is.")
    embedded_api_key: SecretStr | None = Field(None, description="Key for `EMBEDDED_BASE_URL`.")
    embedded_context_tokens: int = Field(4096, ge=64, description="Context of one slot of the embedded model's server.")
    embedded_max_concurrency: int = Field(4, ge=1, description="Slots of the embedded model's server.")
    ollama_base_url: BaseUrl = Field("http://127.0.0.1:11434", description="Where Ollama is.")
    ollama_discovery: bool = Field(True, description="Offers every model of an Ollama that answers there.")
    openai_base_url: BaseUrl = Field("https://api.openai.com/v1", description="Where an OpenAI-compatible API is.")
    openai_api_key: SecretStr | None = Field(None, description="Key for `OPENAI_BASE_URL`.")
    anthropic_base_url: BaseUrl = Field("https://api.anthropic.com", description="Where Anthropic's API is.")
    anthropic_api_key: SecretStr | None = Field(None, description="Key for `ANTHROPIC_BASE_URL`.")
    gemini_base_url: BaseUrl = Field("https://generativelanguage.googleapis.com", description="Where Gemini's API is.")
    gemini_api_key: SecretStr | None = Field(None, description="Key for `GEMINI_BASE_URL`.")
    upstream_connect_seconds: Seconds = Field(5, description="Longest wait for a connection to a provider.")
    upstream_idle_seconds: Seconds = Field(60, description="Longest time a provider may send no byte.")
    generation_seconds: Seconds = Field(600, description="Longest time that one generation may take in all.")
    fallback_seconds: Seconds = Field(
        20, description="Longest silence of a model that has `fallbacks` before the next one is asked."
    )
    queue_seconds: Seconds = Field(5, description="Longest wait for a place when a model is at its `max_concurrency`.")
    max_reply_bytes: int = Field(1024 * 1024, ge=1024, description="Longest text that a model may answer with.")
    provider_messages: bool = Field(
        False, description="Adds what a provider says of an error to its detail. It may repeat the prompt."
    )
    drain_seconds: int = Field(5, ge=0, description="Time that open generations get to end after SIGTERM.")

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> "LlmServiceSettings":
        if not (self.loopback or self.llm_service_token or self.open_mode):
            raise ValueError("LLM_SERVICE_TOKEN is required when HOST is not loopback (OPEN_MODE=true goes without)")
        return self

    @property
    def offers_options(self) -> bool:
        """True where a caller may say how a simulated model behaves."""
        if self.simulated_options is None:
            return self.llm_provider in ("simulated", "embedded")
        return self.simulated_options

    @property
    def token(self) -> bytes | None:
        """The token that callers must show, or None."""
        return self.llm_service_token.get_secret_value().encode() if self.llm_service_token else None

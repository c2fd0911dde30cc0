"""Settings of the LLM service, read from the environment once at start."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from orchestra.settings import BaseUrl, ListenSettings, MediaSettings

Seconds = Annotated[float, Field(gt=0)]


class LlmServiceSettings(ListenSettings, MediaSettings):
    """The address of the service, its providers, and the limits of a generation."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    port: int = Field(8082, ge=0, le=65535, description="Port to bind.")
    open_mode: bool = Field(False, description="Allow a HOST that is not loopback without a token.")
    llm_service_token: SecretStr | None = Field(
        None, description="Bearer token that `/generate` and `/models` require. Unset: none."
    )
    llm_provider: Literal["embedded", "ollama", "openai", "anthropic", "gemini", "simulated", "auto"] = Field(
        "embedded",
        description="Provider of models that `MODELS_FILE` does not list. `auto`: the Ollama at `OLLAMA_BASE_URL` if "
        "it has a model, else `simulated`.",
    )
    llm_model: str = Field("llama3", min_length=1, description="Model for requests that do not name one.")
    simulated_options: bool | None = Field(
        None,
        description="Allow the options of `simulated`, with which a client decides how long a call takes and how it "
        "fails. Unset: allowed if `LLM_PROVIDER` is `simulated`, `auto` or `embedded`. `simulated` without options is "
        "always available.",
    )
    models_file: Path | None = Field(None, description="TOML file with `[[models]]`, which extend the built-in table.")
    embedded_base_url: BaseUrl = Field("http://127.0.0.1:8083/v1", description="URL of the embedded model's server.")
    embedded_api_key: SecretStr | None = Field(None, description="Key for `EMBEDDED_BASE_URL`.")
    embedded_context_tokens: int = Field(
        4096, ge=64, description="Context size of each slot of the embedded model's server, in tokens."
    )
    embedded_max_concurrency: int = Field(4, ge=1, description="Number of slots of the embedded model's server.")
    ollama_base_url: BaseUrl = Field("http://127.0.0.1:11434", description="URL of Ollama.")
    ollama_discovery: bool = Field(True, description="Offer every model of the Ollama at `OLLAMA_BASE_URL`.")
    openai_base_url: BaseUrl = Field("https://api.openai.com/v1", description="URL of an OpenAI-compatible API.")
    openai_api_key: SecretStr | None = Field(None, validate_default=True, description="Key for `OPENAI_BASE_URL`.")
    anthropic_base_url: BaseUrl = Field("https://api.anthropic.com", description="URL of Anthropic's API.")
    anthropic_api_key: SecretStr | None = Field(
        None, validate_default=True, description="Key for `ANTHROPIC_BASE_URL`."
    )
    gemini_base_url: BaseUrl = Field("https://generativelanguage.googleapis.com", description="URL of Gemini's API.")
    gemini_api_key: SecretStr | None = Field(None, validate_default=True, description="Key for `GEMINI_BASE_URL`.")
    upstream_connect_seconds: Seconds = Field(5, description="Maximum wait for a connection to a provider.")
    upstream_idle_seconds: Seconds = Field(60, description="Maximum time without a byte from a provider.")
    generation_seconds: Seconds = Field(600, description="Maximum time of a generation, including its fallbacks.")
    fallback_seconds: Seconds = Field(
        20, description="Maximum time without text from a model that has `fallbacks`; then the next one is tried."
    )
    queue_seconds: Seconds = Field(5, description="Maximum wait for a slot while a model is at its `max_concurrency`.")
    max_reply_bytes: int = Field(1024 * 1024, ge=1024, description="Maximum length of an answer.")
    provider_messages: bool = Field(
        False, description="Add the provider's own message to the detail of an error. It may repeat the prompt."
    )
    drain_seconds: int = Field(5, ge=0, description="Time for running generations to finish after SIGTERM.")

    @field_validator("openai_api_key", "anthropic_api_key", "gemini_api_key")
    @classmethod
    def _needed_by_its_provider(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # A compatible server at another URL may need none.
        provider = str(info.field_name).removesuffix("_api_key")
        url = f"{provider}_base_url"
        chosen = info.data.get("llm_provider") == provider and info.data.get(url) == cls.model_fields[url].default
        if chosen and not (key and key.get_secret_value()):
            raise ValueError(f"is required with LLM_PROVIDER={provider}, unless {url.upper()} names another server")
        return key

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> "LlmServiceSettings":
        if not (self.loopback or self.llm_service_token or self.open_mode):
            raise ValueError("LLM_SERVICE_TOKEN is required if HOST is not loopback (OPEN_MODE=true runs without)")
        return self

    @property
    def offers_options(self) -> bool:
        """True if clients may set how a simulated model behaves."""
        if self.simulated_options is None:
            return self.llm_provider in ("simulated", "auto", "embedded")
        return self.simulated_options

    @property
    def token(self) -> bytes | None:
        """The token that clients must send, or None."""
        return self.llm_service_token.get_secret_value().encode() if self.llm_service_token else None

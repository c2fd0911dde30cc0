"""Model name or alias → provider, name at the provider, limits, places."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from llm_service.gate import Gate
from llm_service.models import ANY_OTHER, SIMULATED, Entry, pass_through, table
from llm_service.providers.base import Provider
from llm_service.providers.openai_compatible import OpenAICompatible, UpstreamLimits
from llm_service.providers.simulated import Simulated
from llm_service.settings import LlmServiceSettings
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ModelList


@dataclass(frozen=True, slots=True)
class Model:
    """What answers to a name. ``gate`` is None where the provider sets its own limits."""

    entry: Entry
    provider: Provider
    upstream: str
    gate: Gate | None

    @property
    def label(self) -> str:
        """The model's name in metrics and logs: from the table, never a caller's text."""
        return "other" if self.entry.name == ANY_OTHER else self.entry.name


class Registry:
    """All models of this service."""

    def __init__(self, models: list[Model], other: Model | None, default: str) -> None:
        self._models = models
        self._by_name = {name: model for model in models for name in (model.entry.name, *model.entry.aliases)}
        self._other = other
        self._default = default

    def resolve(self, name: str) -> Model:
        """The model of this name; an empty name means the default. Raises ``unknown_model``."""
        name = name or self._default
        if model := self._by_name.get(name):
            return model
        base = self._by_name.get(name.partition(":")[0])
        if base and base.entry.provider == SIMULATED:
            return replace(base, upstream=name)
        if self._other:
            return replace(self._other, upstream=name)
        raise OrchestraError(ErrorCode.UNKNOWN_MODEL)

    def listing(self) -> ModelList:
        """The body of ``GET /models``."""
        return ModelList(
            data=[model.entry.info for model in self._models],
            default=self._default,
            other=self._other.entry.info if self._other else None,
        )

    async def aclose(self) -> None:
        """Close every provider's connections."""
        for provider in {id(model.provider): model.provider for model in self._every()}.values():
            await provider.aclose()

    def _every(self) -> list[Model]:
        return [*self._models, *([self._other] if self._other else [])]


def build_registry(settings: LlmServiceSettings, environment: Mapping[str, str] = os.environ) -> Registry:
    """The registry that the settings describe. Raises `llm_service.models.ModelsFileError`."""
    provider_of = _providers(settings, environment)

    def model(entry: Entry) -> Model:
        gate = Gate(entry.max_concurrency, settings.queue_seconds) if entry.max_concurrency else None
        return Model(entry, provider_of(entry), entry.upstream or entry.name, gate)

    other = pass_through(settings)
    return Registry([model(entry) for entry in table(settings)], model(other) if other else None, settings.llm_model)


def _providers(settings: LlmServiceSettings, environment: Mapping[str, str]) -> Callable[[Entry], Provider]:
    """One provider, and so one pool of connections, for each address and key."""
    simulated = Simulated()
    made: dict[tuple[str, str | None, bool], Provider] = {}
    limits = UpstreamLimits(
        connect_seconds=settings.upstream_connect_seconds,
        idle_seconds=settings.upstream_idle_seconds,
        reply_bytes=settings.max_reply_bytes,
    )

    def provider_of(entry: Entry) -> Provider:
        if entry.provider == SIMULATED:
            return simulated
        url, api_key = _address(settings, entry), _api_key(settings, entry, environment)
        key = (url, api_key, entry.provider == "openai")
        if key not in made:
            made[key] = OpenAICompatible(url, api_key, limits, openai_itself=key[2])
        return made[key]

    return provider_of


def _address(settings: LlmServiceSettings, entry: Entry) -> str:
    known = {
        "embedded": settings.embedded_base_url,
        "ollama": f"{settings.ollama_base_url.rstrip('/').removesuffix('/v1')}/v1",
        "openai": settings.openai_base_url,
    }
    return (entry.base_url or known[entry.provider]).rstrip("/")


def _api_key(settings: LlmServiceSettings, entry: Entry, environment: Mapping[str, str]) -> str | None:
    if entry.api_key_env:
        return environment.get(entry.api_key_env) or None
    # An address of its own is another server, and our OpenAI key is none of its business.
    if entry.provider == "openai" and entry.base_url is None and settings.openai_api_key:
        return settings.openai_api_key.get_secret_value()
    return None

"""Model name or alias → provider, the provider's name for it, limits, slots."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from llm_service.gate import Gate, Rate
from llm_service.models import (
    ANY_OTHER,
    LIBRARY_PROVIDERS,
    SIMULATED,
    Entry,
    ModelsFileError,
    StandIn,
    pass_through,
    table,
    without,
)
from llm_service.providers.any_llm import ThroughAnyLLM
from llm_service.providers.base import Provider
from llm_service.providers.connection import UpstreamLimits
from llm_service.providers.openai_compatible import OpenAICompatible
from llm_service.providers.simulated import Simulated, parse_options
from llm_service.settings import LlmServiceSettings
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ModelInfo, ModelList

_NO_OPTIONS = "The options of simulated models are not offered here; SIMULATED_OPTIONS of the LLM service offers them"


@dataclass(frozen=True, slots=True)
class Model:
    """A name's provider and limits. ``gate`` is None if the provider enforces its own limits."""

    entry: Entry
    provider: Provider
    upstream: str
    gate: Gate | None
    rate: Rate | None = None

    @property
    def label(self) -> str:
        """The model's name in metrics and logs: from the table, never a client's text."""
        return "other" if self.entry.name == ANY_OTHER else self.entry.name

    def renamed(self, upstream: str) -> "Model":
        """The same with a different name at the provider."""
        return Model(self.entry, self.provider, upstream, self.gate, self.rate)


class Registry:
    """All models of this service."""

    def __init__(
        self,
        models: list[Model],
        other: Model | None,
        default: str,
        make: Callable[[Entry], Model],
        *,
        simulated_options: bool,
        media_urls: bool = False,
    ) -> None:
        self._models = models
        self._make = make
        self._found: dict[str, Model] = {}
        self._by_name = {name: model for model in models for name in (model.entry.name, *model.entry.aliases)}
        self._other = other
        self._default = default
        self._simulated_options = simulated_options
        self._media_urls = media_urls

    def resolve(self, name: str) -> Model:
        """The model of this name. An empty name means the default.

        Raises ``unknown_model``, or ``invalid_request`` for invalid options of the simulated model.
        """
        name = name or self._default
        if model := self._named(name):
            return model
        base = self._named(name.partition(":")[0])
        if base and base.entry.provider == SIMULATED:
            if not self._simulated_options:
                raise OrchestraError(ErrorCode.UNKNOWN_MODEL, _NO_OPTIONS)
            parse_options(name)
            return base.renamed(name)
        if self._other:
            return self._other.renamed(name)
        raise OrchestraError(ErrorCode.UNKNOWN_MODEL)

    def chain(self, name: str) -> list[Model]:
        """The model of this name, its fallbacks, and theirs, in order. Raises like `resolve`."""
        chain = [self.resolve(name)]
        for model in chain:  # The list grows during the loop.
            for fallback in model.entry.fallbacks:
                stand_in = self.resolve(fallback)
                if stand_in not in chain:
                    chain.append(stand_in)
        return chain

    def check_fallbacks(self) -> None:
        """Raises `llm_service.models.ModelsFileError` if a fallback is not a model, or leads back to the model."""
        named = [(model.entry.name, fallback) for model in self._models for fallback in model.entry.fallbacks]
        for name, fallback in named:
            try:
                self.resolve(fallback)
            except OrchestraError:
                raise ModelsFileError(f"{name}: the fallback {fallback} is not a model") from None
        for name, fallback in named:
            if name in (stand_in.entry.name for stand_in in self.chain(fallback)):
                raise ModelsFileError(f"{name}: the fallback {fallback} leads back to it")

    def offer(self, entries: Iterable[Entry]) -> None:
        """Replace the models that were found outside the table. A name in the table takes precedence.

        The exception is an alias of the simulated model with `auto`: it has that name until another model is found.
        """
        free = (model.entry.aliases for model in self._models if isinstance(model.entry, StandIn))
        taken = set(self._by_name).difference(*free)
        found = [self._make(without(taken, entry)) for entry in entries if entry.name not in taken]
        aliases = {alias: model for model in found for alias in model.entry.aliases}
        self._found = aliases | {model.entry.name: model for model in found}

    @property
    def models(self) -> list[Model]:
        """Every model, in the order of the listing."""
        return [*self._models, *{id(model): model for model in self._found.values()}.values()]

    def listing(self) -> ModelList:
        """The body of ``GET /models``."""
        return ModelList(
            data=[self._info(model) for model in self.models],
            default=self._default,
            other=self._info(self._other) if self._other else None,
        )

    def _info(self, model: Model) -> ModelInfo:
        more: dict[str, object] = {"aliases": [name for name in model.entry.aliases if self._named(name) is model]}
        if self._media_urls:
            more["media_urls"] = model.entry.media_urls
        return model.entry.info.model_copy(update=more)

    def _named(self, name: str) -> Model | None:
        return self._found.get(name) or self._by_name.get(name)

    async def aclose(self) -> None:
        """Close every provider's connections."""
        for provider in {id(model.provider): model.provider for model in self._every()}.values():
            await provider.aclose()

    def _every(self) -> list[Model]:
        return [*self.models, *([self._other] if self._other else [])]


def build_registry(settings: LlmServiceSettings, environment: Mapping[str, str] = os.environ) -> Registry:
    """The registry of these settings. Raises `llm_service.models.ModelsFileError`."""
    provider_of = _providers(settings, environment)

    def model(entry: Entry) -> Model:
        gate = Gate(entry.max_concurrency, settings.queue_seconds) if entry.max_concurrency else None
        rate = Rate(entry.requests_per_minute) if entry.requests_per_minute else None
        return Model(entry, provider_of(entry), entry.upstream or entry.name, gate, rate)

    other = pass_through(settings)
    named = [model(entry) for entry in table(settings)]
    registry = Registry(
        named,
        model(other) if other else None,
        settings.llm_model,
        model,
        simulated_options=settings.offers_options,
        media_urls=settings.allow_media_urls,
    )
    registry.check_fallbacks()
    return registry


def _providers(settings: LlmServiceSettings, environment: Mapping[str, str]) -> Callable[[Entry], Provider]:
    """One provider, and thus one connection pool, per address and key."""
    simulated = Simulated()
    made: dict[tuple[str, str | None, str], Provider] = {}
    limits = UpstreamLimits(
        connect_seconds=settings.upstream_connect_seconds,
        idle_seconds=settings.upstream_idle_seconds,
        reply_bytes=settings.max_reply_bytes,
    )

    def provider_of(entry: Entry) -> Provider:
        if entry.provider == SIMULATED:
            return simulated
        url, api_key = _address(settings, entry), _api_key(settings, entry, environment)
        special = entry.provider in ("openai", "embedded", *LIBRARY_PROVIDERS)
        key = (url, api_key, entry.provider if special else "")
        if key not in made:
            made[key] = make(entry.provider, url, api_key)
        return made[key]

    def make(kind: str, url: str, api_key: str | None) -> Provider:
        if kind in LIBRARY_PROVIDERS:
            return ThroughAnyLLM(kind, url or None, api_key, limits)
        # The template of the embedded model has no place for tools, so its server reads none.
        return OpenAICompatible(url, api_key, limits, openai_itself=kind == "openai", calls_tools=kind != "embedded")

    return provider_of


def _address(settings: LlmServiceSettings, entry: Entry) -> str:
    known = {
        "embedded": settings.embedded_base_url,
        "ollama": f"{settings.ollama_base_url.rstrip('/').removesuffix('/v1')}/v1",
        "openai": settings.openai_base_url,
        "anthropic": settings.anthropic_base_url,
        "gemini": settings.gemini_base_url,
    }
    address = (entry.base_url or known.get(entry.provider, "")).rstrip("/")
    return address.removesuffix("/v1") if entry.provider == "anthropic" else address


def _api_key(settings: LlmServiceSettings, entry: Entry, environment: Mapping[str, str]) -> str | None:
    if entry.api_key_env:
        return environment.get(entry.api_key_env) or None
    known = {
        "embedded": settings.embedded_api_key,
        "openai": settings.openai_api_key,
        "anthropic": settings.anthropic_api_key,
        "gemini": settings.gemini_api_key,
    }
    # A different address is a different server, which must not receive our key.
    key = known.get(entry.provider) if entry.base_url is None else None
    return key.get_secret_value() if key else None

"""The table of models: the provider of each name, the provider's name for it, and its limits."""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llm_service.settings import LlmServiceSettings
from orchestra.settings import BaseUrl
from schemas.generation import ModelInfo, Price
from schemas.invalid import problems_of

Name = Annotated[str, Field(min_length=1, max_length=200)]
OwnProvider = Literal["embedded", "ollama", "openai", "vllm", "openai_compatible", "simulated"]
# Providers with an API of their own, which a library calls, by its names for them.
LibraryProvider = Literal["anthropic", "gemini", "bedrock", "cohere", "mistral", "vertexai"]
LIBRARY_PROVIDERS: tuple[str, ...] = get_args(LibraryProvider)
_PROVIDERS = (*get_args(OwnProvider), *LIBRARY_PROVIDERS)
SIMULATED = "simulated"
ANY_OTHER = "*"
OLLAMA_CONTEXT_TOKENS = 4096
# The default model of the system before this one, which old clients ask for.
_OLD_DEFAULT = "llama3"
_EMBEDDED_OUTPUT_TOKENS = 256
# Context and output that every model of these providers supports today. MODELS_FILE can set more.
_REMOTE_LIMITS = {
    # Ollama silently truncates a prompt that is longer than its own default context.
    "ollama": (OLLAMA_CONTEXT_TOKENS, 1024),
    "openai": (128_000, 16_384),
    "anthropic": (200_000, 8192),
    "gemini": (1_000_000, 8192),
}
# Providers whose servers, as a rule, hold an answer to a JSON Schema.
_STRUCTURED_OUTPUT = ("embedded", "ollama", "openai", "vllm", "openai_compatible", "gemini", SIMULATED)
# Parts in which a provider takes a URL that says nothing about the type of what is there.
_MEDIA_URLS: Mapping[str, tuple[Literal["image_url", "file"], ...]] = {
    "anthropic": ("image_url", "file"),
    "mistral": ("image_url",),
    "openai": ("image_url",),
    "openai_compatible": ("image_url",),
    "vllm": ("image_url",),
}
# Anthropic rejects a call without a limit. Ollama accepts any limit and has no default.
_WANT_A_LIMIT = ("anthropic", "ollama")


class ModelsFileError(ValueError):
    """The models file is invalid. The message says where and why, in one line."""


class Entry(BaseModel):
    """One model. ``upstream`` is its name at the provider; None: the same name.

    ``stream_options``: false if the server rejects a call that asks for the tokens of a stream to be counted.
    ``structured_output``: whether it holds an answer to a JSON Schema; None: as its provider does.
    ``max_inline_bytes``: the longest file in a message that is sent to it; None: 20 MiB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    aliases: tuple[Name, ...] = ()
    provider: OwnProvider | LibraryProvider
    base_url: BaseUrl | None = None
    api_key_env: str | None = None
    upstream: Name | None = None
    context_tokens: Annotated[int, Field(ge=1)]
    max_output_tokens: Annotated[int, Field(ge=1)]
    max_concurrency: Annotated[int, Field(ge=1)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    price: Price | None = None
    stream_options: bool = True
    structured_output: bool | None = None
    max_inline_bytes: Annotated[int, Field(ge=1)] | None = None
    fallbacks: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _reachable(self) -> "Entry":
        if self.provider in ("vllm", "openai_compatible") and self.base_url is None:
            raise ValueError(f"provider {self.provider} needs a base_url")
        if self.max_output_tokens > self.context_tokens:
            raise ValueError("max_output_tokens exceeds context_tokens")
        return self

    @property
    def info(self) -> ModelInfo:
        """The entry as ``GET /models`` shows it."""
        fields = self.model_dump(include=set(ModelInfo.model_fields))
        if self.structured_output is None:
            fields["structured_output"] = self.provider in _STRUCTURED_OUTPUT
        return ModelInfo.model_validate(fields)

    @property
    def media_urls(self) -> list[Literal["image_url", "file"]]:
        """Types of parts that may be URLs."""
        return [*_MEDIA_URLS.get(self.provider, ())]

    @property
    def origin(self) -> str:
        """To whom the state of its answers belongs: its provider, and its address if it has one of its own."""
        if self.base_url is None:
            return self.provider
        return f"{self.provider}:{hashlib.sha256(self.base_url.encode()).hexdigest()[:16]}"

    def output_limit(self, asked: int | None) -> int | None:
        """The ``max_tokens`` to send to the provider; None: no limit. ``asked``: the limit that the client sent."""
        return min(asked or self.max_output_tokens, self.max_output_tokens)


class Unlisted(Entry):
    """A model that is not in the table. It gets usual limits; they are not sent: a smaller model would reject them."""

    def output_limit(self, asked: int | None) -> int | None:
        """The limit that the client sent, and no other."""
        return super().output_limit(asked) if asked else None


class StandIn(Entry):
    """The simulated model of `auto`. Its aliases are the names of real models, until such a model is found."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: list[Entry]


def table(settings: LlmServiceSettings) -> list[Entry]:
    """All models of the table. Raises `ModelsFileError`."""
    mine = _read(settings.models_file) if settings.models_file else []
    _check_unique(mine)
    taken = {name for entry in mine for name in (entry.name, *entry.aliases)}
    return [*mine, *(without(taken, entry) for entry in _built_in(settings) if entry.name not in taken)]


def pass_through(settings: LlmServiceSettings) -> Entry | None:
    """The entry of names that are not in the table: the provider decides whether it knows them."""
    if settings.models_file or settings.llm_provider in ("embedded", "simulated", "auto"):
        return None
    return _remote(settings, ANY_OTHER)


def _built_in(settings: LlmServiceSettings) -> list[Entry]:
    alone = settings.llm_provider in ("simulated", "auto")
    names = {settings.llm_model, _OLD_DEFAULT} - {SIMULATED} if alone else set()
    simulated = (StandIn if settings.llm_provider == "auto" else Entry)(
        name=SIMULATED,
        aliases=tuple(sorted(names)),
        provider="simulated",
        context_tokens=131_072,
        max_output_tokens=16_384,
    )
    match settings.llm_provider:
        case "simulated" | "auto":
            return [simulated]
        case "embedded":
            return [_embedded(settings), simulated]
    return [entry for entry in (_remote(settings, settings.llm_model), simulated) if entry.name not in names]


def with_the_old_default(entries: list[Entry]) -> list[Entry]:
    """These entries, one of which has the name or alias `llama3`, so that clients of the old system find a model.

    If none has it, a size of it (`llama3:8b`) gets the alias, or else the first entry.
    """
    names = [entry.name.partition(":")[0] for entry in entries]
    if not entries or any(_OLD_DEFAULT in (entry.name, *entry.aliases) for entry in entries):
        return entries
    place = names.index(_OLD_DEFAULT) if _OLD_DEFAULT in names else 0
    named = entries[place].model_copy(update={"aliases": (*entries[place].aliases, _OLD_DEFAULT)})
    return [*entries[:place], named, *entries[place + 1 :]]


def _embedded(settings: LlmServiceSettings) -> Entry:
    context = settings.embedded_context_tokens
    return Entry(
        name="smollm2",
        aliases=("llama3",),
        provider="embedded",
        context_tokens=context,
        # A small model on a CPU: more would take longer than a client waits.
        max_output_tokens=min(_EMBEDDED_OUTPUT_TOKENS, context // 4),
        max_concurrency=settings.embedded_max_concurrency,
    )


def _remote(settings: LlmServiceSettings, name: str) -> Entry:
    assert settings.llm_provider != "auto", "its models are found, not listed"
    context, output = _REMOTE_LIMITS[settings.llm_provider]
    kind = Entry if settings.llm_provider in _WANT_A_LIMIT else Unlisted
    return kind(name=name, provider=settings.llm_provider, context_tokens=context, max_output_tokens=output)


def without(taken: set[str], entry: Entry) -> Entry:
    """The entry without aliases that other entries have."""
    return entry.model_copy(update={"aliases": tuple(alias for alias in entry.aliases if alias not in taken)})


def _read(path: Path) -> list[Entry]:
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).models
    except OSError as error:
        raise ModelsFileError(f"cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = problems_of(error)[0]
        place = ".".join(map(str, first["loc"]))
        if found := re.match(r"models\.\d+\.provider\.", place):
            # A choice between two lists: pydantic would report only one of them, under a name of its own.
            place, first["msg"] = found[0].rstrip("."), f"must be one of {', '.join(_PROVIDERS)}"
        raise ModelsFileError(f"{place}: {first['msg']}") from error
    except ValueError as error:
        raise ModelsFileError(f"is not TOML: {error}") from error


def _check_unique(entries: Iterable[Entry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        for name in (entry.name, *entry.aliases):
            if name in seen:
                raise ModelsFileError(f"the name {name} is there twice")
            seen.add(name)

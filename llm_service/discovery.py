"""Finds the models of a local Ollama and offers them in addition to the table."""

import asyncio
import re
from typing import Any

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from llm_service.metrics import Metrics
from llm_service.models import OLLAMA_CONTEXT_TOKENS, Entry, Name, with_the_old_default
from llm_service.providers.connection import KEEP_ALIVE
from llm_service.registry import Registry
from llm_service.settings import LlmServiceSettings
from orchestra.http.calls import transport

LOOK_AGAIN_SECONDS = 30.0
_ANSWER_SECONDS = 2.0
_CHATS = "completion"
_DEFAULT_TAG = ":latest"

_log = structlog.get_logger()
_Seen = tuple[str, str]


class _Tag(BaseModel):
    name: Name
    digest: str = ""


class _Tags(BaseModel):
    models: list[_Tag]


class _Shown(BaseModel):
    parameters: str = ""
    model_info: dict[str, Any] = {}
    capabilities: list[str] = [_CHATS]


class Discovery:
    """The models of the Ollama at ``OLLAMA_BASE_URL``. No request ever waits for it."""

    def __init__(self, settings: LlmServiceSettings, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._default = settings.llm_provider == "auto"
        self._metrics = metrics
        self._seen: dict[_Seen, Entry | None] = {}
        self._offered: list[Entry] = []
        url = settings.ollama_base_url.rstrip("/").removesuffix("/v1")
        self._client = httpx.AsyncClient(
            base_url=url, timeout=_ANSWER_SECONDS, transport=transport(url, KEEP_ALIVE), trust_env=False
        )

    async def run(self) -> None:
        """Refresh every 30 s, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def look(self) -> None:
        """Refresh once. While Ollama does not respond, known models stay: their calls fail with a retryable error."""
        try:
            entries = await self._entries()
        except (httpx.HTTPError, ValidationError):
            return
        if entries != self._offered:
            self._offered = entries
            self._registry.offer(entries)
            self._metrics.note_models(self._registry.listing().data)
            default = self._registry.resolve("").label
            _log.info("models_found", provider="ollama", count=len(entries), default=default)

    async def _entries(self) -> list[Entry]:
        response = await self._client.get("/api/tags")
        tags = _Tags.model_validate_json(response.raise_for_status().content).models
        seen = {_key(tag): self._seen[_key(tag)] if _key(tag) in self._seen else await self._entry(tag) for tag in tags}
        self._seen = seen
        entries = [entry for entry in seen.values() if entry]
        return with_the_old_default(entries) if self._default else entries

    async def _entry(self, tag: _Tag) -> Entry | None:
        """The model as an entry; None if it cannot chat."""
        response = await self._client.post("/api/show", json={"model": tag.name})
        shown = _Shown.model_validate_json(response.raise_for_status().content)
        if _CHATS not in shown.capabilities:
            return None
        context = _context(shown)
        return Entry(
            name=tag.name,
            aliases=(tag.name.removesuffix(_DEFAULT_TAG),) if tag.name.endswith(_DEFAULT_TAG) else (),
            provider="ollama",
            context_tokens=context,
            max_output_tokens=max(1, context // 4),
        )


def _key(tag: _Tag) -> _Seen:
    return tag.name, tag.digest


def _context(shown: _Shown) -> int:
    """The context that Ollama gives the model: that of its file, else the default, at most the model's maximum.

    Ollama truncates a longer prompt silently, so the model's own maximum is not the limit that matters.
    """
    told = re.search(r"^num_ctx\s+(\d+)", shown.parameters, re.MULTILINE)
    context = int(told[1]) if told else OLLAMA_CONTEXT_TOKENS
    most = [size for name, size in shown.model_info.items() if name.endswith(".context_length")]
    return max(1, min([context, *(size for size in most if isinstance(size, int) and size > 0)]))

"""Which model a stack uses: the caller's choice, else one of an Ollama on this machine, else the small model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from orchestra.devstack.model import MODEL_NAME

# The default model of the system before this one.
_OLD_DEFAULT = "llama3"
# A connection to a closed port is refused at once; an Ollama that just started on a busy machine takes longer.
_ANSWER_SECONDS = 5.0
_NO = {"0", "f", "false", "n", "no", "off"}


@dataclass(frozen=True)
class Choice:
    """``LLM_PROVIDER`` and ``LLM_MODEL`` of the services."""

    provider: str
    model: str


async def choose(env: Mapping[str, str] = os.environ) -> Choice:
    """The choice made by these variables. An Ollama that does not answer within 5 seconds is ignored."""
    provider, model = env.get("LLM_PROVIDER"), env.get("LLM_MODEL")
    if provider and provider != "embedded":
        return Choice(provider, model or _OLD_DEFAULT)
    if env.get("MODELS_FILE"):  # It may define the old default's name.
        return Choice("embedded", model or _OLD_DEFAULT)
    if not provider and env.get("OLLAMA_DISCOVERY", "").lower() not in _NO:
        found = await _of_ollama(env.get("OLLAMA_BASE_URL") or "http://127.0.0.1:11434", model)
        if found:
            return Choice("ollama", found)
    return Choice("embedded", model or MODEL_NAME)


async def _of_ollama(url: str, wanted: str | None) -> str | None:
    """The model of this Ollama to use: the wanted one, else its llama3, else its first chat model."""
    try:
        base = url.rstrip("/").removesuffix("/v1")
        async with httpx.AsyncClient(base_url=base, timeout=_ANSWER_SECONDS, trust_env=False) as client:
            names = _names((await client.get("/api/tags")).raise_for_status().json())
            first = wanted or _OLD_DEFAULT
            names.sort(key=lambda name: (name != first, name.partition(":")[0] != first))
            for name in names:
                if wanted and name != wanted:
                    continue
                shown = (await client.post("/api/show", json={"model": name})).raise_for_status().json()
                if _chats(shown):
                    return name
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        pass
    return None


def _names(tags: Any) -> list[str]:
    models = tags.get("models") if isinstance(tags, dict) else None
    named = [each.get("name") for each in models or () if isinstance(each, dict)]
    return [name.removesuffix(":latest") for name in named if isinstance(name, str) and name]


def _chats(shown: Any) -> bool:
    # Older versions do not report what a model can do.
    capabilities = shown.get("capabilities", ["completion"]) if isinstance(shown, dict) else None
    return isinstance(capabilities, list) and "completion" in capabilities

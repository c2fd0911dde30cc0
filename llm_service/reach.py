"""``GET /models?check=true``: which of the models' providers respond now."""

import asyncio

from llm_service.providers.base import Provider
from llm_service.registry import Registry
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ModelList

CHECK_SECONDS = 3.0
_OUT_OF_REACH = frozenset(
    {
        ErrorCode.AUTH,
        ErrorCode.BAD_UPSTREAM,
        ErrorCode.OVERLOADED,
        ErrorCode.UNAVAILABLE,
        ErrorCode.QUOTA_EXHAUSTED,
        ErrorCode.TIMEOUT,
    }
)


async def checked(registry: Registry) -> ModelList:
    """The listing with ``reachable`` and ``detail``. All providers are checked at once, for up to 3 s."""
    models, listing = registry.models, registry.listing()
    providers = {id(model.provider): model.provider for model in models}
    details = dict(zip(providers, await asyncio.gather(*map(_detail, providers.values())), strict=True))
    for model, info in zip(models, listing.data, strict=True):
        info.detail = details[id(model.provider)]
        info.reachable = not info.detail
    return listing


async def _detail(provider: Provider) -> str:
    """Why the provider is not reachable; empty if it responds."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await provider.check()
    except TimeoutError:
        return f"The model's provider did not answer within {CHECK_SECONDS:g} s."
    except OrchestraError as error:
        # A server that rejects this call, for instance because it has no list of models, is reachable.
        return error.detail if error.code in _OUT_OF_REACH else ""
    return ""

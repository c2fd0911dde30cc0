"""The models that a request may ask for, as workers read them from the LLM service."""

from collections.abc import Iterable, Mapping
from typing import Any

from orchestra.store.database import Database, as_json
from schemas.generation import ModelInfo, ModelList

ANY_NAME = "*"

_NOTE = """
WITH seen AS (
    INSERT INTO models AS m (name, aliases, provider, context_tokens, max_output_tokens, more)
    SELECT n.name, ARRAY(SELECT json_array_elements_text(n.aliases)), n.provider, n.context_tokens, n.max_output_tokens,
        n.more
    FROM json_to_recordset(CAST(:rows AS json)) AS n(
        name text, aliases json, provider text, context_tokens integer, max_output_tokens integer, more jsonb
    )
    ORDER BY n.name
    ON CONFLICT (name) DO UPDATE SET aliases = excluded.aliases, provider = excluded.provider,
        context_tokens = excluded.context_tokens, max_output_tokens = excluded.max_output_tokens, more = excluded.more,
        seen_at = now()
    RETURNING name
)
DELETE FROM models WHERE seen_at < now() - interval '5 minutes' AND name NOT IN (SELECT name FROM seen)
"""

_ALL = "SELECT name, aliases, provider, context_tokens, max_output_tokens, more FROM models ORDER BY name"
# Fields without a column of their own.
_MORE = {"fallbacks", "price", "max_concurrency", "requests_per_minute"}


async def note_models(database: Database, offer: ModelList) -> None:
    """Store the models that the LLM service offers now, and delete those not offered for five minutes.

    If the service passes all other names on to a provider, that provider is stored as a model named ``*``.
    """
    models = [_row(model) for model in offer.data]
    if offer.other:
        models.append({**_row(offer.other), "name": ANY_NAME, "aliases": []})
    await database.run(_NOTE, rows=as_json(models))


async def known_models(database: Database) -> list[ModelInfo]:
    """The models that a request may ask for. Empty if no worker has stored any yet."""
    rows = await database.run(_ALL)
    return [ModelInfo.model_validate({**dict(row), **(row["more"] or {})}) for row in rows]


def by_name(models: Iterable[ModelInfo]) -> dict[str, ModelInfo]:
    """These models under their names and aliases."""
    return {name: model for model in models for name in (model.name, *model.aliases)}


def named(models: Mapping[str, ModelInfo], name: str) -> ModelInfo | None:
    """The model that a request means by this name. ``models``: as of ``by_name``."""
    # Options of the simulated model follow a colon. Elsewhere a colon is part of the name, as in `llama3:8b`.
    plain = models.get(name.partition(":")[0])
    return models.get(name) or (plain if plain and plain.provider == "simulated" else None)


def _row(model: ModelInfo) -> dict[str, Any]:
    return {**model.model_dump(), "more": model.model_dump(include=_MORE, exclude_defaults=True) or None}

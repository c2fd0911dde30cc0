"""The models that can be asked for, as the workers learnt them from the LLM service."""

from orchestra.store.database import Database, as_json
from schemas.generation import ModelInfo, ModelList

ANY_NAME = "*"

_NOTE = """
WITH seen AS (
    INSERT INTO models AS m (name, aliases, provider, context_tokens, max_output_tokens)
    SELECT n.name, ARRAY(SELECT json_array_elements_text(n.aliases)), n.provider, n.context_tokens, n.max_output_tokens
    FROM json_to_recordset(CAST(:rows AS json)) AS n(
        name text, aliases json, provider text, context_tokens integer, max_output_tokens integer
    )
    ORDER BY n.name
    ON CONFLICT (name) DO UPDATE SET aliases = excluded.aliases, provider = excluded.provider,
        context_tokens = excluded.context_tokens, max_output_tokens = excluded.max_output_tokens, seen_at = now()
    RETURNING name
)
DELETE FROM models WHERE seen_at < now() - interval '5 minutes' AND name NOT IN (SELECT name FROM seen)
"""

_ALL = "SELECT name, aliases, provider, context_tokens, max_output_tokens FROM models ORDER BY name"


async def note_models(database: Database, offer: ModelList) -> None:
    """Keep what the LLM service offers now; what it has not offered for five minutes is forgotten.

    Where it passes any other name on to a provider, that is kept as a model named ``*``.
    """
    models = [model.model_dump() for model in offer.data]
    if offer.other:
        models.append({**offer.other.model_dump(), "name": ANY_NAME, "aliases": []})
    await database.run(_NOTE, rows=as_json(models))


async def known_models(database: Database) -> list[ModelInfo]:
    """What can be asked for; empty when no worker has looked yet."""
    return [ModelInfo.model_validate(dict(row)) for row in await database.run(_ALL)]

"""The models that a request may ask for, as workers read them from the LLM service."""

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
    """Store the models that the LLM service offers now, and delete those not offered for five minutes.

    If the service passes all other names on to a provider, that provider is stored as a model named ``*``.
    """
    models = [model.model_dump() for model in offer.data]
    if offer.other:
        models.append({**offer.other.model_dump(), "name": ANY_NAME, "aliases": []})
    await database.run(_NOTE, rows=as_json(models))


async def known_models(database: Database) -> list[ModelInfo]:
    """The models that a request may ask for. Empty if no worker has stored any yet."""
    return [ModelInfo.model_validate(dict(row)) for row in await database.run(_ALL)]

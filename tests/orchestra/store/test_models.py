"""Promises of orchestra/store/models.py: what the LLM service offers, for those who do not ask it."""

from orchestra.store import models
from orchestra.store.database import Database
from schemas.generation import ModelInfo, ModelList


def offer(*models: ModelInfo, other: ModelInfo | None = None) -> ModelList:
    """What an LLM service says."""
    return ModelList(data=list(models), other=other)


def model(name: str, **changes: object) -> ModelInfo:
    """A model of this name."""
    fields = {"aliases": ["alias"], "provider": "simulated", "context_tokens": 100, "max_output_tokens": 10}
    return ModelInfo.model_validate({"name": name, **fields, **changes})


async def test_what_is_noted_is_known(database: Database) -> None:
    """By name, as it was last told."""
    assert await models.known_models(database) == []
    await models.note_models(database, offer(model("b"), model("a")))
    changed = model("b", context_tokens=200, aliases=[], fallbacks=["a"], price={"input": 1, "output": 2})
    await models.note_models(database, offer(changed, model("a")))

    assert [model("a"), changed] == await models.known_models(database)


async def test_what_is_no_longer_offered_is_forgotten_after_a_while(database: Database) -> None:
    """Another LLM service may still have it: five minutes without being seen are enough, less are not."""
    await models.note_models(database, offer(model("old")))
    await models.note_models(database, offer(model("new")))
    assert 2 == len(await models.known_models(database))

    await database.run("UPDATE models SET seen_at = now() - interval '6 minutes'")
    await models.note_models(database, offer(model("new")))

    assert [model("new")] == await models.known_models(database)


async def test_any_other_name_is_a_model_of_its_own(database: Database) -> None:
    """Where names that are not listed are passed on, their limits are kept under a name that none has."""
    await models.note_models(database, offer(model("a"), other=model("whatever", context_tokens=7)))

    assert [model("*", aliases=[], context_tokens=7), model("a")] == await models.known_models(database)

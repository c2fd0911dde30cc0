"""Promises of workers/models.py: a worker knows the models that the LLM service last offered."""

from typing import Any

import pytest

from orchestra.store.database import DataRefusedError
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ModelInfo, ModelList
from tests.support.fakes import QUICK, Calls, away, running
from tests.support.waiting import eventually
from workers import models
from workers.models import Models


def info(name: str, **more: Any) -> ModelInfo:
    """A model with this name."""
    fields = {"provider": "p", "context_tokens": 100, "max_output_tokens": 10}
    return ModelInfo.model_validate({"name": name, **fields, **more})


OFFER = ModelList(data=[info("m", aliases=["a", "b"]), info("simulated")])


class Service:
    """A fake LLM service."""

    def __init__(self, *answers: ModelList | Exception) -> None:
        self._answers = Calls(*answers)

    @property
    def asked(self) -> int:
        """The number of calls."""
        return len(self._answers.calls)

    async def models(self) -> ModelList:
        """The offered models."""
        answer: ModelList = await self._answers(None)
        return answer


def table(monkeypatch: pytest.MonkeyPatch, service: Service, store: Calls) -> Models:
    """A worker's table with this service and store."""
    monkeypatch.setattr(models, "note_models", store)
    anything: Any = service
    return Models(anything, anything, QUICK)


async def test_models_are_found_by_name_alias_and_name_with_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is found by name, alias and name with options; other names only if the service accepts any."""
    known = table(monkeypatch, Service(OFFER), noted := Calls(None))
    assert known.find("m") is None

    assert await known.refresh()

    assert [OFFER.data[0]] * 3 == [known.find(name) for name in ("m", "a", "b")]
    assert OFFER.data[1] == known.find("simulated:latency_ms=5,tokens=3")
    assert known.find("other") is None
    assert [(OFFER,)] == noted.calls


async def test_any_other_name_may_be_served_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other name gets the limits of the service's catch-all entry."""
    any_name = info("any")
    known = table(monkeypatch, Service(OFFER.model_copy(update={"other": any_name})), Calls(None))
    await known.refresh()

    assert any_name == known.find("whatever")
    assert OFFER.data[0] == known.find("m")


async def test_what_is_no_longer_offered_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that the service no longer offers is removed."""
    known = table(monkeypatch, Service(OFFER, ModelList(data=[info("new")])), Calls(None))
    await known.refresh()
    await known.refresh()

    assert (None, info("new")) == (known.find("m"), known.find("new"))


async def test_a_service_that_does_not_answer_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the service fails, the known models stay."""
    known = table(monkeypatch, Service(OFFER, OrchestraError(ErrorCode.BAD_UPSTREAM)), Calls(None))
    await known.refresh()

    assert not await known.refresh()
    assert OFFER.data[0] == known.find("m")


@pytest.mark.parametrize("error", [away(), DataRefusedError("22003")], ids=["away", "refused"])
async def test_a_list_that_cannot_be_kept_is_used_all_the_same(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A list that Postgres cannot store is used all the same."""
    known = table(monkeypatch, Service(OFFER), Calls(error))

    assert not await known.refresh()
    assert OFFER.data[0] == known.find("m")


async def test_the_table_is_kept_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is refreshed regularly, and sooner after a failure."""
    service = Service(OrchestraError(ErrorCode.BAD_UPSTREAM), OFFER)
    known = table(monkeypatch, service, Calls(None))
    async with running(known.run()):
        await eventually(lambda: service.asked > 3)

    assert OFFER.data[0] == known.find("m")

import asyncio
from math import isnan
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from gateway import limits
from gateway.erasing import Erasing
from gateway.limits import Limits
from gateway.metrics import Metrics
from gateway.people.principal import Principal, nameless
from gateway.timings import Timings
from orchestra.store import erasures
from orchestra.store.database import DatabaseUnavailableError, PoolerError
from orchestra.store.pooler import Obstacle
from orchestra.store.turns import ConversationRef
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ModelInfo
from tests.support.fakes import Calls
from tests.support.models import model

REF = ConversationRef("default", uuid4())
NAMELESS = nameless()


class Store:
    """What the database would return."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.age = 0.0
        self.full: dict[ConversationRef, str | None] = {}
        self.models: list[ModelInfo] = []
        self.away: Exception | None = None
        monkeypatch.setattr(limits.requests, "oldest_runnable_age", self._age)
        monkeypatch.setattr(limits.requests, "full_conversations", self._full)
        monkeypatch.setattr(limits.models, "known_models", self._models)
        monkeypatch.setattr(erasures, "running", Calls(frozenset()))

    async def _age(self, _database: Any) -> float:
        if self.away:
            raise self.away
        return self.age

    async def _full(self, _database: Any, _most: int) -> dict[ConversationRef, str | None]:
        return self.full

    async def _models(self, _database: Any) -> list[ModelInfo]:
        return self.models


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(monkeypatch)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def looking(store: Store, metrics: Metrics) -> Limits:
    database: Any = None
    erasing = Erasing([b"s" * 32])
    return Limits(database, metrics, None, erasing, max_age=900, max_turns=1000, timings=Timings(look_at_limits=0))


def refused(
    checked: Limits, name: str | None = None, ref: ConversationRef = REF, caller: Principal = NAMELESS
) -> ErrorCode | None:
    try:
        checked.check(caller, ref[1], name)
    except OrchestraError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (None, True),
        ("smollm2", True),
        ("llama3", True),
        ("simulated", True),
        ("simulated:tokens=3", True),
        ("qwen:7b", True),
        ("qwen", False),
        ("smollm2:tokens=3", False),
        ("nonsense", False),
        ("SMOLLM2", False),
    ],
)
async def test_models(store: Store, looking: Limits, name: str | None, known: bool) -> None:
    """A model is known by its name or an alias; only a simulated one takes options behind a colon."""
    store.models = [model("smollm2", "ollama", "llama3"), model("simulated", "simulated"), model("qwen:7b")]
    await looking.look()
    assert refused(looking, name) == (None if known else ErrorCode.UNKNOWN_MODEL)


async def test_an_unknown_model_is_refused_with_where_to_look(store: Store, looking: Limits) -> None:
    """The error names the lists of models, and does not repeat the model."""
    store.models = [model("smollm2")]
    await looking.look()

    with pytest.raises(OrchestraError) as caught:
        looking.check(NAMELESS, uuid4(), "canary")

    assert "`orchestra models`" in caught.value.detail
    assert "canary" not in caught.value.detail


async def test_any_model(store: Store, looking: Limits) -> None:
    """While no list is known, or if any name is passed through, every model is accepted."""
    assert refused(looking, "anything") is None
    store.models = [model("smollm2"), model("*", "openai")]
    await looking.look()
    assert refused(looking, "anything") is None


async def test_depth(store: Store, looking: Limits) -> None:
    """A queue that is too old refuses every request, a full conversation only its own; both recover."""
    store.age, store.full = 901, {REF: None}
    await looking.look()
    other = ("default", uuid4())
    assert (refused(looking), refused(looking, ref=other)) == (ErrorCode.CONVERSATION_FULL, ErrorCode.OVERLOADED)
    store.age, store.full = 899, {}
    await looking.look()
    assert (refused(looking), refused(looking, ref=other)) == (None, None)


async def test_anothers_full_conversation(store: Store, looking: Limits) -> None:
    """Only its owner and an admin learn that a conversation is full."""
    store.full = {REF: "ann"}
    await looking.look()
    ann, bob = (Principal("default", user, frozenset({Scope.WRITE})) for user in ("ann", "bob"))
    assert (refused(looking, caller=ann), refused(looking, caller=bob)) == (ErrorCode.CONVERSATION_FULL, None)
    assert refused(looking) is ErrorCode.CONVERSATION_FULL


@pytest.mark.parametrize(
    ("away", "problem"),
    [
        (DatabaseUnavailableError("x"), "Postgres cannot be reached"),
        (PoolerError(Obstacle("a pooler loses settings", "set them")), "a pooler loses settings: set them"),
        (KeyError("x"), "Postgres rejects"),
    ],
)
async def test_goes_on(store: Store, metrics: Metrics, looking: Limits, away: Exception, problem: str) -> None:
    """While Postgres is away the limits stay as last read, no age is shown, and the health check says why."""

    def shown() -> float:
        age = metrics.registry.get_sample_value("orchestra_gateway_queue_age_seconds")
        assert age is not None
        return age

    store.full, running = {REF: None}, asyncio.create_task(looking.run())
    async with asyncio.timeout(5):
        while looking.database_problem:
            await asyncio.sleep(0)
        store.away = away
        while not looking.database_problem:
            await asyncio.sleep(0)
        assert looking.database_problem.startswith(problem)
        assert isnan(shown())
        assert refused(looking) is ErrorCode.CONVERSATION_FULL
        store.away, store.full = None, {}
        while looking.database_problem:
            await asyncio.sleep(0)
    assert refused(looking) is None
    assert shown() == store.age
    running.cancel()


@pytest.mark.parametrize(("seconds", "rest"), [(0.001, 0.01), (1.0, 10.0), (20.0, 15.0)])
async def test_a_look_is_followed_by_a_rest_in_proportion(
    store: Store, looking: Limits, monkeypatch: pytest.MonkeyPatch, seconds: float, rest: float
) -> None:
    """A gateway rests ten times as long as its look took, within a limit: a long queue loads Postgres no more."""
    rests: list[float] = []
    moments = iter([0.0, seconds])

    async def pause(seconds: float) -> None:
        rests.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    monkeypatch.setattr(limits, "asyncio", SimpleNamespace(sleep=pause))
    with pytest.raises(asyncio.CancelledError):
        await looking.run()

    assert [rest] == rests

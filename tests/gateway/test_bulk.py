"""Promises of gateway/bulk.py: each message of a bulk call is accepted or refused by itself, in order."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway import bulk
from gateway.bulk import Bulk, Outcome
from gateway.drain import Drain
from gateway.people.principal import nameless
from gateway.submission import Submission
from gateway.timings import Timings
from orchestra.store.requests import KnownRequest
from schemas.api.messages import PostMessage
from schemas.errors import ErrorCode, OrchestraError
from schemas.status import Status
from tests.support.fakes import Calls, away, steps

ADA = nameless("ada")


def submission(text: str = "hi", conversation: UUID | None = None, id: UUID | None = None) -> Submission:
    given = {"messages": [{"role": "user", "content": text}], "conversation_id": conversation}
    body = PostMessage.model_validate(given)
    return Submission(ADA, id or uuid4(), body, body.body_hash(), "trace", caller_waits=False)


@dataclass
class World:
    """A bulk whose submissions are kept. ``errors``: what refuses them, by text."""

    errors: dict[str, ErrorCode] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    at_once: int = 0
    max_at_once: int = 0
    drain: Drain = field(default_factory=Drain)

    def __post_init__(self) -> None:
        submissions: Any = self
        database: Any = None
        self.bulk = Bulk(database, submissions, self.drain, Timings(look_for_row=0.001))

    async def accept(self, submission: Submission) -> None:
        self.at_once += 1
        self.max_at_once = max(self.at_once, self.max_at_once)
        try:
            # Later ones would overtake earlier ones if they were not held back.
            await steps(1 if len(self.sent) % 2 else 3)
            text: Any = submission.body.messages[-1].content
            if text in self.errors:
                raise OrchestraError(self.errors[text])
            self.sent.append(text)
        finally:
            self.at_once -= 1

    async def send(self, *given: Submission, keyed: bool = False) -> list[Outcome]:
        return await self.bulk.send(given, frozenset(each.id for each in given) if keyed else frozenset())


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What is known of the requests that have keys: nothing, unless the test says otherwise."""
    calls = Calls({})
    monkeypatch.setattr("gateway.bulk.requests.known", calls)
    monkeypatch.setattr(bulk, "_COMPARE_SECONDS", 0.0)
    return calls


def codes(outcomes: list[Outcome]) -> list[str | None]:
    return [each.error and each.error.code for each in outcomes]


async def test_order_within_a_conversation(world: World, rows: Calls) -> None:
    """Messages of one conversation are accepted in the order of the list, those of others beside them."""
    one, other = uuid4(), uuid4()
    given = [submission(str(number), one if number % 3 else other) for number in range(60)]

    outcomes = await world.send(*given)

    assert given == [each.submission for each in outcomes]
    assert [None] * 60 == codes(outcomes)
    ones = [str(number) for number in range(60) if number % 3]
    assert ones == [text for text in world.sent if text in ones]
    assert [str(number) for number in range(0, 60, 3)] == [text for text in world.sent if text not in ones]
    assert (2, [(set(),)]) == (world.max_at_once, rows.calls)


async def test_few_are_on_their_way_at_once(world: World) -> None:
    """A call has at most eight records on their way to Kafka, however many messages it has."""
    assert [None] * 200 == codes(await world.send(*(submission(str(number)) for number in range(200))))
    assert (8, 200) == (world.max_at_once, len(world.sent))


async def test_a_message_that_is_refused(world: World) -> None:
    """One that can never be accepted refuses no other; one that may be accepted later refuses those behind it."""
    world.errors = {
        "wrong": ErrorCode.UNKNOWN_MODEL,
        "early": ErrorCode.TOO_MANY_OPEN,
        "lost": ErrorCode.OUTCOME_UNKNOWN,
    }
    one, two = uuid4(), uuid4()
    given = [
        submission("wrong", one), submission("a", one), submission("early", one), submission("b", one),
        submission("lost", two), submission("c", two), submission("d"),
    ]  # fmt: skip

    outcomes = await world.send(*given)

    expected = ["unknown_model", None, "too_many_open", "too_many_open", "outcome_unknown", "unavailable", None]
    assert expected == codes(outcomes)
    assert {"a", "d"} == set(world.sent)


async def test_a_key_that_an_earlier_call_used(world: World, rows: Calls) -> None:
    """A message whose key is known is not sent again; with another body it is refused."""
    same, other, new = submission("same"), submission("other"), submission("new")
    known = {
        ADA.request(same.id): KnownRequest(same.body_hash, Status.COMPLETED, "ada"),
        ADA.request(other.id): KnownRequest("another", Status.PENDING, "ada"),
    }
    rows._results = [known]

    outcomes = await world.send(same, other, new, keyed=True)

    assert [None, "idempotency_key_reused", None] == codes(outcomes)
    assert [Status.COMPLETED, None, Status.PENDING] == [each.status for each in outcomes]
    assert ["new"] == world.sent


async def test_a_key_twice_in_one_call(world: World) -> None:
    """The second message with a key is the first one again, or refused if its body differs."""
    id = uuid4()

    outcomes = await world.send(submission("a", id=id), submission("a", id=id), submission("b", id=id), keyed=True)

    assert [None, None, "idempotency_key_reused"] == codes(outcomes)
    assert ["a"] == world.sent


async def test_a_key_that_another_call_uses_meanwhile(
    world: World, rows: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a call beside this one came first with another body, this one's message is refused once its row shows it."""
    monkeypatch.setattr(bulk, "_COMPARE_SECONDS", 60.0)
    first, second = submission("first"), submission("second")
    rows._results = [
        {},
        {ADA.request(first.id): KnownRequest(first.body_hash, Status.IN_PROGRESS, "ada")},
        {ADA.request(second.id): KnownRequest("another", Status.PENDING, "ada")},
    ]

    outcomes = await world.send(first, second, keyed=True)

    assert [None, "idempotency_key_reused"] == codes(outcomes)
    assert [Status.PENDING, None] == [each.status for each in outcomes]


async def test_what_is_accepted_is_pending(world: World, rows: Calls) -> None:
    """However soon a worker begins with a message, a call that accepted it says so in one word."""
    sent = submission("sent")
    rows._results = [{}, {ADA.request(sent.id): KnownRequest(sent.body_hash, Status.IN_PROGRESS, "ada")}]

    (outcome,) = await world.send(sent, keyed=True)

    assert Status.PENDING is outcome.status


async def test_without_postgres(world: World, rows: Calls) -> None:
    """While Postgres is away messages with keys are accepted all the same: an id is taken in once."""
    rows._results = [away()]

    assert [None, None] == codes(await world.send(submission("a"), submission("b"), keyed=True))
    assert ["a", "b"] == sorted(world.sent)


async def test_a_call_that_takes_too_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not sent in time, or before the gateway began to shut down, is refused and may be sent again."""
    monkeypatch.setattr(bulk, "_MAX_SECONDS", -1.0)
    assert ["too_many_calls"] == codes(await world.send(submission()))
    world.drain.begin()
    assert ["unavailable"] == codes(await world.send(submission()))
    assert [] == world.sent

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.drain import Drain
from gateway.following.events import Hub
from gateway.following.live import Ending
from gateway.http.problems import RequestProblemError
from gateway.metrics import Metrics
from gateway.people.principal import nameless
from gateway.submission import Submission
from gateway.submit import Submissions, attach_request_id, check_times
from gateway.timings import Timings
from orchestra.agents.catalogue import Agents
from orchestra.receipts import Receipts
from orchestra.store.requests import StoredRequest
from schemas.api.requests import RequestResource
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import MessageRequested
from schemas.status import Status
from tests.support.events import SIGNER
from tests.support.fakes import away

CALLER = nameless("alice")


def body(**more: Any) -> MessageRequested:
    return MessageRequested.model_validate({"prompt": "hi", **more})


def ask(id: UUID | None = None, **more: Any) -> Submission:
    made = body(**more)
    return Submission(CALLER, id or uuid4(), made, made.body_hash(), "trace", caller_waits=False)


@dataclass
class Around:
    """The parts around a submission: rows found in turn, a limit that may be reached, a log that keeps its records."""

    rows: list[StoredRequest | Exception | None] = field(default_factory=list)
    limit: OrchestraError | None = None
    looks: int = 0
    sent: list[Submission] = field(default_factory=list)

    async def stored(self, _caller: Any, _id: UUID) -> StoredRequest | None:
        self.looks += 1
        row = self.rows.pop(0) if self.rows else None
        if isinstance(row, Exception):
            raise row
        return row

    def check(self, *_: Any) -> None:
        if self.limit:
            raise self.limit

    async def message(self, ask: Submission) -> None:
        self.sent.append(ask)


OFTEN = Timings(look_for_row=0.001)


class Made:
    """Submissions with fakes around them."""

    def __init__(self) -> None:
        self.around, self.drain, self.hub = Around(), Drain(), Hub(Metrics(), 1024 * 1024, SIGNER)
        around: Any = self.around
        self.submissions = Submissions(
            Receipts([b"x" * 32]), around, around, Agents.load(None), around, self.hub, self.drain, OFTEN
        )

    async def send(self, ask: Submission, **more: Any) -> StoredRequest | None:
        with self.hub.watch(CALLER.request(ask.id)) as live:
            return await self.submissions.send(ask, live, **{"again": True, **more})


@pytest.fixture
def made() -> Made:
    return Made()


def row(ask: Submission, body_hash: str | None = None) -> StoredRequest:
    resource = RequestResource(id=ask.id, status=Status.PENDING)
    return StoredRequest(resource, body_hash or ask.body_hash, CALLER.user)


async def test_the_same_key_is_the_same_id(made: Made) -> None:
    """A key gives one id per caller and route; without a key every id is new."""
    id = made.submissions.id
    assert id(CALLER, "/v1/tasks", "k") == id(CALLER, "/v1/tasks", "k")
    others = {id(CALLER, "/v1/messages", "k"), id(nameless("bob"), "/v1/tasks", "k"), id(CALLER, "/v1/tasks", "l")}
    assert len({*others, id(CALLER, "/v1/tasks", "k")}) == 4
    assert id(CALLER, "/v1/tasks", None) != id(CALLER, "/v1/tasks", None)


async def test_an_earlier_one_is_not_sent_again(made: Made) -> None:
    """A request that has a row with the same body is not sent again, even if limits or agents have changed since."""
    made.around.limit = OrchestraError(ErrorCode.OVERLOADED)
    asked = ask(task_type="forgotten")
    stored = row(asked)
    made.around.rows = [stored]

    assert await made.send(asked) is stored
    assert made.around.sent == []


@pytest.mark.parametrize("refused_by", [None, "limits", "agents", "postgres"])
async def test_what_a_request_needs_is_made_once_nothing_speaks_against_it(made: Made, refused_by: str | None) -> None:
    """It is made after all checks and before the record, which is not written while Postgres is away."""
    begun: list[int] = []

    async def begin() -> None:
        begun.append(len(made.around.sent))
        if refused_by == "postgres":
            raise away()

    made.around.limit = OrchestraError(ErrorCode.OVERLOADED) if refused_by == "limits" else None
    asked = replace(ask(task_type="forgotten") if refused_by == "agents" else ask(), begin=begin)
    if refused_by is None:
        await made.submissions.accept(asked)
        assert ([0], [asked]) == (begun, made.around.sent)
        return
    with pytest.raises(OrchestraError) as refused:
        await made.submissions.accept(asked)
    codes = {"limits": ErrorCode.OVERLOADED, "agents": ErrorCode.UNKNOWN_AGENT, "postgres": ErrorCode.UNAVAILABLE}
    assert (codes[refused_by], []) == (refused.value.code, made.around.sent)
    assert ([0] if refused_by == "postgres" else []) == begun


async def test_a_deleted_answer_is_not_given_again(made: Made) -> None:
    """A gateway that still has an answer whose row is gone refuses a repeat of the call, and sends nothing."""
    asked = ask()
    with made.hub.watch(CALLER.request(asked.id)) as live:
        live.finish(Ending(Status.COMPLETED, 1, "a secret"))
        with pytest.raises(OrchestraError) as refused:
            await made.send(asked)

    assert refused.value.code is ErrorCode.CONVERSATION_DELETED
    assert made.around.sent == []


async def test_another_body_under_the_same_key(made: Made) -> None:
    """A row with another body refuses the call before anything is sent."""
    asked = ask()
    made.around.rows = [row(asked, "another")]

    with pytest.raises(OrchestraError) as refused:
        await made.send(asked)

    assert refused.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert made.around.sent == []


async def test_another_body_that_came_first(made: Made) -> None:
    """Of two concurrent calls with the same key, the one whose body was not taken in is refused."""
    asked = ask()
    made.around.rows = [None, None, row(asked, "another")]

    with pytest.raises(OrchestraError) as refused:
        await made.send(asked)

    assert refused.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert made.around.sent == [asked]


@pytest.mark.parametrize("more", [{"agent": "nobody"}, {"task_type": "nobody"}])
async def test_an_unknown_agent_is_not_sent(made: Made, more: dict[str, Any]) -> None:
    """An unknown agent is refused before anything is sent, as an agent and as a task's type."""
    with pytest.raises(OrchestraError) as refused:
        await made.send(ask(**more), again=False)

    assert refused.value.code is ErrorCode.UNKNOWN_AGENT
    assert made.around.sent == []


async def test_a_limit_refuses(made: Made) -> None:
    """A request over a limit is not sent."""
    made.around.limit = OrchestraError(ErrorCode.OVERLOADED)

    with pytest.raises(OrchestraError):
        await made.send(ask(), again=False)

    assert made.around.sent == []


async def test_without_a_key_nobody_waits(made: Made) -> None:
    """Without a key there can be no earlier call, so the database is not queried."""
    assert await made.send(ask(), again=False) is None
    assert (len(made.around.sent), made.around.looks) == (1, 0)


async def test_waiting_for_the_row(made: Made) -> None:
    """A caller that needs the row waits until it is there."""
    asked = ask()
    made.around.rows = [None, None, row(asked)]

    await made.send(asked, again=False, row_seconds=30)

    assert made.around.looks == 3


async def test_a_row_that_does_not_come(made: Made) -> None:
    """The wait for a row ends after its time, when Postgres goes away, and when the gateway shuts down."""
    await made.send(ask(), again=False, row_seconds=0.01)
    made.around.rows = [away()]
    await made.send(ask(), again=False, row_seconds=30)
    made.drain.begin()
    await asyncio.wait_for(made.send(ask(), again=False, row_seconds=30), 10)
    assert len(made.around.sent) == 3


async def test_postgres_away_before_the_send(made: Made) -> None:
    """While Postgres is away a call with a key is accepted: intake takes in one request per id, however often sent."""
    made.around.rows = [away(), away()]

    assert await made.send(asked := ask()) is None

    assert made.around.sent == [asked]


def at(**ahead: float) -> datetime:
    return datetime.now(UTC) + timedelta(**ahead)


@pytest.mark.parametrize(
    "times",
    [
        {},
        {"deadline": at(days=6.9)},
        {"not_before": at(days=6.9)},
        {"not_before": at(hours=1), "deadline": at(hours=2)},
        {"not_before": at(hours=-1), "deadline": at(hours=-0.5)},
    ],
)
def test_times_that_can_be_kept(times: dict[str, datetime]) -> None:
    """Times within 7 days are accepted, past ones too, and a start before its deadline."""
    check_times(body(**times))


@pytest.mark.parametrize(
    "times",
    [
        {"deadline": at(days=7.1)},
        {"not_before": at(days=7.1)},
        {"not_before": at(hours=2), "deadline": at(hours=1)},
        {"not_before": at(hours=1).replace(microsecond=0), "deadline": at(hours=1).replace(microsecond=0)},
    ],
)
def test_times_that_cannot_be_kept(times: dict[str, datetime]) -> None:
    """Times further ahead, and a start that is not before the deadline, are refused."""
    with pytest.raises(OrchestraError) as refused:
        check_times(body(**times))
    assert refused.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("code", [ErrorCode.OUTCOME_UNKNOWN, ErrorCode.OVERLOADED])
def test_about(code: ErrorCode) -> None:
    """Errors about an existing id contain it; the others do not."""
    id = uuid4()
    with pytest.raises(OrchestraError) as raised, attach_request_id(id):
        raise OrchestraError(code, retry_after=3)
    assert raised.value.retry_after == 3
    named = raised.value.request_id if isinstance(raised.value, RequestProblemError) else None
    assert named == (id if code is ErrorCode.OUTCOME_UNKNOWN else None)

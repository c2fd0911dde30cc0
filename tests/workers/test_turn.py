"""Promises of workers/turn.py: one attempt, one outcome, one ending."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from structlog.testing import capture_logs

from orchestra.agents.catalogue import Agents
from orchestra.store.claims import Claimed, Owner
from orchestra.store.endings import AttemptEnd
from orchestra.store.turns import ConversationRef
from orchestra.transcript import Piece
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerateRequest, ModelInfo, Usage
from schemas.status import Status
from tests.support.fakes import Calls, Rounds, away, steps
from tests.support.records import claimed
from tests.support.store import to_store
from tests.support.waiting import eventually
from workers import turn as module
from workers.flight import Flight, Stage
from workers.generate import Answered, Done, FallbackRestart, State
from workers.media import FilesAwayError, Media
from workers.metrics import Metrics
from workers.outcome import Cancelled, Interrupted, LeaseLost, Stop
from workers.throttle import Throttle
from workers.timings import TIMINGS, Timings
from workers.turn import Turns

USAGE = Usage(input_tokens=3, output_tokens=2)
CANARY = "canary-5e0a"


class Model:
    """A fake LLM service and table of models: yields its pieces, or raises the errors among them."""

    def __init__(self, *pieces: Answered | BaseException | asyncio.Event, info: ModelInfo | None = None) -> None:
        self._pieces = pieces
        self._info = info
        self.asked: list[GenerateRequest] = []
        self.closed = 0

    def find(self, _name: str) -> ModelInfo | None:
        """The known model."""
        return self._info

    async def generate(self, request: GenerateRequest, *_named: object) -> AsyncGenerator[Answered, None]:
        """One call."""
        self.asked.append(request)
        try:
            for piece in self._pieces:
                if isinstance(piece, BaseException):
                    raise piece
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                else:
                    yield piece
        finally:
            self.closed += 1


class Publisher(Rounds):
    """A fake publisher."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[object] = []

    def started(self, turn: Claimed) -> None:
        """Note the start."""
        self.said.append(("started", turn.fence))

    def delta(self, _turn: Claimed, at: int, text: str, n: int | None = None) -> None:
        """Note a piece of text."""
        self.said.append((at, text) if n is None else (at, text, n))

    def piece(self, _turn: Claimed, n: int, piece: Piece) -> None:
        """Note another piece."""
        self.said.append((n, piece))

    def restart(self, turn: Claimed, code: ErrorCode, detail: str) -> None:
        """Note a failed attempt."""
        self.hand_over(turn)
        self.said.append(("restart", turn.fence, code, detail))


class Attempt:
    """One turn run with these pieces, and its effects."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        model: Model,
        turn: Claimed,
        recall: Calls | None = None,
        agents: Agents | None = None,
        timings: Timings = TIMINGS,
        media: Media | None = None,
    ) -> None:
        self.model = model
        self.publisher = Publisher()
        self.throttle = Throttle(100)
        self.throttle.begun(turn.model)
        self.recall = recall or Calls({})
        self.endings: list[AttemptEnd] = []
        monkeypatch.setattr(module, "recall", self.recall)
        anything: Any = model
        publisher: Any = self.publisher
        known = agents or Agents([])
        self.media = media or Media(anything, None)
        turns = Turns(
            anything, anything, known, anything, publisher, Metrics(), self.throttle, self.media, self._finish, timings
        )
        self.flight = Flight(turn)
        (self.work,) = turns.run([self.flight])

    async def _finish(self, ending: AttemptEnd) -> None:
        assert self.flight.stage is Stage.OVER
        self.publisher.hand_over(ending)
        self.endings.append(ending)

    async def end(self) -> AttemptEnd:
        """The turn's ending."""
        await asyncio.wait_for(self.work, 10)
        (ending,) = self.endings
        return ending


async def run(monkeypatch: pytest.MonkeyPatch, *pieces: Any, **changes: Any) -> AttemptEnd:
    """The ending of a turn with these pieces."""
    return await Attempt(monkeypatch, Model(*pieces), claimed(**changes)).end()


async def test_an_answer_completes_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is stored with its text, usage and question, and its start and deltas are published."""
    turn = claimed(fence=3)
    attempt = Attempt(monkeypatch, Model("The ", "fox", Done(USAGE, "length")), turn)

    ending = await attempt.end()

    assert (turn.ref, turn.conversation_id, 3) == (ending.ref, ending.conversation_id, ending.fence)
    assert "length" == ending.finish_reason
    assert (Status.COMPLETED, "The fox", USAGE, [to_store("user", "hi")]) == (
        ending.status,
        ending.reply,
        ending.usage,
        ending.said,
    )
    assert [("started", 3), (0, "The "), (4, "fox")] == attempt.publisher.said


async def test_history_comes_before_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored history of the conversation is sent before the question."""
    turn = claimed()
    said: dict[ConversationRef, list[ChatMessage]] = {
        ("default", turn.conversation_id): [ChatMessage(role="user", content="before")]
    }
    attempt = Attempt(monkeypatch, Model(Done(USAGE)), turn, Calls(said))

    await attempt.end()

    assert ["before", "hi"] == [each.content for each in attempt.model.asked[0].messages]


async def test_the_histories_of_many_turns_are_recalled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The histories of many turns are read with one query, and with none if no turn wants history."""
    monkeypatch.setattr(module, "recall", recall := Calls({}))
    model: Any = Model(Done(USAGE))
    given = {"messages": [{"role": "user", "content": "x"}], "context": "given"}

    async def finish(_ending: AttemptEnd) -> None: ...

    turns = Turns(model, model, Agents([]), model, Publisher(), Metrics(), Throttle(9), Media(model, None), finish)  # type: ignore[arg-type]
    await asyncio.gather(*turns.run([Flight(claimed()), Flight(claimed()), Flight(claimed(body=given))]))
    await asyncio.gather(*turns.run([Flight(claimed(body=given))]))

    assert [2] == [len(wanted) for (wanted,) in recall.calls]


async def test_history_is_waited_for_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """During an outage of Postgres a turn waits for its history."""
    monkeypatch.setattr(module.random, "uniform", lambda _low, _high: 0.001)
    attempt = Attempt(monkeypatch, Model(Done(USAGE)), claimed(), Calls(away(), away(), {}))

    assert Status.COMPLETED is (await attempt.end()).status
    assert 3 == len(attempt.recall.calls)


async def test_an_error_that_may_pass_is_tried_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retryable error puts the turn back with a delay, its error, and a log row without any content."""
    ending = await run(monkeypatch, "part", OrchestraError(ErrorCode.BAD_UPSTREAM, "broke"), body=_body(CANARY))

    assert (Status.PENDING, False, None) == (ending.status, ending.give_try_back, ending.reply)
    assert ending.delay > 0
    assert ending.log is not None
    assert "llm_decode_error" == ending.log[0]
    assert "bad_upstream: broke" in ending.log[1]
    assert (ErrorCode.BAD_UPSTREAM, "broke") == ending.error
    assert CANARY not in str(ending)


async def test_a_rate_limit_costs_no_try_and_teaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate limit gives the try back, follows the advised time, and lowers the model's limit."""
    attempt = Attempt(monkeypatch, Model(OrchestraError(ErrorCode.RATE_LIMITED, retry_after=9)), claimed())

    ending = await attempt.end()

    assert (Status.PENDING, True) == (ending.status, ending.give_try_back)
    assert ending.delay >= 9
    assert ["llama3"] == [limit.model for limit in attempt.throttle.limits()]


@pytest.mark.parametrize("caller_seconds", [0.0, 60.0])
async def test_a_failed_attempt_is_told_once_it_is_written(
    monkeypatch: pytest.MonkeyPatch, caller_seconds: float
) -> None:
    """The error of a failed attempt is published as soon as it is stored, also with a blocking client."""
    error = OrchestraError(ErrorCode.RATE_LIMITED, "not now")
    attempt = Attempt(monkeypatch, Model(error), claimed(fence=2, caller_seconds=caller_seconds))
    written = len(attempt.endings)

    await attempt.end()

    assert ("restart", 2, ErrorCode.RATE_LIMITED, "not now") == attempt.publisher.said[-1]
    assert (0, 1) == (written, len(attempt.endings))


async def test_what_is_over_is_told_by_its_ending_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No restart is published after a final failure."""
    attempt = Attempt(monkeypatch, Model(OrchestraError(ErrorCode.CONTENT_FILTER, "filtered")), claimed())

    await attempt.end()

    assert [("started", 1)] == attempt.publisher.said


@pytest.mark.parametrize("code", [ErrorCode.AUTH, ErrorCode.QUOTA_EXHAUSTED, ErrorCode.OVERLOADED])
async def test_a_refusal_holds_the_model_back_even_where_it_is_final(
    monkeypatch: pytest.MonkeyPatch, code: ErrorCode
) -> None:
    """A refusal that fails a blocking client still holds the model back."""
    turn = claimed(caller_seconds=60.0, tries=3, max_tries=3)
    attempt = Attempt(monkeypatch, Model(OrchestraError(code, "no")), turn)

    ending = await attempt.end()

    assert (Status.FAILED, [("llama3", code, "no")]) == (
        ending.status,
        [(held.model, held.code, held.detail) for held in attempt.throttle.held()],
    )


async def test_the_time_that_an_attempt_took_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the attempt is subtracted from the time that a blocking client has left."""
    error = OrchestraError(ErrorCode.RATE_LIMITED, "not now", retry_after=5)
    early = Attempt(monkeypatch, Model(error), claimed(caller_seconds=60.0))
    late = Attempt(monkeypatch, Model(error), claimed(caller_seconds=60.0))
    late.flight.began -= 58

    assert (Status.PENDING, Status.FAILED) == ((await early.end()).status, (await late.end()).status)


async def test_an_attempt_that_would_come_too_late_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn whose next attempt would come too late expires and keeps the error."""
    error = OrchestraError(ErrorCode.RATE_LIMITED, "not now", retry_after=50)
    ending = await run(monkeypatch, error, seconds_left=40.0)

    assert (Status.EXPIRED, (ErrorCode.RATE_LIMITED, "not now")) == (ending.status, ending.error)


@pytest.mark.parametrize(
    ("code", "tries", "told"),
    [
        (ErrorCode.CONTENT_FILTER, 1, [("warning", "request_failed")]),
        (ErrorCode.BAD_UPSTREAM, 5, [("warning", "request_failed")]),
        (ErrorCode.BAD_UPSTREAM, 1, [("info", "attempt_failed")]),
        (ErrorCode.AUTH, 1, [("warning", "model_held_back"), ("debug", "attempt_failed")]),
    ],
)
async def test_each_failure_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, code: ErrorCode, tries: int, told: list[tuple[str, str]]
) -> None:
    """Each failure is logged once with request, code and attempt, a hold once per model, and never any content."""
    turn = claimed(fence=7, tries=tries, body=_body(CANARY), model=CANARY)
    with capture_logs() as lines:
        await Attempt(monkeypatch, Model(OrchestraError(code, "why")), turn).end()

    assert told == [(line["log_level"], line["event"]) for line in lines]
    assert {"request_id": str(turn.id), "code": code, "attempt": 7} == {
        name: value for name, value in lines[-1].items() if name not in ("event", "log_level")
    }
    assert CANARY not in str(lines)


async def test_the_end_of_a_hold_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer after a hold is logged once."""
    attempt = Attempt(monkeypatch, Model(Done(USAGE)), claimed())
    attempt.throttle.refused("llama3", OrchestraError(ErrorCode.RATE_LIMITED), attempt.flight.began)
    attempt.flight.began += 10
    with capture_logs() as lines:
        await attempt.end()

    assert ["model_answers_again"] == [line["event"] for line in lines]


async def test_an_error_for_good_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A final error fails the turn with code and detail, and the partial answer is discarded."""
    ending = await run(monkeypatch, "part", OrchestraError(ErrorCode.CONTENT_FILTER, "filtered"))

    assert (Status.FAILED, (ErrorCode.CONTENT_FILTER, "filtered")) == (ending.status, ending.error)
    assert (None, ()) == (ending.reply, ending.said)


async def test_a_question_too_long_fails_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is too long fails without a call to the model."""
    info = ModelInfo(name="m", provider="p", context_tokens=10, max_output_tokens=5)
    attempt = Attempt(monkeypatch, Model(Done(USAGE), info=info), claimed(body=_body("x" * 100)))

    ending = await attempt.end()

    assert ending.error is not None
    assert (ErrorCode.CONTEXT_TOO_LONG, []) == (ending.error[0], attempt.model.asked)


async def test_an_unknown_agent_fails_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown agent fails the turn without a call to the model."""
    attempt = Attempt(monkeypatch, Model(Done(USAGE)), claimed(body={**_body("x"), "task_type": "nobody"}))

    ending = await attempt.end()

    assert (Status.FAILED, (ErrorCode.UNKNOWN_AGENT, "No agent has this name")) == (ending.status, ending.error)
    assert ([], []) == (attempt.model.asked, attempt.publisher.said)


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
HEAD, ARGUMENTS = Piece("tool_call", "", 0, "call_1", "weather"), Piece("tool_arguments", "{}", 0)


async def test_an_answer_that_calls_a_tool_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its items, the provider's data and what it weighs are stored, and its pieces are published in order."""
    pieces = [Piece("reasoning", "so"), "I look.", HEAD, ARGUMENTS, State({"provider": "p"})]
    attempt = Attempt(monkeypatch, Model(*pieces, Done(USAGE, "tool_calls")), claimed())

    ending = await attempt.end()

    assert ending.items
    assert ("I look.", "tool_calls", {"provider": "p"}) == (ending.reply, ending.finish_reason, ending.items.state)
    assert [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "so"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    ] == ending.items.output
    assert len("I look.") + len(orjson.dumps([CALL])) + len(orjson.dumps({"provider": "p"})) == ending.items.weight
    told = [("started", 1), (0, pieces[0]), (0, "I look.", 2), (9, HEAD), (10, ARGUMENTS)]
    assert told == attempt.publisher.said


async def test_a_fallback_begins_without_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither calls nor provider data of the model that failed are part of the fallback's answer."""
    renewals(monkeypatch, claimed(fence=2))
    pieces = [HEAD, ARGUMENTS, State({"provider": "p"}), FallbackRestart(), "text", Done(USAGE)]

    ending = await run(monkeypatch, *pieces)

    assert ("text", None) == (ending.reply, ending.items)


async def test_all_kinds_of_pieces_count_towards_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of reasoning and arguments without an end is too long to store, like one of text."""
    monkeypatch.setattr(module, "MAX_REPLY_CHARACTERS", 10)
    pieces = [Piece("reasoning", "x" * 5), HEAD, Piece("tool_arguments", "y" * 5), "never", Done(USAGE)]
    attempt = Attempt(monkeypatch, Model(*pieces), claimed())

    ending = await attempt.end()

    assert ending.error is not None
    assert (ErrorCode.BAD_UPSTREAM, 1) == (ending.error[0], attempt.model.closed)


async def test_missing_results_fail_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result whose call is not in the conversation fails the request at once, and no event says that it started."""
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    attempt = Attempt(monkeypatch, Model(Done(USAGE)), claimed(body={"messages": [result]}, has_history=False))

    ending = await attempt.end()

    assert ending.error is not None
    assert (Status.FAILED, ErrorCode.TOOL_RESULTS_MISSING) == (ending.status, ending.error[0])
    assert ([], []) == (attempt.model.asked, attempt.publisher.said)


IMAGE = {"type": "image_url", "image_url": {"file_id": "file-1"}}
PDF = {"type": "file", "file": {"file_id": "file-2"}}
DATA = {"type": "text", "text": "data"}
NAMES_FILES = {"messages": [{"role": "user", "content": [IMAGE, PDF]}]}


class FakeMedia:
    """Files that are found, and that become a text; or an error in place of either."""

    def __init__(self, *, find: Exception | None = None, fill: Exception | None = None) -> None:
        self._errors = find, fill
        self.owners: list[Owner] = []
        self.held: Any = Mock()

    def hold(self) -> Any:
        """What is held."""
        return self.held

    async def find(self, owner: Owner, *_more: object) -> dict[str, Any]:
        """The files, with 7 and 5,000 bytes."""
        self.owners.append(owner)
        if self._errors[0]:
            raise self._errors[0]
        return {
            "file-1": Mock(bytes=7, media_type="image/png", of_body=False),
            "file-2": Mock(bytes=5000, media_type="text/plain", of_body=False),
        }

    async def fill(self, ask: GenerateRequest, *_more: object) -> GenerateRequest:
        """The request with a text in the place of its parts."""
        if self._errors[1]:
            raise self._errors[1]
        filled = [each.model_copy(update={"content": [DATA]}) if each.parts else each for each in ask.messages]
        return ask.model_copy(update={"messages": filled})


async def test_files_are_sent_as_data_and_stored_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model gets the data, the history what was said, with what the files weigh; the data are let go in between."""
    media: Any = FakeMedia()
    model = Model("one", Done(USAGE))
    attempt = Attempt(monkeypatch, model, claimed(body=NAMES_FILES, user="ann"), media=media)

    ending = await attempt.end()

    assert [("default", "ann")] == media.owners
    assert [[DATA]] == [each.content for each in model.asked[0].messages]
    assert [to_store("user", "", [IMAGE, PDF], weight=3000 + 5000)] == ending.said
    assert 1 == media.held.release.call_count


async def test_files_count_before_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that leaves no room for the conversation is sent without it; one that does not fit is too long."""
    small, large = [
        ModelInfo(name="m", provider="p", context_tokens=tokens, max_output_tokens=100) for tokens in (2000, 3000)
    ]
    media: Any = FakeMedia()
    budgets = []
    for info in (small, large):
        attempt = Attempt(monkeypatch, Model(Done(USAGE), info=info), claimed(body=NAMES_FILES), media=media)
        ending = await attempt.end()
        budgets.append([want.budget for (wanted,) in attempt.recall.calls for want in wanted])
        assert (Status.FAILED if info is small else Status.COMPLETED) == ending.status

    assert [[], [(3000 - 100) * 3 - 8000]] == budgets


@pytest.mark.parametrize("code", [ErrorCode.FILE_NOT_FOUND, ErrorCode.FILE_TOO_LARGE, ErrorCode.UNSUPPORTED_PART])
@pytest.mark.parametrize("when", ["find", "fill"])
async def test_a_file_that_cannot_be_used_fails_without_a_call(
    monkeypatch: pytest.MonkeyPatch, code: ErrorCode, when: str
) -> None:
    """The request ends at once with the error's own code, also with tries left."""
    media: Any = FakeMedia(**{when: OrchestraError(code, "why")})
    attempt = Attempt(monkeypatch, Model(Done(USAGE)), claimed(body=NAMES_FILES), media=media)

    ending = await attempt.end()

    assert (Status.FAILED, (code, "why"), []) == (ending.status, ending.error, attempt.model.asked)


@pytest.mark.parametrize(("caller_seconds", "free"), [(0.0, True), (60.0, False)])
async def test_files_that_are_away_do_not_hold_the_model_back(
    monkeypatch: pytest.MonkeyPatch, caller_seconds: float, *, free: bool
) -> None:
    """The request waits as for a model that is down, its error says why, and other requests of its model go on."""
    media: Any = FakeMedia(fill=FilesAwayError())
    turn = claimed(body=NAMES_FILES, caller_seconds=caller_seconds)
    attempt = Attempt(monkeypatch, Model(Done(USAGE)), turn, media=media)

    ending = await attempt.end()

    assert (Status.PENDING, free, []) == (ending.status, ending.give_try_back, attempt.model.asked)
    assert (ErrorCode.UNAVAILABLE, "files are unavailable") == ending.error
    assert ([], []) == (attempt.throttle.held(), list(attempt.throttle.limits()))
    assert 1 == media.held.release.call_count


async def test_files_of_the_history_are_sent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that names none itself gets those of the turns before it."""
    turn, media = claimed(), FakeMedia()
    said = {("default", turn.conversation_id): [ChatMessage(role="user", content=[IMAGE])]}
    anything: Any = media
    attempt = Attempt(monkeypatch, Model(Done(USAGE)), turn, Calls(said), media=anything)

    await attempt.end()

    assert [[DATA], "hi"] == [each.content for each in attempt.model.asked[0].messages]


async def test_waiting_for_room_is_no_time_of_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt may take its whole time after it has waited longer than that for room; the deadline still counts."""
    media, timings = FakeMedia(), replace(TIMINGS, attempt=0.05)
    room, fill = asyncio.Event(), media.fill

    async def wait(*given: Any) -> GenerateRequest:
        await room.wait()
        return await fill(*given)

    monkeypatch.setattr(media, "fill", wait)
    anything: Any = media
    attempt = Attempt(monkeypatch, Model(Done(USAGE)), claimed(body=NAMES_FILES), timings=timings, media=anything)
    late = Attempt(
        monkeypatch, Model(Done(USAGE)), claimed(body=NAMES_FILES, seconds_left=0.1), timings=timings, media=anything
    )
    waiting = asyncio.create_task(attempt.end())

    assert Status.EXPIRED is (await late.end()).status  # Twice the time of an attempt has passed.
    room.set()
    assert Status.COMPLETED is (await waiting).status


@pytest.fixture
def form(tmp_path: Path) -> Agents:
    """An agent whose answers are lists of numbers."""
    schema = '[answer_schema]\ntype = "array"\nitems.type = "integer"\n'
    (tmp_path / "form.toml").write_text(f'description = "d"\nsystem = "s"\n{schema}')
    return Agents.load(tmp_path)


async def test_an_answer_that_fits_completes_a_turn(monkeypatch: pytest.MonkeyPatch, form: Agents) -> None:
    """An answer that fits the schema is stored exactly as the model wrote it."""
    turn = claimed(body={**_body("x"), "agent": "form"})
    ending = await Attempt(monkeypatch, Model("[1,", " 2]\n", Done(USAGE)), turn, agents=form).end()

    assert (Status.COMPLETED, "[1, 2]\n", [to_store("user", "x")]) == (ending.status, ending.reply, ending.said)


async def test_calls_are_not_checked_against_the_schema(monkeypatch: pytest.MonkeyPatch, form: Agents) -> None:
    """An agent's model may call a tool before it gives the answer that has to match."""
    turn = claimed(body={**_body("x"), "agent": "form"})
    ending = await Attempt(monkeypatch, Model(HEAD, ARGUMENTS, Done(USAGE, "tool_calls")), turn, agents=form).end()

    assert (Status.COMPLETED, "") == (ending.status, ending.reply)


async def test_long_reasoning_does_not_make_an_answer_long(monkeypatch: pytest.MonkeyPatch, form: Agents) -> None:
    """Only the text of an answer is checked against the schema, and only its length counts."""
    monkeypatch.setattr(module, "MAX_CHARACTERS", 10)
    turn = claimed(body={**_body("x"), "agent": "form"})
    ending = await Attempt(
        monkeypatch, Model(Piece("reasoning", "x" * 11), "[1]", Done(USAGE)), turn, agents=form
    ).end()

    assert (Status.COMPLETED, "[1]") == (ending.status, ending.reply)


@pytest.mark.parametrize("length", [1, 10_000])
async def test_an_answer_that_does_not_fit_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, form: Agents, length: int
) -> None:
    """A mismatch is retried at once for a try, is never quoted in a log, and finally fails the turn with its place."""
    pieces = ["[", "1," * length, f'"{CANARY}"', "]", Done(USAGE)]
    body = {**_body("x"), "agent": "form"}
    ending = await Attempt(monkeypatch, Model(*pieces), claimed(body=body), agents=form).end()
    last = await Attempt(monkeypatch, Model(*pieces), claimed(body=body, tries=5), agents=form).end()

    assert (Status.PENDING, 0, False) == (ending.status, ending.delay, ending.give_try_back)
    assert ending.log is not None
    assert "llm_decode_error" == ending.log[0]
    where = f"the model's answer does not fit the agent's schema: $[{length}] does not match `type`"
    assert (Status.FAILED, (ErrorCode.ANSWER_MISMATCH, where)) == (last.status, last.error)
    assert CANARY not in f"{ending}{last}"


async def test_an_endless_answer_fits_no_schema(monkeypatch: pytest.MonkeyPatch, form: Agents) -> None:
    """The call is closed as soon as the answer is too long to be checked against the schema."""
    monkeypatch.setattr(module, "MAX_CHARACTERS", 10)
    turn = claimed(body={**_body("x"), "agent": "form"}, tries=5)
    attempt = Attempt(monkeypatch, Model("1" * 10, "1", "never", Done(USAGE)), turn, agents=form)

    ending = await attempt.end()

    assert ending.error is not None
    assert (ErrorCode.ANSWER_MISMATCH, 1) == (ending.error[0], attempt.model.closed)
    assert (10, "1") == attempt.publisher.said[-1]


async def test_an_endless_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is closed as soon as the answer is too long to store."""
    monkeypatch.setattr(module, "MAX_REPLY_CHARACTERS", 10)
    attempt = Attempt(monkeypatch, Model("x" * 10, "y", "never", Done(USAGE)), claimed())

    ending = await attempt.end()

    assert ending.error is not None
    assert (ErrorCode.BAD_UPSTREAM, 1) == (ending.error[0], attempt.model.closed)


async def test_a_deadline_ends_a_running_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the deadline the call is closed and the turn expires."""
    attempt = Attempt(monkeypatch, Model("part", asyncio.Event()), claimed(seconds_left=0.05))

    assert Status.EXPIRED is (await attempt.end()).status
    assert 1 == attempt.model.closed


async def test_an_attempt_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt times out even if its deadline is far away, and is retried."""
    attempt = Attempt(monkeypatch, Model("part", asyncio.Event()), claimed(), timings=Timings(attempt=0.05))

    ending = await attempt.end()

    assert Status.PENDING is ending.status
    assert ending.log is not None
    assert "timeout" in ending.log[1]
    assert 1 == attempt.model.closed


@pytest.mark.parametrize("kind", [RuntimeError, asyncio.CancelledError], ids=lambda kind: kind.__name__)
async def test_a_crash_of_ours_is_tried_again(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    """A crash, or a CancelledError of a client, is retried, named only by its type, and fails after the last try."""
    ending = await run(monkeypatch, kind(CANARY))
    last = await run(monkeypatch, kind(CANARY), tries=5)

    assert (Status.PENDING, Status.FAILED) == (ending.status, last.status)
    assert last.error == (ErrorCode.INTERNAL, f"the worker failed: {kind.__name__}")
    assert CANARY not in f"{ending}{last}"


async def test_a_turn_that_cannot_be_read_is_tried_again_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn with an unreadable row is retried and fails, and the worker continues."""
    ending = await run(monkeypatch, Done(USAGE), body={"messages": [CANARY]})
    last = await run(monkeypatch, Done(USAGE), body={"messages": [CANARY]}, tries=5)

    assert (Status.PENDING, Status.FAILED) == (ending.status, last.status)
    assert last.error == (ErrorCode.INTERNAL, "the worker failed: ValidationError")


async def test_a_crash_behind_an_attempt_ends_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after the attempt still ends the turn."""
    attempt = Attempt(monkeypatch, Model(OrchestraError(ErrorCode.RATE_LIMITED)), claimed())
    monkeypatch.setattr(attempt.throttle, "refused", Mock(side_effect=RuntimeError(CANARY)))

    ending = await attempt.end()

    assert (Status.FAILED, (ErrorCode.INTERNAL, "the worker failed: RuntimeError")) == (ending.status, ending.error)


@pytest.mark.parametrize("moment", ["at once", "in the stream"])
@pytest.mark.parametrize(
    ("why", "check"),
    [
        (Cancelled(), lambda ending: ending.status is Status.CANCELLED),
        (
            Interrupted(),
            lambda ending: (ending.status, ending.delay, ending.give_try_back) == (Status.PENDING, 0, True),
        ),
    ],
)
async def test_a_stopped_turn_ends_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, why: Stop, check: Callable[[AttemptEnd], bool], moment: str
) -> None:
    """A stopped turn closes its call and ends as cancelled, or goes back uncounted if interrupted."""
    attempt = Attempt(monkeypatch, Model("part", asyncio.Event()), claimed())
    task = asyncio.create_task(attempt.work)
    if moment == "in the stream":
        await eventually(lambda: (0, "part") in attempt.publisher.said)
    else:
        await steps(1)
    attempt.flight.stopped = why
    task.cancel()
    await asyncio.wait_for(task, 10)

    (ending,) = attempt.endings
    assert check(ending)
    assert len(attempt.model.asked) == attempt.model.closed


def renewals(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> Calls:
    """A fake Postgres that gives these answers to renewals, or the next number if there are none."""
    given = answers or (lambda turn: replace(turn, fence=turn.fence + 1),)
    monkeypatch.setattr(module, "next_attempt", calls := Calls(*given))
    monkeypatch.setattr(module.random, "uniform", lambda _low, _high: 0.001)
    return calls


async def test_a_restart_is_another_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart the attempt has its new number before its first text, and only its text counts."""
    renewals(monkeypatch)
    usage = Usage(output_tokens=1, cost=0.5, model="other")
    model = Model("bro", "ken", FallbackRestart(), "wh", FallbackRestart(), "whole", Done(usage))
    attempt = Attempt(monkeypatch, model, claimed(fence=3, tries=2))

    ending = await attempt.end()

    assert (Status.COMPLETED, "whole", usage, 5) == (ending.status, ending.reply, ending.usage, ending.fence)
    assert [("started", 3), (0, "bro"), ("started", 4), (0, "wh"), ("started", 5), (0, "whole")] == (
        attempt.publisher.said
    )
    assert (5, 2) == (attempt.flight.turn.fence, attempt.flight.turn.tries)


async def test_a_restart_waits_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """During an outage of Postgres no text of the new attempt is published."""
    turn = claimed()
    calls = renewals(monkeypatch, away(), away(), replace(turn, fence=2))
    attempt = Attempt(monkeypatch, Model("a", FallbackRestart(), "b", Done(USAGE)), turn)

    assert ("b", 2) == ((ending := await attempt.end()).reply, ending.fence)
    assert 3 == len(calls.calls)


async def test_a_restart_of_a_lost_turn_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart of a turn that another worker has closes the call and writes nothing."""
    renewals(monkeypatch, None)
    attempt = Attempt(monkeypatch, Model("a", FallbackRestart(), "b", Done(USAGE)), claimed())
    await asyncio.wait_for(attempt.work, 10)

    assert ([], 1) == (attempt.endings, attempt.model.closed)
    assert [("started", 1), (0, "a")] == attempt.publisher.said


async def test_who_is_stopped_while_he_restarts_ends_the_right_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop during a renewal waits for the attempt's number and ends that attempt."""
    committed = asyncio.Event()

    async def slow(_database: object, turn: Claimed) -> Claimed:
        await committed.wait()
        return replace(turn, fence=turn.fence + 1)

    monkeypatch.setattr(module, "next_attempt", slow)
    attempt = Attempt(monkeypatch, Model("a", FallbackRestart(), "b", Done(USAGE)), claimed())
    task = asyncio.create_task(attempt.work)
    await eventually(lambda: attempt.flight.stage is Stage.RENEWING)
    attempt.flight.stopped = Cancelled()
    task.cancel()
    await steps()
    assert [] == attempt.endings
    committed.set()
    await asyncio.wait_for(task, 10)

    (ending,) = attempt.endings
    assert (Status.CANCELLED, 2) == (ending.status, ending.fence)


async def test_a_stand_in_teaches_nothing_of_the_model_it_stands_in_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer from a fallback does not raise the limit of the model that refused."""
    for model, room in ((None, 1), ("other", 0)):
        attempt = Attempt(monkeypatch, Model(Done(Usage(model=model))), claimed())
        attempt.throttle.begun("llama3")
        attempt.throttle.refused("llama3", OrchestraError(ErrorCode.RATE_LIMITED), 0.0)
        attempt.throttle.ended("llama3")
        await attempt.end()
        assert [room] == [limit.room for limit in attempt.throttle.limits()]


async def test_a_turn_that_is_somebody_elses_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn whose lease is lost writes no ending."""
    attempt = Attempt(monkeypatch, Model("part", asyncio.Event()), claimed())
    task = asyncio.create_task(attempt.work)
    await eventually(lambda: attempt.model.asked)
    attempt.flight.stopped = LeaseLost()
    task.cancel()
    await asyncio.wait_for(task, 10)

    assert (attempt.endings, attempt.model.closed) == ([], 1)


def _body(content: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}

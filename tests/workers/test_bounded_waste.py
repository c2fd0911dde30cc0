"""Promises of all paths that cost no try (G7): however long a model refuses, it gets few calls, and clients learn why.

The paths are found in the code: a new path without a case here fails a test.
"""

import ast
import asyncio
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.agents.catalogue import Agents
from orchestra.store.endings import AttemptEnd
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from schemas.generation import Usage
from schemas.status import Status
from tests.support.fakes import Calls
from tests.support.hour import Asked, Hour
from tests.support.records import claimed
from workers import turn as module
from workers.flight import Flight
from workers.generate import Done, FallbackRestart
from workers.media import Media
from workers.metrics import Metrics
from workers.outcome import Interrupted, RetryLater
from workers.retry import ACCOUNT, PACES, after_error
from workers.throttle import Throttle
from workers.turn import Turns, _ending

ROOT = Path(__file__).parents[2]
RETRYABLE = sorted(code for code in ErrorCode if ERRORS[code].retryable)
# The number of calls if the wait doubles from one second to two minutes and stays there for an hour.
MAX_CALLS_AN_HOUR = 40
TRIES = 5


def refuses(code: ErrorCode, retry_after: float | None = None) -> Callable[[float], OrchestraError]:
    """A model that only returns this error."""
    return lambda _now: OrchestraError(code, "why", retry_after=retry_after)


@pytest.mark.parametrize("code", RETRYABLE)
def test_one_request_for_an_hour(code: ErrorCode) -> None:
    """One request to a model that always returns this error causes at most a few dozen calls in an hour."""
    hour = Hour(refuses(code), [Asked()]).play()

    assert len(hour.calls) <= (MAX_CALLS_AN_HOUR if code in PACES else TRIES)


@pytest.mark.parametrize("code", RETRYABLE)
def test_thirty_requests_for_an_hour(code: ErrorCode) -> None:
    """Thirty requests cause one call each; after that an error that costs no try causes no more calls than for one."""
    hour = Hour(refuses(code), [Asked() for _ in range(30)]).play()

    assert len(hour.calls) <= (30 + MAX_CALLS_AN_HOUR if code in PACES else 30 * TRIES)


@pytest.mark.parametrize("code", sorted(PACES))
def test_requests_that_keep_coming(code: ErrorCode) -> None:
    """Requests that arrive every ten seconds while the model is held back cause no calls of their own."""
    hour = Hour(refuses(code), [Asked(came=10.0 * number) for number in range(360)]).play()

    assert len(hour.calls) <= MAX_CALLS_AN_HOUR


@pytest.mark.parametrize("retry_after", [0, 1, 2, 60])
@pytest.mark.parametrize("code", sorted(PACES))
def test_advice_of_a_short_wait_is_no_way_round(code: ErrorCode, retry_after: float) -> None:
    """A provider that advises one second for an hour is called no more often than one without advice."""
    hour = Hour(refuses(code, retry_after), [Asked() for _ in range(30)]).play()

    assert len(hour.calls) <= 30 + MAX_CALLS_AN_HOUR


@pytest.mark.parametrize("code", sorted(PACES))
def test_workers_that_remember_nothing(code: ErrorCode) -> None:
    """With three workers that restart every twenty seconds, each request is slowed down by its own attempts."""
    hour = Hour(refuses(code), [Asked() for _ in range(30)], workers=3, forgets=20).play()

    assert max(len(asked.calls) for asked in hour.requests) <= MAX_CALLS_AN_HOUR


@pytest.mark.parametrize("code", sorted(PACES))
def test_a_model_that_is_well_again_answers_all(code: ErrorCode) -> None:
    """After ten minutes of refusals every request is answered within the longest wait, with few extra calls."""
    error = OrchestraError(code, "why")
    hour = Hour(lambda now: error if now < 600 else None, [Asked() for _ in range(30)]).play()

    assert {"completed"} == {asked.ending for asked in hour.requests}
    assert max(asked.ended for asked in hour.requests) <= 600 + PACES[code].max_seconds + 300
    assert len(hour.calls) <= 60 + MAX_CALLS_AN_HOUR


@pytest.mark.parametrize("code", sorted(PACES))
def test_a_caller_who_waits(code: ErrorCode) -> None:
    """A blocking client gets the reason before it gives up at sixty seconds, after fewer than ten calls."""
    hour = Hour(refuses(code), [Asked(caller_waits=True, max_tries=3)]).play()

    (asked,) = hour.requests
    assert ("failed", True) == (asked.ending, asked.ended < 60)
    assert len(asked.calls) <= (1 if code in ACCOUNT else 9)


def test_a_caller_who_waits_is_told_of_a_long_retry_after() -> None:
    """A Retry-After longer than a blocking client waits leads to one call and the error at once."""
    hour = Hour(refuses(ErrorCode.RATE_LIMITED, 60), [Asked(caller_waits=True)]).play()

    (asked,) = hour.requests
    assert ("failed", 1) == (asked.ending, len(asked.calls))


@pytest.mark.parametrize("code", sorted(PACES))
def test_callers_who_come_while_a_model_is_held_back(code: ErrorCode) -> None:
    """Of clients that come every second each gets its error soon, with as few calls as for one client."""
    hour = Hour(refuses(code), [Asked(came=1.0 * number, caller_waits=True) for number in range(600)]).play()

    assert {"failed"} == {asked.ending for asked in hour.requests}
    assert max(asked.ended - asked.came for asked in hour.requests) <= 60
    assert len(hour.calls) <= MAX_CALLS_AN_HOUR


def test_a_caller_who_left_is_waited_for_no_longer() -> None:
    """After a client has left, its request is retried as rarely as any other."""
    late = Asked(caller_waits=True)
    hour = Hour(refuses(ErrorCode.RATE_LIMITED), [late])
    late.run_at = 61.0  # Until then no worker had a slot for it.

    hour.play()

    assert late.ending is None
    assert 5 < len(late.calls) <= MAX_CALLS_AN_HOUR


def calls_of(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Each call in a file, with the function that it is in."""
    for function in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    yield function.name, node


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def gives_back(call: ast.Call) -> bool:
    """Whether a try may be given back by this call, or an attempt begin that costs none."""
    told = [word.value for word in call.keywords if word.arg == "give_try_back"]
    never = told and isinstance(told[0], ast.Constant) and told[0].value is False
    return name_of(call) in ("RetryLater", "next_attempt") or bool(told and not never)


def free_paths() -> set[str]:
    """Every place in the workers that may give back a try or start an attempt without one."""
    found = set()
    for path in (ROOT / "workers").glob("*.py"):
        found |= {f"{path.stem}.{function} {name_of(call)}" for function, call in calls_of(path) if gives_back(call)}
    return found


class Model:
    """The LLM service and the table of models."""

    def __init__(self, *pieces: str | FallbackRestart | Done) -> None:
        self._pieces = pieces
        self.asked = 0

    def find(self, _name: str) -> None:
        return None

    async def generate(self, *_named: object) -> Any:
        self.asked += 1
        for piece in self._pieces:
            yield piece


class Silent:
    """A publisher that discards everything."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_: None


async def a_stand_in_is_no_call_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart within the LLM service's answer is part of the same call, however often it happens."""
    model: Any = Model(*[FallbackRestart()] * 50, Done(Usage()))
    turn = claimed()
    monkeypatch.setattr(module, "recall", Calls({}))
    monkeypatch.setattr(module, "next_attempt", Calls(lambda turn: turn))
    endings: list[AttemptEnd] = []

    async def finish(ending: AttemptEnd) -> None:
        endings.append(ending)

    silent: Any = Silent()
    turns = Turns(model, model, Agents([]), model, silent, Metrics(), Throttle(9), Media(model, None), finish)
    await asyncio.gather(*turns.run([Flight(turn)]))

    assert ([Status.COMPLETED], 1) == ([ending.status for ending in endings], model.asked)


async def an_ending_says_what_the_rules_said(_: pytest.MonkeyPatch) -> None:
    """An ending gives back a try, and shortens a delay, only if `after_error` decided so."""
    for free in (True, False):
        outcome = RetryLater(17.0, free, ErrorCode.AUTH, "why")
        ending = _ending(claimed(), outcome)
        assert ending
        assert (17.0, free) == (ending.delay, ending.give_try_back)


async def only_a_worker_that_stops_interrupts(_: pytest.MonkeyPatch) -> None:
    """A turn goes back uncounted once for each worker that is stopped, and for no other reason."""
    makes = {
        f"{path.stem}.{function}"
        for path in (ROOT / "workers").glob("*.py")
        for function, call in calls_of(path)
        if name_of(call) == "Interrupted"
    }
    ending = _ending(claimed(), Interrupted())

    assert ending
    assert ({"app._drain"}, True) == (makes, ending.give_try_back)


async def by_the_hour(_: pytest.MonkeyPatch) -> None:
    """The codes that cost no try are those that the tests above play, and each of them has a back-off."""
    for code in RETRYABLE:
        after = after_error(claimed(), OrchestraError(code), random.uniform)
        assert not isinstance(after, RetryLater) or after.give_try_back <= (code in PACES)
    for code in PACES:
        assert len(Hour(refuses(code), [Asked()]).play().calls) <= MAX_CALLS_AN_HOUR


CASES = {
    "retry.after_error RetryLater": by_the_hour,
    "turn._ending ending": an_ending_says_what_the_rules_said,
    "turn._ending ending Interrupted": only_a_worker_that_stops_interrupts,
    "turn._next_attempt next_attempt": a_stand_in_is_no_call_of_ours,
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_every_path_that_costs_no_try(
    case: Callable[[pytest.MonkeyPatch], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each path that costs no try leads to few calls."""
    await case(monkeypatch)


def test_every_path_that_costs_no_try_has_a_case() -> None:
    """A new path that gives a try back, or starts an attempt without one, needs a case here."""
    assert {name.removesuffix(" Interrupted") for name in CASES} == free_paths()


def test_tries_are_given_back_in_one_place() -> None:
    """Only the ending of an attempt lowers the count of tries, so the cases cover every path."""
    lowers = [
        path.name
        for path in (*(ROOT / "orchestra/store").glob("*.py"), *(ROOT / "migrations").glob("*.sql"))
        for _ in re.findall(r"\btries\s*=[^,\n]*-", path.read_text("utf-8"))
    ]

    assert ["0015_one_round_trip.sql", "0020_content.sql"] == sorted(lowers)

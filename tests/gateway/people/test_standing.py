"""Promises of gateway/people/standing.py: the caller of a long call is identified again."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from gateway.people.principal import EVERYTHING, Principal, nameless
from gateway.people.standing import Standing
from gateway.timings import Timings
from orchestra.store.database import DatabaseUnavailableError
from orchestra.store.keys import Session
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError

ANN = Principal("default", "ann", frozenset({Scope.READ, Scope.WRITE}))
ADMIN = replace(ANN, scopes=EVERYTHING)


class Asked:
    """Returns the current caller, and counts how often it was called."""

    def __init__(self, answer: Principal | Exception) -> None:
        self.answer, self.times = answer, 0

    async def __call__(self) -> Principal:
        self.times += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


AT_ONCE = Timings(ask_again=0.0)


async def test_nobody_is_asked_for_before_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two checks nothing is queried; then there is one query, and another after 20 seconds."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    asked = Asked(ANN)
    standing = Standing(ANN, asked)
    await standing.check()
    assert (asked.times, standing.due) == (0, 1020.0)

    now += 20
    for _ in range(2):
        await standing.check()
    assert (asked.times, standing.due) == (1, 1040.0)


@pytest.mark.parametrize("caller", [ANN, ADMIN, nameless(), nameless("ann")])
async def test_who_is_the_same_stays(caller: Principal) -> None:
    """A call continues when the caller's rights change but not the data it sees."""
    await Standing(caller, Asked(replace(caller, session=Session(uuid4(), datetime.now(UTC)))), AT_ONCE).check()
    await Standing(ANN, Asked(replace(ANN, scopes=frozenset({Scope.READ}))), AT_ONCE).check()


@pytest.mark.parametrize("code", [ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN])
async def test_who_would_not_be_let_in_is_told_so(code: ErrorCode) -> None:
    """A caller that has lost its access gets the error that a new call would get."""
    with pytest.raises(OrchestraError) as caught:
        await Standing(ANN, Asked(OrchestraError(code)), AT_ONCE).check()
    assert caught.value.code is code


@pytest.mark.parametrize("now", [ANN, replace(ADMIN, user="bob"), replace(ADMIN, tenant="them")])
async def test_who_sees_something_else_now_asks_again(now: Principal) -> None:
    """An admin who has lost that role does not continue to read other users' data."""
    with pytest.raises(OrchestraError) as caught:
        await Standing(ADMIN, Asked(now), AT_ONCE).check()
    assert caught.value.code is ErrorCode.FORBIDDEN


async def test_postgres_away_takes_nothing_from_anybody() -> None:
    """While Postgres is away no access is lost; it is checked again later."""
    asked = Asked(DatabaseUnavailableError("away"))
    standing = Standing(ANN, asked, AT_ONCE)
    await standing.check()
    asked.answer = OrchestraError(ErrorCode.UNAUTHORIZED)
    with pytest.raises(OrchestraError):
        await standing.check()

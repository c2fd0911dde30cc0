"""Promises of gateway/routes/agents.py: a caller can list the available agents."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.http.problems import Problems
from gateway.metrics import Metrics
from gateway.people.principal import Principal, nameless
from gateway.routes.agents import routes
from orchestra.agents.catalogue import Agents
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from tests.support.people import routed

SECRET = "canary-5e0a"
POET = f"""
description = "Writes poems."
system = "{SECRET}"
model = "m"
temperature = 0.5
stop = ["END"]
[answer_schema]
type = "object"
"""


class Callers:
    """Gives every caller these scopes."""

    def __init__(self, *scopes: Scope) -> None:
        self._scopes = scopes

    async def identify(self, _request: object, scope: Scope, _or_scope: object) -> Principal:
        """Refuse a caller without the scope."""
        if scope not in self._scopes:
            raise OrchestraError(ErrorCode.FORBIDDEN)
        return nameless()


async def listed(agents: Agents, *scopes: Scope) -> httpx.Response:
    """The response to a caller with these scopes."""
    app, callers = FastAPI(), Callers(*scopes)
    anybody: Any = callers
    Problems(Metrics()).install(app)
    app.include_router(routed(anybody, routes(agents)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get("/v1/agents")


async def test_agents_are_listed_by_name(tmp_path: Path) -> None:
    """The list has the built-in agents and the operator's, with all that a caller may know."""
    (tmp_path / "poet.toml").write_text(POET)

    answer = await listed(Agents.load(tmp_path), Scope.READ)

    page = answer.json()
    names = ["analyst", "code_generation", "interviewer", "poet", "programmer", "summarization", "translation"]
    assert (200, None, names) == (answer.status_code, page["next"], [agent["name"] for agent in page["data"]])
    assert {
        "name": "poet",
        "description": "Writes poems.",
        "model": "m",
        "temperature": 0.5,
        "top_p": None,
        "max_tokens": None,
        "stop": ["END"],
        "answer_schema": {"type": "object"},
    } == page["data"][3]
    assert SECRET not in answer.text


@pytest.mark.parametrize("scopes", [(), (Scope.WRITE,)])
async def test_who_may_not_read_is_refused(scopes: tuple[Scope, ...]) -> None:
    """A caller without the scope `read` is refused."""
    answer = await listed(Agents.load(None), *scopes)

    assert (403, "forbidden") == (answer.status_code, answer.json()["code"])

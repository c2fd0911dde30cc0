"""Agents: the list of those that may be named."""

from collections.abc import Sequence

from fastapi import Response

from gateway.http.answers import json_answer
from gateway.http.route import Call, Route
from orchestra.agents.catalogue import Agents
from schemas.api.agents import AgentResource
from schemas.api.conversations import Page
from schemas.api.keys import Scope


def routes(agents: Agents) -> Sequence[Route]:
    """The row of the route table."""
    shown = [AgentResource.model_validate(agent, from_attributes=True) for agent in agents.all]

    async def list_agents(_call: Call[None]) -> Response:
        """The agents that a message or a task may name. What they say to the model is not shown."""
        return json_answer(Page[AgentResource](data=shown, next=None))

    page = {"model": Page[AgentResource], "description": "All of them, by name"}
    return [Route("GET", "/v1/agents", list_agents, Scope.READ, {200: page})]

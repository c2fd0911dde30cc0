"""Agents: list them."""

from collections.abc import Sequence

from fastapi import Response

from gateway.http.responses import json_answer
from gateway.http.route import Call, Route
from orchestra.agents.catalogue import Agents
from schemas.api.agents import AgentPage, AgentResource
from schemas.api.keys import Scope


def routes(agents: Agents) -> Sequence[Route]:
    """The row of the route table."""
    shown = [AgentResource.model_validate(agent, from_attributes=True) for agent in agents.all]

    async def list_agents(_call: Call[None]) -> Response:
        """List the agents that messages and tasks may name.

        Their system messages are not shown.
        """
        return json_answer(AgentPage(data=shown, next=None))

    page = {"model": AgentPage, "description": "All agents, sorted by name"}
    return [Route("GET", "/v1/agents", list_agents, Scope.READ, {200: page})]

"""Agents: the list of those that may be named."""

from fastapi import APIRouter, Request, Response

from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.people.callers import Callers
from orchestra.agents.catalogue import Agents
from schemas.api.agents import AgentResource
from schemas.api.conversations import Page
from schemas.api.keys import Scope
from schemas.errors import ErrorCode

_PROBLEMS = openapi.problems(
    ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.INVALID_REQUEST, ErrorCode.UNAVAILABLE
)


def build_router(callers: Callers, agents: Agents) -> APIRouter:
    """The route for the app."""
    router = APIRouter(prefix="/v1/agents", tags=["agents"])
    shown = [AgentResource.model_validate(agent, from_attributes=True) for agent in agents.all]
    page: openapi.Responses = {200: {"model": Page[AgentResource], "description": "All of them, by name"}}

    @router.get("", response_model=None, responses={**_PROBLEMS, **page})
    async def list_agents(request: Request) -> Response:
        """The agents that a message or a task may name. What they say to the model is not shown."""
        await callers.identify(request, Scope.READ)
        return json_answer(Page[AgentResource](data=shown, next=None))

    return router

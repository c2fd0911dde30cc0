"""``GET models`` and ``GET models/{id}``: the models that workers offer, and the agents."""

from collections.abc import Sequence

from fastapi import Response

from gateway.http.responses import json_answer
from gateway.http.route import Call, Route
from gateway.limits import Limits
from gateway.openai.calls import AGENT
from gateway.openai.paths import PREFIX, under_v1_too
from orchestra.agents.catalogue import Agents
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ModelInfo
from schemas.openai.models import ModelObject, ModelObjects

_UNKNOWN = "No model has this name; GET /openai/v1/models lists all"


class ModelRoutes:
    """The routes, with their collaborators."""

    def __init__(self, limits: Limits, agents: Agents) -> None:
        self._limits = limits
        self._agents = [_agent(agent.name, agent.description) for agent in agents.all]

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        # A model's name may have slashes.
        path, one = f"{PREFIX}/models", f"{PREFIX}/models/{{model_id:path}}"
        every, model = (
            {"model": ModelObjects, "description": "All models and agents"},
            {"model": ModelObject, "description": "The model or agent"},
        )
        missing = (ErrorCode.UNKNOWN_MODEL,)
        return under_v1_too(
            [
                Route("GET", path, self.list_models, Scope.READ, {200: every}),
                Route("GET", one, self.get_model, Scope.READ, {200: model}, also=missing),
            ]
        )

    async def list_models(self, _call: Call[None]) -> Response:
        """List the models and agents, as in OpenAI's API."""
        found = [_model(model) for model in self._limits.models]
        return json_answer(ModelObjects(data=[*found, *self._agents]))

    async def get_model(self, _call: Call[None], model_id: str) -> Response:
        """Get a model by its name or an alias, or an agent."""
        for agent in self._agents:
            if agent.id == model_id:
                return json_answer(agent)
        for model in self._limits.models:
            if model_id == model.name or model_id in model.aliases:
                return json_answer(_model(model))
        raise OrchestraError(ErrorCode.UNKNOWN_MODEL, _UNKNOWN)


def _model(model: ModelInfo) -> ModelObject:
    return ModelObject(
        id=model.name,
        owned_by=model.provider,
        aliases=model.aliases or None,
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        max_concurrency=model.max_concurrency,
        requests_per_minute=model.requests_per_minute,
        fallbacks=model.fallbacks or None,
        price=model.price,
    )


def _agent(name: str, description: str) -> ModelObject:
    return ModelObject(id=f"{AGENT}{name}", owned_by="agents", description=description or None)

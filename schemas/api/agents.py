"""Agents as a caller sees them."""

from typing import Any

from schemas.generation import Sampling


class AgentResource(Sampling):
    """One agent. What it says to the model is its operator's business and not shown."""

    name: str
    description: str
    model: str | None
    answer_schema: dict[str, Any] | None

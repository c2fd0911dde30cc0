"""Agents: named presets of how a request is answered."""

from typing import Any

from pydantic import ConfigDict, Field

from schemas.generation import Sampling
from schemas.requests import AgentName


class Agent(Sampling):
    """One preset. What a request says itself goes before what its agent says.

    ``system`` is said to the model before everything else. ``answer_schema``: a JSON Schema (2020-12) that every answer
    must fit; one that does not is thrown away, and the model is asked again.
    """

    model_config = ConfigDict(extra="forbid")

    name: AgentName
    description: str = Field(min_length=1, max_length=500)
    system: str = Field(min_length=1, max_length=100_000)
    model: str | None = Field(None, min_length=1, max_length=200)
    answer_schema: dict[str, Any] | None = None

"""Agents: named presets for answering requests."""

from typing import Annotated

from pydantic import ConfigDict, Field

from schemas.content import JsonObject
from schemas.generation import Sampling
from schemas.json_schema import described
from schemas.requests import AgentName


class Agent(Sampling):
    """One preset. Fields of a request override those of its agent."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[AgentName, described("The name under which requests ask for it.", "analyst")]
    description: Annotated[
        str, Field(min_length=1, max_length=500), described("What it is for.", "Answers questions about data.")
    ]
    system: Annotated[
        str,
        Field(min_length=1, max_length=100_000),
        described("The system message, put before all others.", "You are a data analyst."),
    ]
    model: Annotated[
        Annotated[str, Field(min_length=1, max_length=200)] | None,
        described("The model of requests that name none.", "llama3"),
    ] = None
    answer_schema: Annotated[
        JsonObject | None,
        described(
            "JSON Schema (2020-12) of the answer. An answer that does not match is discarded, and the model is asked "
            "again.",
            {"type": "object", "required": ["answer"]},
        ),
    ] = None

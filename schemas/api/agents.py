"""Agents as clients see them."""

from typing import Annotated, Any

from schemas.api.pages import Page
from schemas.generation import Sampling
from schemas.json_schema import described


class AgentResource(Sampling):
    """One agent. Its system message is not shown."""

    name: Annotated[str, described("The name under which messages and tasks ask for it.", "analyst")]
    description: Annotated[str, described("What it is for.", "Answers questions about data.")]
    model: Annotated[str | None, described("Its model; null: the default model.", "llama3")]
    answer_schema: Annotated[
        dict[str, Any] | None,
        described("JSON Schema that its answers match; null: free text.", {"type": "object", "required": ["answer"]}),
    ]


class AgentPage(Page[AgentResource]):
    """One page of agents."""

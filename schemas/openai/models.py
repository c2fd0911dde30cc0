"""Models as OpenAI's API lists them ("The model object"), and what is known about them here beyond that."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from schemas.content import absent
from schemas.generation import Price
from schemas.json_schema import described

_Tokens = Annotated[int, Field(ge=1)] | None


class ModelObject(BaseModel):
    """A model, or an agent that can be used like a model."""

    id: Annotated[str, described("The name to give as `model`. Names of agents begin with `agent:`.", "llama3")]
    object: Annotated[Literal["model"], described("Always `model`.")] = "model"
    created: Annotated[Literal[0], described("Always 0: it is not known when a model was made.")] = 0
    owned_by: Annotated[str, described("The provider of the model; `agents` for an agent.", "ollama")]
    aliases: Annotated[list[str] | None, described("Other names for it.", ["default"])] = Field(None, exclude_if=absent)
    context_tokens: Annotated[_Tokens, described("Maximum number of tokens of prompt and answer together.", 8192)] = (
        Field(None, exclude_if=absent)
    )
    max_output_tokens: Annotated[_Tokens, described("Maximum number of tokens in an answer.", 1024)] = Field(
        None, exclude_if=absent
    )
    max_concurrency: Annotated[int | None, described("Maximum number of calls at the same time.", 4)] = Field(
        None, exclude_if=absent
    )
    requests_per_minute: Annotated[int | None, described("Maximum number of calls per minute.", 60)] = Field(
        None, exclude_if=absent
    )
    fallbacks: Annotated[list[str] | None, described("Models that are tried if it fails, in order.", ["small"])] = (
        Field(None, exclude_if=absent)
    )
    price: Annotated[Price | None, described("The price of its tokens.")] = Field(None, exclude_if=absent)
    description: Annotated[str | None, described("What an agent is for.", "Answers questions about data.")] = Field(
        None, exclude_if=absent
    )


class ModelObjects(BaseModel):
    """All models and agents."""

    object: Annotated[Literal["list"], described("Always `list`.")] = "list"
    data: Annotated[list[ModelObject], described("The models by name, then the agents.")]

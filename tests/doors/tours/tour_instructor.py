"""instructor: structured output by tools, by a schema, by responses, and as a stream."""

from typing import Any

import instructor
from checks import DOOR, KEY, check, holds, run, same
from openai import OpenAI
from pydantic import BaseModel, Field


class City(BaseModel):
    """What an answer is parsed into."""

    city: str
    people: int = Field(ge=7)


# The smallest JSON that fits.
ANSWER = {"city": "", "people": 7}
QUESTION: Any = [{"role": "user", "content": "Hi"}]
door = instructor.from_openai(OpenAI(base_url=DOOR, api_key=KEY))


@check("create")
def _() -> None:
    found = door.chat.completions.create(model="simulated", response_model=City, messages=QUESTION)
    same(ANSWER, found.model_dump())


@check("create, each mode")
def _() -> None:
    modes = ("TOOLS", "TOOLS_STRICT", "JSON_SCHEMA", "RESPONSES_TOOLS")
    for name in modes:
        client = instructor.from_openai(OpenAI(base_url=DOOR, api_key=KEY), mode=getattr(instructor.Mode, name))
        got = client.create(model="simulated", response_model=City, messages=QUESTION)
        same(ANSWER, got.model_dump(), name)


@check("create_with_completion")
def _() -> None:
    got, completion = door.create_with_completion(model="simulated", response_model=City, messages=QUESTION)
    same(ANSWER, got.model_dump())
    holds(completion.usage.total_tokens > 0, f"{completion.usage}")


@check("create_partial")
def _() -> None:
    parts = list(door.create_partial(model="simulated", response_model=City, messages=QUESTION))
    same(7, parts[-1].people)


if __name__ == "__main__":
    run()

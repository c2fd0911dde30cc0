"""pydantic-ai, which validates what it receives: by chat, its default, and by responses."""

from typing import Any

from checks import DOOR, KEY, MODEL, check, holds, run, same
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, ModelSettings, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=DOOR, api_key=KEY)
by_chat = OpenAIChatModel("simulated", provider=provider)
by_responses = OpenAIResponsesModel("simulated", provider=provider)

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"


class City(BaseModel):
    """What an answer is parsed into."""

    city: str
    people: int


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain{city}"


def checks_by(api: str, model: Any) -> None:
    """The checks that are the same by both APIs."""

    @check(f"Agent.run by {api}")
    async def _() -> None:
        result = await Agent(model, instructions="Be brief.").run("Hello")
        same(("echo: Hello", MODEL), (result.output, result.response.model_name))
        holds(result.usage.input_tokens > 0 and result.usage.output_tokens > 0, f"{result.usage}")

    @check(f"Agent.run by {api}, a loop with a tool")
    async def _() -> None:
        result = await Agent(model, tools=[weather]).run("Please call weather.")
        same(("weather: rain", 2), (result.output, result.usage.requests))

    @check(f"Agent.run_stream by {api}, a loop with a tool")
    async def _() -> None:
        async with Agent(model, tools=[weather]).run_stream("Please call weather.") as result:
            texts = [text async for text in result.stream_text(delta=True, debounce_by=None)]
        same("weather: rain", "".join(texts))
        holds(result.usage.output_tokens > 0, f"{result.usage}")

    @check(f"Agent.run by {api}, output by a tool")
    async def _() -> None:
        same(City(city="", people=0), (await Agent(model, output_type=City).run("Hi")).output)

    @check(f"Agent.run by {api}, output by a schema")
    async def _() -> None:
        same(City(city="", people=0), (await Agent(model, output_type=NativeOutput(City)).run("Hi")).output)

    @check(f"Agent.run by {api}, several turns")
    async def _() -> None:
        agent = Agent(model, tools=[weather])
        first = await agent.run("Please call weather.")
        same("echo: Two", (await agent.run("Two", message_history=first.all_messages())).output)

    @check(f"Agent.run by {api}, an image")
    async def _() -> None:
        import base64

        image = BinaryContent(base64.b64decode(PNG), media_type="image/png")
        result = await Agent(model).run(["What is this?", image])
        holds(result.output.startswith("echo: What is this?"), result.output)

    @check(f"Agent.run by {api}, settings")
    async def _() -> None:
        settings = ModelSettings(temperature=0.2, top_p=0.9, max_tokens=50, timeout=30, parallel_tool_calls=False)
        agent = Agent(model, tools=[weather], model_settings=settings)
        same("weather: rain", (await agent.run("Please call weather.")).output)


checks_by("chat", by_chat)
checks_by("responses", by_responses)


@check("Agent.run by responses, previous_response_id")
async def _() -> None:
    settings = OpenAIResponsesModelSettings(openai_previous_response_id="auto")
    agent = Agent(by_responses, tools=[weather], model_settings=settings)
    first = await agent.run("Please call weather.")
    same("weather: rain", first.output)
    same("echo: Two", (await agent.run("Two", message_history=first.all_messages())).output)


if __name__ == "__main__":
    run()

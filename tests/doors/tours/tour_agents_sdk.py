"""OpenAI's Agents SDK: loops with tools, handed-over histories and sessions, by responses (its default) and by chat."""

from typing import Any

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from checks import DOOR, KEY, MODEL, check, holds, run, same
from openai import AsyncOpenAI
from pydantic import BaseModel

door = AsyncOpenAI(base_url=DOOR, api_key=KEY)
set_default_openai_client(door, use_for_tracing=False)
set_tracing_disabled(True)  # Traces would go to OpenAI.

MODELS: dict[str, Any] = {
    "responses": OpenAIResponsesModel(MODEL, door),
    "chat": OpenAIChatCompletionsModel(MODEL, door),
}
CALLED: list[str] = []


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    CALLED.append(city)
    return "rain"


class City(BaseModel):
    """What an answer is parsed into."""

    city: str
    people: int


def agent(api: str, **more: Any) -> Agent[Any]:
    """An agent by this API. Chat's usage must be asked for, as the SDK does not expect it of other servers."""
    settings = ModelSettings(include_usage=True)
    return Agent(name="guide", instructions="Be brief.", model=MODELS[api], model_settings=settings, **more)


@check("Runner.run by the name of a model")
async def _() -> None:
    result = await Runner.run(Agent(name="guide", instructions="Be brief.", model=MODEL), "Hello")
    same("echo: Hello", result.final_output)


def checks_by(api: str) -> None:
    """The checks that are the same by both APIs."""

    @check(f"Runner.run by {api}, a loop with a tool")
    async def _() -> None:
        CALLED.clear()
        result = await Runner.run(agent(api, tools=[weather]), "Please call weather.")
        same(("weather: rain", [""], 2), (result.final_output, CALLED, len(result.raw_responses)))
        usage = result.context_wrapper.usage
        holds(usage.requests == 2 and usage.input_tokens > 0 and usage.output_tokens > 0, f"{usage}")

    @check(f"Runner.run_streamed by {api}, a loop with a tool")
    async def _() -> None:
        result = Runner.run_streamed(agent(api, tools=[weather]), "Please call weather.")
        deltas = [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        same(("weather: rain", "weather: rain"), (result.final_output, "".join(deltas)))

    @check(f"Runner.run by {api}, structured output")
    async def _() -> None:
        result = await Runner.run(agent(api, output_type=City), "Hi")
        same(City(city="", people=0), result.final_output)

    @check(f"Runner.run by {api}, another agent takes over")
    async def _() -> None:
        expert = agent(api, tools=[weather]).clone(name="expert")
        result = await Runner.run(agent(api, handoffs=[expert]), "Please call transfer_to_expert and call weather.")
        same(("expert", "weather: rain"), (result.last_agent.name, result.final_output.splitlines()[-1]))

    @check(f"Runner.run by {api}, the history goes on")
    async def _() -> None:
        first = await Runner.run(agent(api, tools=[weather]), "Please call weather.")
        again = await Runner.run(
            agent(api, tools=[weather]), [*first.to_input_list(), {"role": "user", "content": "Two"}]
        )
        same("echo: Two", again.final_output)

    @check(f"Runner.run by {api}, a session in memory")
    async def _() -> None:
        session = SQLiteSession("tour")
        for text in ("Please call weather.", "Two"):
            result = await Runner.run(agent(api, tools=[weather]), text, session=session)
        same("echo: Two", result.final_output)


for each in MODELS:
    checks_by(each)


@check("Runner.run, OpenAIConversationsSession")
async def _() -> None:
    session = OpenAIConversationsSession(openai_client=door)
    for text in ("Please call weather.", "Two"):
        result = await Runner.run(agent("responses", tools=[weather]), text, session=session)
    same("echo: Two", result.final_output)
    items = await session.get_items()
    holds(len(items) >= 6, f"the session has {len(items)} items")
    await session.clear_session()


@check("Runner.run, conversation_id")
async def _() -> None:
    talk = await door.conversations.create()
    for text in ("Please call weather.", "Two"):
        result = await Runner.run(agent("responses", tools=[weather]), text, conversation_id=talk.id)
    same("echo: Two", result.final_output)
    page = await door.conversations.items.list(talk.id, order="asc")
    kinds = ["message", "function_call", "function_call_output", "message", "message", "message"]
    same(kinds, [item.type for item in page.data])


@check("Runner.run, previous_response_id")
async def _() -> None:
    first = await Runner.run(agent("responses", tools=[weather]), "Please call weather.")
    again = await Runner.run(agent("responses", tools=[weather]), "Two", previous_response_id=first.last_response_id)
    same("echo: Two", again.final_output)
    automatic = await Runner.run(
        agent("responses", tools=[weather]), "Please call weather.", auto_previous_response_id=True
    )
    same("weather: rain", automatic.final_output)


if __name__ == "__main__":
    run()

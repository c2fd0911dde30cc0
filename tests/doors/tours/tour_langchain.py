"""LangChain's ChatOpenAI, by chat and by responses."""

from typing import Any

from checks import DOOR, KEY, check, holds, run, same
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

by_chat = ChatOpenAI(model="simulated", base_url=DOOR, api_key=KEY, stream_usage=True)
by_responses = ChatOpenAI(model="simulated", base_url=DOOR, api_key=KEY, use_responses_api=True)


class City(BaseModel):
    """What an answer is parsed into."""

    city: str
    people: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain{city}"


def checks_by(api: str, model: ChatOpenAI) -> None:
    """The checks that are the same by both APIs."""

    @check(f"invoke by {api}")
    def _() -> None:
        answer = model.invoke([SystemMessage("Be brief."), HumanMessage("Hello")])
        same("echo: Hello", answer.text)
        holds(answer.usage_metadata and answer.usage_metadata["total_tokens"] > 0, f"{answer.usage_metadata}")
        same("simulated", answer.response_metadata["model_name"])

    @check(f"stream by {api}")
    def _() -> None:
        pieces = list(model.stream("Hello there"))
        whole: Any = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        same("echo: Hello there", whole.text)
        holds(whole.usage_metadata, "no usage in a stream")

    @check(f"bind_tools by {api}, a loop")
    def _() -> None:
        bound = model.bind_tools([weather])
        messages: list[Any] = [HumanMessage("Please call weather.")]
        while (answer := bound.invoke(messages)).tool_calls:
            messages += [answer, *[weather.invoke(call) for call in answer.tool_calls]]
        same(("weather: rain", 3), (answer.text, len(messages)))
        holds(isinstance(messages[-1], ToolMessage), "no result")

    @check(f"bind_tools by {api}, a stream")
    def _() -> None:
        pieces = list(model.bind_tools([weather]).stream("Please call weather."))
        whole: Any = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        same([("weather", {"city": ""})], [(call["name"], call["args"]) for call in whole.tool_calls])

    @check(f"with_structured_output by {api}")
    def _() -> None:
        for method in ("json_schema", "function_calling"):
            same(City(city="", people=0), model.with_structured_output(City, method=method).invoke("Hi"), method)

    @check(f"abatch by {api}")
    async def _() -> None:
        answers = await model.abatch([f"{n}" for n in range(10)])
        same([f"echo: {n}" for n in range(10)], [answer.text for answer in answers])


checks_by("chat", by_chat)
checks_by("responses", by_responses)


@check("invoke by responses, use_previous_response_id")
def _() -> None:
    model = ChatOpenAI(
        model="simulated", base_url=DOOR, api_key=KEY, use_responses_api=True, use_previous_response_id=True
    )
    first = model.invoke("One")
    again = model.invoke([HumanMessage("One"), first, HumanMessage("Two")])
    same("echo: Two", again.text)


@check("invoke by responses, store=False with encrypted reasoning")
def _() -> None:
    model = ChatOpenAI(
        model="simulated",
        base_url=DOOR,
        api_key=KEY,
        use_responses_api=True,
        store=False,
        include=["reasoning.encrypted_content"],
    )
    first = model.invoke("One")
    holds(isinstance(first, AIMessage), f"{first}")
    same("echo: Two", model.invoke([HumanMessage("One"), first, HumanMessage("Two")]).text)


if __name__ == "__main__":
    run()

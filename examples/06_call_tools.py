"""Ask a question that the model answers with the help of a tool, which this program executes.

    .venv/bin/python examples/06_call_tools.py "How is the weather in Oslo? If you do not know, call weather."

ORCHESTRA_GATEWAY is the gateway's URL (default http://127.0.0.1:8080), MODEL the model to use.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from orchestra.client import Client, ClientError
from orchestra.client.options import Messages
from schemas.content import FunctionCallItem, Tool

MODEL = os.environ.get("MODEL", "")  # Empty: the gateway's default.
MAX_TURNS = 5


def weather(city: str) -> str:
    """What the tool does: here, look into a table."""
    return {"Oslo": "4 degrees, rain", "Lima": "19 degrees, mist"}.get(city, "unknown")


FUNCTIONS: dict[str, Callable[..., str]] = {"weather": weather}
TOOLS: list[Tool] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The present weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "enum": ["Oslo", "Lima"]}},
                "required": ["city"],
            },
        },
    }
]


def execute(call: FunctionCallItem) -> dict[str, Any]:
    """The message with the result of a call.

    Every call needs one. The arguments are text that the model wrote: they may be wrong, and so may the name.
    """
    try:
        result = FUNCTIONS[call["name"]](**json.loads(call["arguments"]))
    except (KeyError, TypeError, ValueError) as error:
        result = f"error: {error}"  # The model reads it, and may try again.
    print(f"{call['name']} {call['arguments']} -> {result}")
    return {"role": "tool", "tool_call_id": call["call_id"], "content": result}


def main() -> None:
    """Ask; execute what is called and send the results, until there is an answer."""
    messages: Messages = " ".join(sys.argv[1:]) or "How is the weather in Oslo? If you do not know, call weather."
    conversation_id = None
    with Client() as client:
        for _ in range(MAX_TURNS):
            # The conversation keeps what was said. The tools are sent with each turn in which they may be called.
            answer = client.messages.send(messages, conversation_id=conversation_id, tools=TOOLS, model=MODEL)
            conversation_id = answer.conversation_id
            calls = [item for item in answer.output or [] if item["type"] == "function_call"]
            if not calls:
                break
            messages = [execute(call) for call in calls]  # All results go into one turn.
    print(answer.reply)


if __name__ == "__main__":
    try:
        main()
    except ClientError as error:
        sys.exit(str(error))

"""Ask a question that the model answers with the help of a tool, which this program executes.

    .venv/bin/python examples/06_call_tools.py "How is the weather in Oslo? If you do not know, call weather."

GATEWAY_URL is the gateway's URL (default http://127.0.0.1:8080), MODEL the model to use.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx

GATEWAY_URL = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")
MODEL = os.environ.get("MODEL", "")  # Empty: the gateway's default.
MAX_TURNS = 5


def weather(city: str) -> str:
    """What the tool does: here, look into a table."""
    return {"Oslo": "4 degrees, rain", "Lima": "19 degrees, mist"}.get(city, "unknown")


FUNCTIONS: dict[str, Callable[..., str]] = {"weather": weather}
TOOLS = [
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


def execute(call: dict[str, Any]) -> dict[str, Any]:
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
    question = " ".join(sys.argv[1:]) or "How is the weather in Oslo? If you do not know, call weather."
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    conversation_id = None
    with httpx.Client(base_url=GATEWAY_URL, timeout=65) as gateway:
        for _ in range(MAX_TURNS):
            # The conversation keeps what was said. The tools are sent with each turn in which they may be called.
            body = {"conversation_id": conversation_id, "messages": messages, "tools": TOOLS, "model": MODEL}
            # No answer (a broken connection, 503 outcome_unknown)? Send it again with the same key.
            headers = {"Idempotency-Key": str(uuid4())}
            answer = gateway.post("/v1/messages", json=body, headers=headers).raise_for_status().json()
            conversation_id = answer["conversation_id"]
            calls = [item for item in answer.get("output", []) if item["type"] == "function_call"]
            if not calls:
                break
            messages = [execute(call) for call in calls]  # All results go into one turn.
    print(answer["reply"])


if __name__ == "__main__":
    main()

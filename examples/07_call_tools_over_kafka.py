"""The same without HTTP: questions go to `llm.requests`, and tool calls are read and executed from `llm.replies`.

    .venv/bin/python examples/07_call_tools_over_kafka.py "How is the weather in Lima? Please call weather."

KAFKA_BOOTSTRAP_SERVERS is Kafka's address (default 127.0.0.1:19092), MODEL the model to use.
"""

import asyncio
import json
import logging
import os
import sys
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:19092")
MODEL = os.environ.get("MODEL", "")  # Empty: the default.
CITIES = {"Oslo": "4 degrees, rain", "Lima": "19 degrees, mist"}
PARAMETERS = {"type": "object", "properties": {"city": {"enum": sorted(CITIES)}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]


def execute(call: dict[str, Any]) -> dict[str, Any]:
    """The message with the result of a call. The arguments are text that the model wrote, and may be wrong."""
    try:
        result = CITIES[json.loads(call["arguments"])["city"]]
    except (KeyError, TypeError, ValueError) as error:
        result = f"error: {error}"
    print(f"{call['name']} {call['arguments']} -> {result}")
    return {"role": "tool", "tool_call_id": call["call_id"], "content": result}


async def main() -> None:
    """Ask; execute what the replies call and send the results, until there is an answer."""
    question = " ".join(sys.argv[1:]) or "How is the weather in Lima? If you do not know, call weather."
    conversation_id = str(uuid4())
    # A program that must not miss a call while offline reads as a group, and commits after it has sent the result.
    replies = AIOKafkaConsumer("llm.replies", bootstrap_servers=KAFKA, auto_offset_reset="latest")
    producer = AIOKafkaProducer(bootstrap_servers=KAFKA, acks="all", enable_idempotence=True)

    async def send(request_id: str, messages: list[dict[str, Any]]) -> None:
        # The key is the conversation: its turns stay in order, and it keeps what was said.
        value = json.dumps({"messages": messages, "tools": TOOLS, "model": MODEL}).encode()
        headers = [("ce_id", request_id.encode())]
        await producer.send_and_wait("llm.requests", value, key=conversation_id.encode(), headers=headers)

    try:
        await replies.start()
        await producer.start()
        async with asyncio.timeout(120):
            await replies.seek_to_end()
            await send(str(uuid4()), [{"role": "user", "content": question}])
            async for record in replies:
                if record.key != conversation_id.encode():
                    continue  # A reply to another program.
                reply = json.loads(record.value)
                calls = [item for item in reply.get("output", []) if item["type"] == "function_call"]
                if not calls:
                    break
                # The id is derived from the reply's: if the reply is read twice, the results still count once.
                next_id = str(uuid5(NAMESPACE_OID, reply["request_id"]))
                await send(next_id, [execute(call) for call in calls])
    finally:
        await producer.stop()
        await replies.stop()
    print(reply["reply"] or reply["error"])


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # It raises what it logs.
    try:
        asyncio.run(main())
    except (KafkaError, TimeoutError) as error:
        sys.exit(f"no answer: {error!r}")

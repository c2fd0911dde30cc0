"""Ask without HTTP: write a record to `llm.requests`, read the reply from `llm.replies`.

    .venv/bin/python examples/03_produce_directly.py "What is a log?"

KAFKA_BOOTSTRAP_SERVERS is Kafka's address (default 127.0.0.1:19092), MODEL the model to use.
The client chooses the request's id, so that it can also fetch the request over HTTP, at ORCHESTRA_GATEWAY
(default http://127.0.0.1:8080).
"""

import asyncio
import json
import logging
import os
import sys
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:19092")
GATEWAY = os.environ.get("ORCHESTRA_GATEWAY", "http://127.0.0.1:8080")
MODEL = os.environ.get("MODEL", "")  # Empty: the default.


async def main() -> None:
    """Listen, ask, wait for the reply to our own question; then fetch it over HTTP."""
    question = " ".join(sys.argv[1:]) or "What is a log?"
    request_id, correlation_id, conversation_id = str(uuid4()), f"ticket-{uuid4()}", str(uuid4())

    # No group: every reply is read, from now on. A consumer that must not miss any while offline uses a group instead.
    replies = AIOKafkaConsumer("llm.replies", bootstrap_servers=KAFKA, auto_offset_reset="latest")
    producer = AIOKafkaProducer(bootstrap_servers=KAFKA, acks="all", enable_idempotence=True)
    try:
        await replies.start()
        await producer.start()
        await replies.seek_to_end()
        await producer.send_and_wait(
            "llm.requests",
            # Only `messages` is required; headers are optional.
            json.dumps({"messages": [{"role": "user", "content": question}], "model": MODEL}).encode(),
            key=conversation_id.encode(),
            headers=[("ce_id", request_id.encode()), ("correlation_id", correlation_id.encode())],
        )
        print(f"produced request {request_id}")
        async with asyncio.timeout(120):
            async for record in replies:
                if dict(record.headers).get("correlation_id") == correlation_id.encode():
                    break
        reply = json.loads(record.value)
        print(f"{record.topic}: {reply['status']}, conversation {record.key.decode()}")
        print(reply["reply"] or reply["error"])
    finally:
        await producer.stop()
        await replies.stop()

    async with httpx.AsyncClient(base_url=GATEWAY) as gateway:
        request = (await gateway.get(f"/v1/requests/{request_id}")).raise_for_status().json()
    print(f"over HTTP: {request['status']}, the same reply: {request['reply'] == reply['reply']}")


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # It raises what it logs.
    try:
        asyncio.run(main())
    except (KafkaError, httpx.HTTPError, TimeoutError) as error:
        sys.exit(f"no answer: {error!r}")

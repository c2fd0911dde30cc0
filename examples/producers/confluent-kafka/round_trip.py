"""Ask without HTTP, with confluent-kafka: write a record to `llm.requests`, read the reply from `llm.replies`.

    .venv/bin/python examples/producers/confluent-kafka/round_trip.py "What is a log?"

KAFKA_BOOTSTRAP_SERVERS is Kafka's address (default 127.0.0.1:19092), MODEL the model to use.
Other clients based on librdkafka (C, C++, C#, Rust, PHP, kcat) take the same settings.
"""

import json
import os
import sys
import time
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:19092")
MODEL = os.environ.get("MODEL", "")  # Empty: the default.


def main() -> None:
    """Listen, ask, wait for the reply to our own question."""
    question = " ".join(sys.argv[1:]) or "What is a log?"
    request_id, correlation_id, conversation_id = str(uuid4()), f"ticket-{uuid4()}", str(uuid4())

    # Every reply is read, from now on; the group is only a name. A consumer that must not miss any offline subscribes.
    replies = Consumer({"bootstrap.servers": KAFKA, "group.id": "unused", "enable.auto.commit": False})
    replies.assign(ends(replies, "llm.replies"))
    # The default partitioner of librdkafka is not Java's: turns of a conversation may be on different partitions.
    settings = {"partitioner": "murmur2_random", "acks": "all", "enable.idempotence": True}
    producer = Producer({"bootstrap.servers": KAFKA, **settings})
    producer.produce(
        "llm.requests",
        # Only `messages` is required; headers are optional.
        json.dumps({"messages": [{"role": "user", "content": question}], "model": MODEL}).encode(),
        key=conversation_id,
        headers={"ce_id": request_id, "correlation_id": correlation_id},
        on_delivery=acknowledged,
    )
    producer.flush()
    print(f"produced request {request_id}")

    record = wait(replies, correlation_id.encode())
    reply = json.loads(record.value())
    print(f"{record.topic()}: {reply['status']}, conversation {record.key().decode()}")
    print(reply["reply"] or reply["error"])
    replies.close()


def ends(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """The end offset of each partition of a topic."""
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    places = [TopicPartition(topic, partition) for partition in partitions]
    return [TopicPartition(each.topic, each.partition, consumer.get_watermark_offsets(each)[1]) for each in places]


def acknowledged(error: object, _: Message) -> None:
    """Called once Kafka has stored the record, or failed to."""
    if error:
        raise KafkaException(error)


def wait(replies: Consumer, correlation_id: bytes) -> Message:
    """The reply with this correlation id. Raises ``TimeoutError`` after two minutes."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        record = replies.poll(1)
        if record is None:
            continue
        if record.error():
            raise KafkaException(record.error())
        if dict(record.headers() or []).get("correlation_id") == correlation_id:
            return record
    raise TimeoutError("no reply within 120 s")


if __name__ == "__main__":
    main()

"""Writes the records of erasures, with a producer of their own: if their topic is missing, nothing else waits."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from aiokafka import AIOKafkaProducer

from schemas import envelope
from schemas.erasures import ERASED, Erased
from schemas.topics import ERASURES


async def write(
    open_producer: Callable[[], AbstractAsyncContextManager[AIOKafkaProducer]], records: Sequence[Erased], source: str
) -> None:
    """Write records of erasures. Returns when Kafka has acknowledged them all; raises what the client raises.

    ``source``: which part of the system writes them.
    """
    async with open_producer() as producer:
        for record in records:
            headers = envelope.write_headers(
                id=record.id, type=ERASED, source=source, extra=[(envelope.TENANT, record.tenant)]
            )
            await producer.send_and_wait(
                ERASURES.name,
                record.model_dump_json().encode(),
                key=str(record.id).encode(),
                headers=[(name, text.encode()) for name, text in headers],
            )

"""``orchestra topics``: create the topics and check them."""

import asyncio
import time

from orchestra.cli.options import fail
from orchestra.cli.terminal import echo
from orchestra.settings import KafkaSettings, load
from schemas.topics import TOPICS

_WAIT_SECONDS = 30.0


def topics() -> None:
    """Create missing topics, and check the settings of all.

    Wrong settings are named, and the exit code is 1; existing topics are not changed. Waits up to 30 s for
    KAFKA_BOOTSTRAP_SERVERS.
    """
    settings = load(KafkaSettings)
    problems = asyncio.run(_when_up(settings))
    if problems:
        raise fail("\n".join(problems))
    for topic in TOPICS:
        echo(f"{topic.name}: ok")


async def _when_up(settings: KafkaSettings) -> list[str]:
    from aiokafka.errors import KafkaError

    from orchestra.kafka.topics import ensure_topics

    limit = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            return await ensure_topics(settings)
        except (KafkaError, OSError) as error:
            if time.monotonic() > limit:
                raise fail(f"Kafka at {settings.kafka_bootstrap_servers}: {getattr(error, 'told', error)}") from None
        await asyncio.sleep(1)

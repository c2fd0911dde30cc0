"""``orchestra rewind``: after Postgres was restored, read again from Kafka what it lacks."""

from itertools import groupby
from typing import TYPE_CHECKING

from orchestra.cli.database import on_database
from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.cli.terminal import echo
from orchestra.settings import KafkaSettings, SecretSettings, load

if TYPE_CHECKING:
    from orchestra.kafka.rewind import Rewound
    from orchestra.store.database import Database


def rewind(*, data: Data = DEFAULT_DATA) -> None:
    """After Postgres was restored from a dump: have workers read again what Kafka got since the dump.

    Run it before workers and gateways are started; it refuses while a worker runs. It also notes what was erased since
    the dump: the owners lose their access at once, and workers erase their data again. Uses DATABASE_URL,
    KAFKA_BOOTSTRAP_SERVERS and ORCHESTRA_SECRET; if DATABASE_URL is not set and a stack of `orchestra up` runs on
    --data, those of the stack. Running it again changes nothing.
    """
    done = on_database(data, "orchestra-rewind", _rewind)
    for topic, places in groupby(done.places, key=lambda each: each.topic):
        echo(f"{topic}: {sum(place.ahead for place in places)} records to read")
    echo(f"erasures since the dump: {done.noted}")
    if done.recorded:
        echo(f"erasures that Kafka lacked: {done.recorded}")


async def _rewind(database: "Database") -> "Rewound":
    from aiokafka.errors import KafkaError

    from orchestra.kafka.rewind import WorkersRunError, rewind

    kafka, secret = load(KafkaSettings), load(SecretSettings)
    try:
        return await rewind(kafka, database, secret.secrets)
    except WorkersRunError:
        raise fail("workers read from Kafka: stop them first; one that was killed counts for 10 seconds more") from None
    except (KafkaError, OSError) as error:
        raise fail(f"Kafka at {kafka.kafka_bootstrap_servers}: {error}") from None

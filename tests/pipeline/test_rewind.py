"""A database that is restored from a dump, beside a Kafka that is ahead of it or was created again."""

import asyncio
import dataclasses
from collections import Counter
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiokafka.admin import NewTopic

from orchestra.kafka.rewind import WorkersRunError, rewind
from orchestra.signing import OwnerHasher
from orchestra.store import erasures
from orchestra.store.audit import Author
from schemas.api.audit import Action
from schemas.topics import REPLIES
from tests.support.dumps import dump, restore
from tests.support.people import make_key
from tests.support.records import message, signed
from tests.support.road import PARTITIONS, Road
from tests.support.store import connect
from tests.support.waiting import eventually
from workers.timings import TIMINGS

ANN = "key:ann"
QUICK = dataclasses.replace(TIMINGS, sweep=0.2, erasure_settles=0.0, erase_again=0.1)


async def restored(road: Road, dumped: Path) -> Road:
    """The same road on a database that was restored from a dump."""
    url = await road.stack.fresh_database()
    await restore(dumped, url)
    return dataclasses.replace(road, database_url=url, database=connect(url), outs=road.outs)


async def count(road: Road, owner: str) -> int:
    """How many requests an owner has."""
    return int((await road.one("SELECT count(*) AS n FROM requests WHERE user_name = :owner", owner=owner)).n)


async def valid_keys(road: Road) -> int:
    """How many keys are accepted."""
    return int((await road.one("SELECT count(*) AS n FROM api_keys WHERE revoked_at IS NULL")).n)


def secrets_of(road: Road) -> list[bytes]:
    """What the services of the stack sign with."""
    return [road.stack.env["ORCHESTRA_SECRET"].encode()]


async def ask_as(road: Road, owner: str) -> None:
    """A request of an owner, as a gateway writes it."""
    value, key = message("hers", model="echo"), str(uuid4()).encode()
    record = signed("default", owner, value=value, key=key, id=uuid4(), secret=secrets_of(road)[0])
    await road.send(record.value, record.key, record.headers)


async def test_what_was_accepted_after_the_dump_is_answered(road: Road, tmp_path: Path) -> None:
    """All that Kafka got before, during and after the dump ends in the restored database; what was erased stays so."""
    secrets = secrets_of(road)
    hasher = OwnerHasher(secrets)
    async with road.worker(QUICK):
        await make_key(road.database, "read", name="ann")
        await ask_as(road, ANN)
        before = [await road.ask(f"before {n}") for n in range(20)]
        await road.endings(before)
        await eventually(lambda: count(road, ANN))
        await eventually(lambda: road.database.run("SELECT 1 FROM intake_progress"))
        dumping = asyncio.create_task(dump(road.database_url, tmp_path / "dump"))
        during = [await road.ask(f"during {n}") for n in range(20)]
        await dumping
        after = [await road.ask(f"after {n}") for n in range(20)]
        everything = [*before, *during, *after]
        await road.endings(everything)
        by = Author("default", "key:k", Action.OWNER_ERASE)
        erasure = await erasures.note(
            road.database, "default", ANN, hasher.hash("default", ANN), uuid4(), by, leave_admin=False
        )

        async def erased() -> bool:
            found = await erasures.find(road.database, "default", erasure.id)
            return found is not None and found.finished_at is not None

        await eventually(erased)
        with pytest.raises(WorkersRunError):
            await rewind(road.stack.kafka_settings, road.database, secrets, road.group)
    old = await restored(road, tmp_path / "dump")
    ended = "SELECT id FROM requests WHERE finished_at IS NOT NULL AND user_name IS NULL"
    known = {row.id for row in await old.database.run(ended)}
    assert (1, 1) == (await count(old, ANN), await valid_keys(old))

    first = await rewind(road.stack.kafka_settings, old.database, secrets, road.group)
    second = await rewind(road.stack.kafka_settings, old.database, secrets, road.group)
    assert 0 == await valid_keys(old)  # Before any worker runs.
    async with old.worker(QUICK):
        assert ["completed"] * 60 == await old.endings(everything)
        await old.replies(everything)
        await eventually(lambda: _no_rows(old))

    assert max(place.now for place in first.places) > 0
    assert await erasures.find(old.database, "default", erasure.id)
    assert first.noted > second.noted == 0
    assert [place.now for place in first.places] == [place.now for place in second.places]
    answers = Counter(UUID(out.json["request_id"]) for out in road.outs if out.topic == REPLIES.name)
    ids = {(out.json["request_id"], out.headers["ce_id"]) for out in road.outs if out.topic == REPLIES.name}
    # What had ended in the dump is not answered again; a record that is repeated has the same id.
    assert [id for id, count in Counter(UUID(id) for id, _ in ids).items() if count > 1 and id in known] == []
    assert answers.keys() >= set(everything)
    await old.database.close()


async def _no_rows(road: Road) -> bool:
    return await count(road, ANN) == 0


async def test_topics_that_were_created_again_are_read_from_their_start(road: Road, tmp_path: Path) -> None:
    """After Kafka was lost, what it gets from then on is read, although the database had read further."""
    async with road.worker(QUICK):
        await road.endings([await road.ask(f"before {n}") for n in range(30)])
    await dump(road.database_url, tmp_path / "dump")
    config = {"message.timestamp.type": "LogAppendTime"}
    await road.admin.delete_topics([road.topic])
    await eventually(lambda: _gone(road))
    await road.admin.create_topics([NewTopic(road.topic, PARTITIONS, 1, topic_configs=config)])
    await eventually(lambda: _led(road))
    old = await restored(road, tmp_path / "dump")
    asked = [await road.ask(f"after {n}") for n in range(60)]

    await rewind(road.stack.kafka_settings, old.database, secrets_of(road), road.group)

    async with old.worker(QUICK):
        assert ["completed"] * 60 == await old.endings(asked)
    await old.database.close()


async def _gone(road: Road) -> bool:
    return road.topic not in await road.admin.list_topics()


async def _led(road: Road) -> bool:
    (described,) = await road.admin.describe_topics([road.topic])
    return bool(described["partitions"]) and all(each["leader"] >= 0 for each in described["partitions"])

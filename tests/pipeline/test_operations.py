"""What operators see while requests take the whole way: workers, queue, topics, records, statistics, live frames."""

from collections import Counter
from typing import Any

import httpx

from gateway.timings import Timings as GatewayTimings
from orchestra.version import version
from schemas.topics import REPLIES
from tests.support.gateway import Sse, running_gateway, streaming
from tests.support.llm_script import Held
from tests.support.road import Road
from tests.support.waiting import eventually
from workers.timings import Timings

QUICK = GatewayTimings(measure=0.2, frame=0.1)
OFTEN = Timings(renew=0.2, sweep=0.2)


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    """What a call returns, which succeeds."""
    response = await client.get(path, params=query)
    assert 200 == response.status_code, response.text
    return response.json()


async def test_an_operator_sees_the_whole_way(road: Road) -> None:
    """Everything that was sent can be found again: in the topic, at the worker, in the statistics."""
    env = {**road.stack.env, "DATABASE_URL": road.database_url}
    async with running_gateway(env, QUICK) as gateway, road.worker(OFTEN) as running:
        client = gateway.client
        ids = [await road.ask(model="echo") for _ in range(20)] + [await road.ask(model="echo:2") for _ in range(5)]
        ended = Counter(await road.endings(ids))
        await road.replies(ids)

        async def worker() -> Any:
            found = (await get(client, "/v1/workers"))["data"]
            return next((each for each in found if each["topics"] and each["topics"][0]["partitions"]), None)

        shown = await eventually(worker)
        assert (str(running.worker.lease.worker_id), True, version()) == (shown["id"], shown["alive"], shown["version"])
        assert [{"topic": road.topic, "partitions": [0, 1, 2, 3, 4, 5]}] == shown["topics"]

        async def counted() -> Any:
            points = (await get(client, "/v1/stats", step=3600, by="model"))["data"]
            return points if len(ids) == sum(each["requests"] for each in points) else None

        by_model: Counter[str] = Counter()
        for each in await eventually(counted):
            by_model[each["key"]] += each["requests"]
            assert each["requests"] == each["completed"] + each["failed"]
        assert {"echo": 20, "echo:2": 5} == by_model
        by_outcome = (await get(client, "/v1/stats", step=3600, by="outcome"))["data"]
        assert ended == Counter({each["key"]: each["requests"] for each in by_outcome})

        async def read() -> Any:
            topics = {each["topic"]: each for each in (await get(client, "/v1/topics"))["data"]}
            return topics if topics.get(road.topic, {}).get("lag") == 0 else None

        topics = await eventually(read)
        partitions = topics[road.topic]["partitions"]
        assert len(ids) == sum(each["end"] - each["start"] for each in partitions)
        assert all(each["last_record_at"] for each in partitions if each["end"])
        assert topics[REPLIES.name]["lag"] is None

        found = []
        for each in partitions:
            path, at = f"/v1/topics/{road.topic}/partitions/{each['partition']}/records", 0
            while at is not None:
                page = await get(client, path, offset=at, limit=3)
                found += [(record["request_id"], record["format"]) for record in page["data"]]
                at = page["next"]
        assert sorted((str(id), "json") for id in ids) == sorted(found)
        newest = await get(client, f"/v1/topics/{road.topic}/partitions/{partitions[0]['partition']}/records", limit=1)
        assert newest["data"][0]["offset"] == newest["end"] - 1 if newest["end"] else newest["data"] == []
        assert 404 == (await client.get(f"/v1/topics/{road.topic}/partitions/6/records")).status_code
        assert 404 == (await client.get("/v1/topics/__consumer_offsets/partitions/0/records")).status_code

        scraped = (await client.get("/metrics")).text
        assert f'orchestra_topic_lag_records{{partition="0",topic="{road.topic}"}} 0.0' in scraped
        assert f'orchestra_workers{{version="{version()}"}} 1.0' in scraped


async def test_viewers_share_frames_and_see_what_changes(road: Road, model: Held) -> None:
    """Each viewer gets the same frames; one that watches a request learns when it changes."""
    env = {**road.stack.env, "DATABASE_URL": road.database_url}
    async with running_gateway(env, QUICK) as gateway, road.worker(OFTEN):
        watched = await road.ask(model="model")

        async def runs() -> bool:
            return bool(await road.database.run("SELECT FROM requests WHERE status = 'in_progress'"))

        await eventually(runs)
        async with (
            streaming(gateway.client, "GET", f"/v1/live?ids={watched}") as watching,
            streaming(gateway.client, "GET", "/v1/live") as other,
        ):
            first = [(await reader.until("frame"))[-1].data for reader in (watching, other)]
            assert [1, 1] == [frame["in_progress"]["count"] for frame in first]
            await watching.until("frame")
            model.open.set()
            changed = (await watching.until("changed"))[-1].data
            assert {"ids": [str(watched)]} == changed

            async def ended() -> bool:
                frame = (await other.until("frame"))[-1].data
                return 1 == sum(minute["completed"] for minute in frame["minutes"])

            await eventually(ended)
            assert frames_of(await other.until("frame")) == {"frame"}


def frames_of(events: list[Sse]) -> set[str]:
    """The names of these events."""
    return {event.name for event in events}

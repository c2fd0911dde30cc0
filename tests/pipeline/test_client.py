"""The Python client on a real gateway that is killed and restarted in the middle of everything."""

import asyncio
import os
from pathlib import Path

import pytest

from orchestra.client import AsyncClient, Client, ClientError
from orchestra.client.events import DeltaEvent, Event, RestartEvent
from tests.support.gateway import own_env
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

SLOW = "simulated:tokens=60,gap_ms=60"
MIB = 1024 * 1024


async def test_all_calls_outlive_their_gateway(stack: Stack, services: Services, tmp_path: Path) -> None:
    """A stream, a message that waits and a submission are answered once each, though their gateway is killed."""
    services.env |= {**await own_env(stack), "FILES_URL": (tmp_path / "files").as_uri()}
    await services.llm()
    _, gateway = await asyncio.gather(services.worker(), services.gateway())
    seen: list[Event] = []
    async with AsyncClient(gateway.url) as client:

        async def read() -> str:
            async with client.messages.stream("one", model=SLOW) as stream:
                async for event in stream:
                    seen.append(event)  # noqa: PERF401  others look at it meanwhile
                return stream.text

        def wait() -> str:
            with Client(gateway.url) as blocking:
                return blocking.messages.send("two", model=SLOW).reply

        reading, waiting = asyncio.create_task(read()), asyncio.create_task(asyncio.to_thread(wait))
        await eventually(lambda: len(seen) > 5 or reading.done())
        await gateway.kill()
        before = len(seen)
        submitting = asyncio.create_task(client.messages.submit("three", model="simulated"))
        await gateway.start()
        async with asyncio.timeout(120):
            text, other, accepted = await reading, await waiting, await submitting
        third = await client.requests.wait(accepted.id, timeout=60)
        stored = [request async for request in client.requests.list(page_size=2)]
        await _keep_and_forget(client, tmp_path)

    assert 0 < before < len(seen)
    assert [] == [event for event in seen if isinstance(event, RestartEvent)]
    assert text == "".join(event.text for event in seen if isinstance(event, DeltaEvent))
    assert {text, other, "echo: three"} == {request.reply for request in stored}
    assert (3, "completed", "echo: three") == (len(stored), third.status, third.reply)


async def _keep_and_forget(client: AsyncClient, folder: Path) -> None:
    """Conversations, tasks and files do what they say on a real gateway, too."""
    talk = await client.conversations.create(metadata={"a": "b"})
    await client.messages.send("hi", model="simulated", conversation_id=talk.id)
    assert ["hi", "echo: hi"] == [message.content async for message in client.conversations.messages(talk.id)]
    assert talk.id in [each.id async for each in client.conversations.list(page_size=1)]
    async with client.conversations.stream(talk.id) as stream:
        assert ["pending", "started", "delta", "completed"] == [(await anext(stream)).type for _ in range(4)]
        await client.conversations.delete(talk.id)
        assert ["deleted"] == [event.type async for event in stream]

    data = os.urandom(2 * MIB + 1)
    (folder / "a").write_bytes(data)
    file = await client.files.upload(folder / "a")
    await client.files.download(file.id, folder / "b")
    assert data == (folder / "b").read_bytes()
    assert [file] == [each async for each in client.files.list()]

    (agent, *_) = [agent.name async for agent in client.agents.list()]
    task = await client.tasks.create(agent, "go on", model="simulated:latency_ms=60000", owner="ann")
    await client.tasks.cancel(task.id)
    assert "cancelled" == (await client.tasks.wait(task.id, timeout=60)).status
    again = await client.tasks.retry(task.id)
    assert again.retry_of == task.id
    assert {agent: 2} == await client.tasks.count_by_type()
    assert 1 == (await client.tasks.cancel_all(type=agent)).cancel_requested

    await client.files.delete(file.id)
    for call in (client.conversations.get(talk.id), client.files.get(file.id)):
        with pytest.raises(ClientError, match="not_found"):
            await call

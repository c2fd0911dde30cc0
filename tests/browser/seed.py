"""What the pages have to show: requests in each state, one that waits for each reason, refused records, odd texts."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer

from schemas.topics import REQUESTS
from tests.browser.seed_talk import talked
from tests.support.waiting import eventually

PASSWORD = "correct horse battery staple"
_OWNERS = ("ada", "grace", "billing-job", "linus", '<img src=x onerror="alert(1)">')
_PROMPTS = (
    "Summarise the incident of last night in three sentences.",
    "Which of these invoices were paid twice?",
    "Translate the release notes into German, and keep the code as it is.",
    'Explain what a "lease" is to a new colleague. <script>alert(1)</script>',
    "Write the SQL that lists the ten slowest endpoints of the week.",
)
_ANSWERED = (("llama3", 22), ("qwen3-32b", 9), ("gemma3-12b", 14))
# Records that no worker can take in: value, key, headers. The first has a byte that is not UTF-8.
_DEAD: tuple[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]], ...] = (
    (
        b'{"model": "gemma3-12b", "messages": [{"role": "user", "content": "C\xe9line: which invoices came twice?"}]}',
        b"invoices-2026-11",
        [("ce_type", b"llm.message.requested"), ("correlation_id", b"order-4711"), ("source", b"billing-job")],
    ),
    (b'{"model": "gemma3-12b", "messages": [{"role": "user", "content": "Is Zo\xeb on shift?"}]}', b"shifts", []),
    (b'{"messages": []}', b"<img src=x onerror=alert(1)>", [("<script>alert(1)</script>", b'"><svg onload=alert(1)>')]),
    (b"<img src=x onerror=alert(1)> is not JSON", None, []),
    (b'{"model": "llama3", "messages": [{"role": "user", "content": "Hello"}], "priority": 12}', b"night", []),
    (None, b"tombstone", [("ce_type", b"llm.message.requested"), ("raw", bytes(range(128, 140)))]),
)


def seeded(url: str, kafka: str) -> dict[str, Any]:
    """Fill a stack. The ids of one request in each state, and the paths of the API with their methods."""
    return asyncio.run(_fill(url, kafka))


async def _fill(url: str, kafka: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        send = _Sender(client)
        answered = [await send(model) for model, count in _ANSWERED for _ in range(count)]
        retried, failed = await send("phi4"), await send("command-r")
        await asyncio.gather(*(send.until_it_is(each, "completed") for each in [*answered, retried]))
        await send.until_it_is(failed, "failed")
        cancelled = await send("llama3-70b")
        await send.until_it_is(cancelled, "in_progress")
        await client.post(f"/v1/requests/{cancelled}/cancel")
        running = await send("llama3-70b", conversation=True)
        behind = [await send("llama3", after=running) for _ in range(2)]
        held = [await send("mistral-small", priority=each) for each in (7, 5, 5, 2)]
        later = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
        delayed = [await send.task(later) for _ in range(3)]
        refused = await _refused(kafka)
        letter, to_repair, text_letter = [await send.letter(place) for place in refused[:3]]
        for name, role in (("ada", "user"), ("root", "admin")):
            user = {"username": name, "password": PASSWORD, "role": role}
            (await client.post("/v1/users", json=user)).raise_for_status()
        more = await talked(client)
        await send.until_it_is(running, "in_progress")
        paths = (await client.get("/openapi.json")).json()["paths"]
    return {
        "waiting": held[1],
        "behind": behind[1],
        "delayed": delayed[0],
        "running": running,
        "retried": retried,
        "completed": answered[3],
        "failed": failed,
        "cancelled": cancelled,
        "letter": letter,
        "to_repair": to_repair,
        "text_letter": text_letter,
        "record": refused[0],
        **more,
        "password": PASSWORD,
        "openapi": {path: [*methods] for path, methods in paths.items()},
    }


class _Sender:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._next = itertools.count()

    async def __call__(self, model: str, *, priority: int = 5, conversation: bool = False, after: str = "") -> str:
        number = next(self._next)
        body: dict[str, Any] = {
            "model": model,
            "priority": priority,
            "messages": [{"role": "user", "content": _PROMPTS[number % len(_PROMPTS)]}],
            "metadata": {"ticket": f"T-{1000 + number}"},
        }
        headers = {"X-User-ID": _OWNERS[number % len(_OWNERS)], "Prefer": "respond-async"}
        if after:
            found = (await self._client.get(f"/v1/requests/{after}")).json()
            body["conversation_id"] = found["conversation_id"]
        if conversation or after:
            headers["X-User-ID"] = _OWNERS[0]
        answer = await self._client.post("/v1/messages", json=body, headers=headers)
        answer.raise_for_status()
        return str(answer.json()["id"])

    async def task(self, not_before: str) -> str:
        body = {"task_type": "analyst", "prompt": "The nightly report.", "not_before": not_before, "model": "llama3"}
        answer = await self._client.post("/v1/tasks", json=body, headers={"X-User-ID": "billing-job"})
        answer.raise_for_status()
        return str(answer.json()["id"])

    async def letter(self, place: dict[str, str]) -> str:
        """The id of the dead letter of the record at a place, once all of them are there."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            found[:] = (await self._client.get("/v1/dead-letters")).json()["data"]
            return len(found) >= len(_DEAD)

        await eventually(there, 60)
        return next(
            str(each["id"])
            for each in found
            if (str(each["partition"]), str(each["offset"])) == (place["partition"], place["offset"])
        )

    async def until_it_is(self, id: str, status: str) -> None:
        async def reached() -> bool:
            return bool((await self._client.get(f"/v1/requests/{id}")).json()["status"] == status)

        await eventually(reached, 120)


async def _refused(kafka: str) -> list[dict[str, str]]:
    """Where the records are."""
    places = []
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        for value, key, headers in _DEAD:
            places.append(await producer.send_and_wait(REQUESTS.name, value, key, headers=headers))
    finally:
        await producer.stop()
    return [{"topic": each.topic, "partition": str(each.partition), "offset": str(each.offset)} for each in places]

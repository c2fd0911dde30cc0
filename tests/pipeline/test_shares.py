"""One owner's flood on real Kafka and Postgres: it fills only its share of the slots, and others are answered."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from llm_service.settings import LlmServiceSettings
from orchestra.signing import Signer
from schemas.requests import MESSAGE_REQUESTED
from tests.support.llm_script import Held, LlmScript, llm_script
from tests.support.llm_server import running
from tests.support.people import make_key
from tests.support.records import message
from tests.support.road import Road, open_road
from tests.support.stack import Stack
from tests.support.waiting import eventually

SLOTS = 40
FLOOD = 300
NARROW = """
[[models]]
name = "narrow"
provider = "simulated"
upstream = "simulated:latency_ms=1000"
max_concurrency = {slots}
context_tokens = 10000
max_output_tokens = 1000
"""
_BOBS = """
SELECT count(*) FILTER (WHERE status = 'completed') AS answered,
    count(*) FILTER (WHERE status = 'pending' AND run_at > now()) AS delayed
FROM requests WHERE tenant = 'default' AND user_name = 'bob'
"""


@pytest.fixture
def gate() -> Held:
    """A closed gate: calls to this model wait."""
    return Held()


@pytest.fixture
async def llm(gate: Held) -> AsyncIterator[LlmScript]:
    """A service with a slow model and a fast one."""
    async with llm_script(slow=gate) as running:
        yield running


@pytest.fixture
async def road(stack: Stack, llm: LlmScript) -> AsyncIterator[Road]:
    """A setup with authentication."""
    async with open_road(stack, llm) as opened:
        await make_key(opened.database, "write")
        yield opened


async def ask(road: Road, tenant: str, user: str, model: str, **more: object) -> UUID:
    """A message that a gateway accepted from this owner; 9 is the highest priority."""
    id, conversation = uuid4(), uuid4()
    key, value = str(conversation).encode(), message(conversation_id=str(conversation), model=model, **more)
    signer = Signer([road.stack.env["ORCHESTRA_SECRET"].encode()])
    signature = signer.sign(id=str(id), type=MESSAGE_REQUESTED, tenant=tenant, user=user, key=key, value=value)
    headers = {
        "ce_id": str(id), "ce_type": MESSAGE_REQUESTED, "orchestra-tenant": tenant, "orchestra-user": user,
        "orchestra-signature": signature,
    }  # fmt: skip
    await road.send(value, key, [(name, text.encode()) for name, text in headers.items()])
    return id


async def test_others_are_answered_while_one_owner_floods(road: Road, llm: LlmScript, gate: Held) -> None:
    """Two workers keep slots free for another owner and another tenant, whatever the flood's priority."""
    async with road.worker(worker_concurrency=SLOTS), road.worker(worker_concurrency=SLOTS):
        flood = [await ask(road, "default", "bob", "slow", priority=9) for _ in range(FLOOD)]
        await eventually(lambda: llm.open_now == 2 * SLOTS * 75 // 100)

        for tenant, user in (("default", "ada"), ("default", ""), ("t2", "bob")):
            others = [await ask(road, tenant, user, "echo") for _ in range(10)]
            assert ["completed"] * 10 == await road.endings(others)

        assert llm.most_open <= 2 * SLOTS
        assert llm.open_now == 2 * SLOTS * 75 // 100
        gate.open.set()
        assert ["completed"] * FLOOD == await road.endings(flood)


async def test_a_tenant_of_many_owners_leaves_slots_for_another(road: Road, llm: LlmScript, gate: Held) -> None:
    """A tenant's owners together fill the tenant's share, and not one slot more."""
    async with road.worker(worker_concurrency=SLOTS):
        flood = [await ask(road, "default", f"owner-{number % 7}", "slow") for number in range(3 * SLOTS)]
        await eventually(lambda: llm.open_now == SLOTS * 90 // 100)

        others = [await ask(road, "t2", "ada", "echo") for _ in range(10)]

        assert ["completed"] * 10 == await road.endings(others)
        assert llm.open_now == SLOTS * 90 // 100
        gate.open.set()
        assert ["completed"] * len(flood) == await road.endings(flood)


@pytest.mark.parametrize(("slots", "flood", "queue_seconds"), [(4, 100, 5), (4, 100, 0.1), (1, 60, 5), (1, 60, 0.1)])
async def test_others_are_answered_while_one_owner_floods_a_model_with_few_slots(
    stack: Stack, tmp_path: Path, slots: int, flood: int, queue_seconds: float
) -> None:
    """When a model has few slots, other owners wait neither behind the whole flood nor behind its retries."""
    (table := tmp_path / "models.toml").write_text(NARROW.format(slots=slots))
    settings = LlmServiceSettings(llm_provider="simulated", models_file=table, queue_seconds=queue_seconds)
    async with running(settings) as service, open_road(stack, LlmScript({}, str(service.client.base_url))) as road:
        await make_key(road.database, "write")

        async def answered() -> int:
            return int((await road.one(_BOBS)).answered)

        async def most_due_again() -> bool:
            bobs = await road.one(_BOBS)
            return bool(bobs.answered and bobs.delayed < flood / 4)

        async with road.worker():
            for _ in range(flood):
                await ask(road, "default", "bob", "narrow", priority=9)
            await eventually(most_due_again, 60, pause=0.05)

            others = [("default", "ada"), ("default", "ada"), ("t2", "bob"), ("t2", "bob")]
            asked = [await ask(road, tenant, user, "narrow") for tenant, user in others]
            assert ["completed"] * 4 == await road.endings(asked)

            assert await answered() < flood / 2

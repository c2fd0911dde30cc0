"""Promises of gateway/routes/controls.py: operators pause their tenant's work and drain workers, and it is audited."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from gateway.erasing import Erasing
from gateway.limits import Limits
from gateway.metrics import Metrics
from gateway.people.callers import Callers
from gateway.people.tokens import Tokens
from gateway.routes.audit import Audit
from gateway.routes.controls import Controls
from orchestra.store import leases, pauses
from orchestra.store.claims import NOTHING_PAUSED, Paused
from orchestra.store.database import Database
from orchestra.store.leases import Beat
from orchestra.store.models import note_models
from schemas.generation import ModelInfo, ModelList
from tests.support.people import bearer, calling, key_id, make_key, routed
from tests.support.store import new_worker

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    callers = Callers(database, Tokens([b"s" * 32]), asks=True)
    limits = Limits(database, Metrics(), None, Erasing([b"s" * 32]), max_age=60, max_turns=100)
    names = [ModelInfo(name=name, aliases=[], provider="p", context_tokens=1, max_output_tokens=1) for name in "ab"]
    await note_models(database, ModelList(default="a", data=[*names, names[0].model_copy(update={"name": "x/y"})]))
    await limits.look()
    routes = [*Controls(database, limits).routes(), *Audit(database).routes()]
    async with calling(routed(callers, routes)) as opened:
        opened.headers.update(bearer(await make_key(database, "operate")))
        yield opened


async def audited(client: httpx.AsyncClient, database: Database) -> list[dict[str, Any]]:
    """The audit, oldest first, as an admin sees it."""
    page = (await client.get("/v1/audit", headers=bearer(await make_key(database, "admin")))).json()
    assert page["next"] is None
    return list(reversed(page["data"]))


async def test_a_model_is_paused_and_resumed(client: httpx.AsyncClient, database: Database) -> None:
    """Workers read the pause, its reason and end are shown, and both changes are audited with the trace of the call."""
    until = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    body = {"reason": "canary", "until": until.isoformat()}
    made = await client.post("/v1/models/x/y/pause", json=body, headers={"traceparent": f"00-{TRACE}-{'1' * 16}-01"})

    key = key_id(client.headers["authorization"])
    assert (200, "x/y", "canary", f"key:{key}") == (
        made.status_code, *(made.json()[name] for name in ("model", "reason", "paused_by"))
    )  # fmt: skip
    assert until == datetime.fromisoformat(made.json()["until"])
    assert Paused(models=frozenset({("default", "x/y")})) == await pauses.in_force(database)

    for _ in range(2):
        assert 204 == (await client.post("/v1/models/x/y/resume")).status_code
    assert await pauses.in_force(database) == NOTHING_PAUSED

    first, second = await audited(client, database)
    assert ("model.pause", "models/x/y", f"key:{key}", TRACE) == tuple(
        first[name] for name in ("action", "target", "actor", "trace_id")
    )
    assert ({"paused": False}, {"paused": True, "until": until.isoformat()}) == (first["before"], first["after"])
    assert ("model.resume", {"paused": False}, None) == (second["action"], second["after"], second["trace_id"])
    assert "canary" not in str([first, second])


async def test_a_tenant_is_paused_by_its_own_operators(client: httpx.AsyncClient, database: Database) -> None:
    """A pause concerns the tenant of the key alone, and a body is not required."""
    theirs = bearer(await make_key(database, "operate", tenant="acme"))

    assert 200 == (await client.post("/v1/tenant/pause", headers=theirs)).status_code
    assert Paused(frozenset({"acme"})) == await pauses.in_force(database)
    for path in ("/v1/tenant/resume", "/v1/models/a/resume"):
        assert 204 == (await client.post(path)).status_code
    assert Paused(frozenset({"acme"})) == await pauses.in_force(database)
    assert 204 == (await client.post("/v1/tenant/resume", headers=theirs)).status_code
    assert await pauses.in_force(database) == NOTHING_PAUSED
    assert [] == await audited(client, database)


async def test_an_empty_name_is_no_model(client: httpx.AsyncClient, database: Database) -> None:
    """It does not end the pause of the whole tenant."""
    await client.post("/v1/tenant/pause")

    assert "unknown_model" == (await client.post("/v1/models//resume")).json()["code"]

    assert Paused(frozenset({"default"})) == await pauses.in_force(database)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/models/unknown/pause", {}, "unknown_model"),
        (f"/v1/models/{'a' * 201}/pause", {}, "unknown_model"),
        ("/v1/models/a%00/pause", {}, "unknown_model"),
        ("/v1/models/a%00/resume", None, "unknown_model"),
        ("/v1/models/unknown/resume", None, "unknown_model"),
        ("/v1/models//pause", {}, "unknown_model"),
        ("/v1/models/a/pause", {"until": "2020-01-01T00:00:00Z"}, "invalid_request"),
        ("/v1/tenant/pause", {"reason": "a" * 501}, "invalid_request"),
        (f"/v1/workers/{UUID(int=7)}/drain", None, "not_found"),
        ("/v1/workers/none/drain", None, "not_found"),
    ],
)
async def test_what_cannot_be_done_changes_nothing(
    client: httpx.AsyncClient, database: Database, path: str, body: Any, code: str
) -> None:
    """A refused call has a named error, and neither an effect nor an entry in the audit."""
    answer = await client.post(path, json=body)

    assert code == answer.json()["code"]
    assert await pauses.in_force(database) == NOTHING_PAUSED
    assert [] == await audited(client, database)


async def test_a_worker_drains_and_works_again(client: httpx.AsyncClient, database: Database) -> None:
    """The worker reads it with its next renewal; what changes nothing is not audited."""
    worker = await new_worker(database)
    for verb, drains in (("drain", True), ("drain", True), ("resume", False)):
        answer = await client.post(f"/v1/workers/{worker}/{verb}")
        assert (200, drains) == (answer.status_code, answer.json()["drain_requested_at"] is not None)
        beat = await leases.renew(database, worker)
        assert beat == Beat([], drains=drains)

    assert [("worker.drain", {"drains": True}), ("worker.resume", {"drains": False})] == [
        (each["action"], each["after"]) for each in await audited(client, database)
    ]


async def test_only_operators_of_the_default_tenant_drain_workers(
    client: httpx.AsyncClient, database: Database
) -> None:
    """A tenant cannot stop the work of others: workers serve all tenants."""
    worker = await new_worker(database)

    answer = await client.post(
        f"/v1/workers/{worker}/drain", headers=bearer(await make_key(database, "operate", tenant="acme"))
    )

    assert (403, "forbidden") == (answer.status_code, answer.json()["code"])
    beat = await leases.renew(database, worker)
    assert beat == Beat([], drains=False)

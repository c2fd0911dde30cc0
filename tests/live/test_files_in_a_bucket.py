"""Files in a real S3-compatible server, with real services: nothing is lost when it goes away and comes back."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import own_env
from tests.support.homes import MIB
from tests.support.s3 import S3, open_s3
from tests.support.services import Service, Services
from tests.support.stack import Stack
from tests.support.waiting import eventually


@pytest.fixture
async def s3(tmp_path: Path) -> AsyncIterator[S3]:
    async with open_s3(tmp_path) as opened:
        yield opened


@pytest.fixture
async def own_services(stack: Stack, s3: S3, tmp_path: Path) -> AsyncIterator[Services]:
    started = Services({**await own_env(stack), **s3.env}, tmp_path)
    yield started
    await started.close()


async def upload(client: httpx.AsyncClient, data: bytes) -> httpx.Response:
    return await client.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a", data)})


async def reason(client: httpx.AsyncClient) -> str | None:
    """What readiness says about files; the gateway itself stays ready."""
    ready = (await client.get("/readyz")).raise_for_status().json()
    return ready["parts"]["files"]["reason"]


async def test_the_bucket_away_and_back(own_services: Services, s3: S3) -> None:
    """Meanwhile calls that need it get a clear 503, the others work; what is deleted then is removed afterwards."""
    await own_services.llm()
    gateway: Service = await own_services.gateway()
    await own_services.worker()
    data = os.urandom(7 * MIB + 1)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=90) as client:
        kept, deleted = [(await upload(client, data)).raise_for_status().json()["id"] for _ in range(2)]
        await s3.go_away()
        answers = [await upload(client, data), await client.get(f"/v1/files/{kept}/content")]
        assert {(503, "unavailable")} == {(each.status_code, each.json()["code"]) for each in answers}
        assert 200 == (await client.delete(f"/v1/files/{deleted}")).status_code
        await eventually(lambda: reason(client))

        await s3.come_back()

        assert data == (await client.get(f"/v1/files/{kept}/content")).raise_for_status().content
        assert 200 == (await upload(client, data)).status_code
        await eventually(lambda: _well(client))
        await eventually(lambda: 2 == len(s3.blobs()), seconds=90)
    assert [] == s3.parts_left()


async def _well(client: httpx.AsyncClient) -> bool:
    return await reason(client) is None


async def test_a_message_that_names_a_file_of_a_bucket(own_services: Services, s3: S3) -> None:
    """While the bucket is away the request waits and says why; when it is back, it is answered with the file's text."""
    await own_services.llm()
    gateway: Service = await own_services.gateway()
    await own_services.worker()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=90) as client:
        file = (await upload(client, b"it is a log")).raise_for_status().json()["id"]
        part = {"type": "file", "file": {"file_id": file}}
        body = {"model": "simulated", "messages": [{"role": "user", "content": [part]}]}
        there = (await client.post("/v1/messages", json=body)).json()
        await s3.go_away()
        sent = await client.post("/v1/messages", json=body, headers={"Prefer": "respond-async"})
        location = sent.headers["location"]

        async def reason_of_waiting() -> str | None:
            found = (await client.get(location)).json()
            error = found.get("last_error")
            return error["detail"] if found["status"] == "pending" and error else None

        told = await eventually(reason_of_waiting, seconds=60)
        await s3.come_back()

        async def answer() -> str | None:
            return (await client.get(location)).json().get("reply")

        answered = await eventually(answer, seconds=90)

    assert "files are unavailable" == told
    assert "it is a log" in there["reply"]
    assert there["reply"] == answered

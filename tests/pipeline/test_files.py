"""Files over the wire: uploads that break off or claim too much, ports of real processes, the shared folder."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from orchestra.files import marker
from orchestra.files.folder import Folder
from orchestra.files.marker import UnmarkedHomeError
from tests.support.fakes import QUICK
from tests.support.gateway import Gateway, own_env, running_gateway
from tests.support.homes import MIB, keys_of
from tests.support.stack import Stack
from tests.support.waiting import eventually
from workers.app import worker
from workers.metrics import Metrics
from workers.settings import WorkerSettings

HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
TAIL = b'\r\n--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n'


@pytest.fixture(scope="module")
async def env(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**await own_env(stack), "FILES_URL": (tmp_path_factory.mktemp("home") / "files").as_uri()}


@pytest.fixture
def home(env: dict[str, str]) -> Folder:
    return Folder(Path(urlsplit(env["FILES_URL"]).path))


@pytest.fixture(scope="module")
async def gateway(env: dict[str, str]) -> AsyncIterator[Gateway]:
    async with running_gateway(env, max_file_bytes=4 * MIB) as running:
        yield running


class Caller:
    """One connection on which a test writes what it wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """The status and the body of the answer. The connection is closed behind it."""
        async with asyncio.timeout(20):
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            (length,) = re.findall(rb"content-length: (\d+)", head)
            body = json.loads(await self._reader.readexactly(int(length)))
            with suppress(ConnectionError):
                assert b"" == await self._reader.read()
        return int(head.split()[1]), body

    async def leave(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def calling(gateway: Gateway, length: str) -> AsyncIterator[Caller]:
    """A call that has sent its head."""
    where = urlsplit(gateway.url)
    caller = Caller(*await asyncio.open_connection(where.hostname, where.port))
    await caller.send(
        f"POST /v1/files HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\n{length}\r\n\r\n".encode()
    )
    try:
        yield caller
    finally:
        await caller.leave()


async def ids(gateway: Gateway) -> list[str]:
    return [each["id"] for each in (await gateway.client.get("/v1/files")).json()["data"]]


async def test_an_upload_that_breaks_off_leaves_nothing(gateway: Gateway, home: Folder) -> None:
    """Neither a file nor a blob stays of a body whose client leaves in the middle."""
    files, blobs = await ids(gateway), await keys_of(home)
    async with calling(gateway, f"Content-Length: {2 * MIB}") as caller:
        await caller.send(HEAD + bytes(MIB + MIB // 2))
        await eventually(lambda: _more(home, blobs))

    await eventually(lambda: _same(home, blobs))
    assert files == await ids(gateway)


async def _more(home: Folder, blobs: set[str]) -> bool:
    return await keys_of(home) > blobs


async def _same(home: Folder, blobs: set[str]) -> bool:
    return await keys_of(home) == blobs


async def test_a_claim_that_is_too_large_is_refused_unread(gateway: Gateway) -> None:
    """A call that claims a terabyte is answered before it has sent a byte of it, and its connection is closed."""
    async with calling(gateway, f"Content-Length: {10**12}") as caller:
        assert (413, "file_too_large") == _code(await caller.answer())


async def test_a_body_without_a_length_is_cut_at_the_limit(gateway: Gateway, home: Folder) -> None:
    """A client that sends on and on gets the error and is cut off, and nothing of it stays."""
    blobs = await keys_of(home)
    async with calling(gateway, "Transfer-Encoding: chunked") as caller:
        await caller.send(_chunk(HEAD))

        async def send_on() -> None:
            for _ in range(1000):
                await caller.send(_chunk(bytes(MIB)))

        sending = asyncio.create_task(send_on())
        assert (413, "file_too_large") == _code(await caller.answer())
        with pytest.raises(ConnectionError):
            await sending
    assert await _same(home, blobs)


async def test_what_is_beside_the_file_has_a_limit(gateway: Gateway) -> None:
    """A form whose other parts go on and on is refused."""
    part = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + b"a" * 100_000
    async with calling(gateway, "Transfer-Encoding: chunked") as caller:
        await caller.send(_chunk(part))

        assert (413, "too_large") == _code(await caller.answer())


async def test_an_upload_in_pieces(gateway: Gateway) -> None:
    """Wherever a body is cut into packets, boundaries included, the file is the same."""
    body = HEAD + b"--x\r\n--\r" + TAIL
    async with calling(gateway, f"Connection: close\r\nContent-Length: {len(body)}") as caller:
        for at in range(len(body)):
            await caller.send(body[at : at + 1])
        status, made = await caller.answer()
    got = await gateway.client.get(f"/v1/files/{made['id']}/content")

    assert (200, b"--x\r\n--\r") == (status, got.content)


async def test_the_body_limit_of_other_routes_does_not_count(gateway: Gateway) -> None:
    """A file may be longer than any other body."""
    form = {"data": {"purpose": "vision"}, "files": {"file": ("a", bytes(4 * MIB))}}

    made = await gateway.client.post("/v1/files", **form)

    assert (200, 4 * MIB) == (made.status_code, made.json()["bytes"])


async def test_a_file_of_another_user_of_an_open_gateway(gateway: Gateway) -> None:
    """Where no credentials are asked for, all files can be seen, with the name that they were sent under."""
    form = {"data": {"purpose": "vision"}, "files": {"file": ("a", b"x")}}
    made = (await gateway.client.post("/v1/files", headers={"X-User-ID": "ann"}, **form)).json()

    assert "ann" == (await gateway.client.get(f"/v1/files/{made['id']}")).json()["owner"]


async def test_readiness_tells_what_is_wrong_with_files(env: dict[str, str], tmp_path: Path) -> None:
    """A gateway whose home of files is another deployment's stays ready for messages, says why, and takes no files."""
    folder = Folder(tmp_path / "files")
    await marker.claim(folder, [b"another" * 8])
    async with running_gateway({**env, "FILES_URL": (tmp_path / "files").as_uri()}) as running:
        part = (await running.client.get("/readyz")).json()["parts"]["files"]
        refused = await running.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", b"x")})

    assert part["ready"]
    assert "another deployment" in part["reason"]
    assert (503, "unavailable") == (refused.status_code, refused.json()["code"])


async def test_a_worker_that_sees_another_folder_does_not_start(env: dict[str, str], tmp_path: Path) -> None:
    """Without the marker of a gateway it would keep files that no gateway finds."""
    settings = {name.lower(): value for name, value in env.items() if name != "LLM_PROVIDER"}
    here = WorkerSettings.model_validate({**settings, "files_url": (tmp_path / "elsewhere").as_uri()})

    with pytest.raises(UnmarkedHomeError):
        async with worker(here, Metrics(), replace(QUICK, find_marker=0.1)):
            pass


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _code(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answer[0], answer[1]["code"]

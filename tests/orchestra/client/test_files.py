"""Files of the client: whole or not at all, wherever a connection breaks, in flat memory."""

import io
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestra.client import ClientError, UnreachableError
from tests.support.scripted_http import Clock, Cut, Network, Reply, ok, problem

ID = "file-0123"
FILE = {"id": ID, "bytes": 3, "created_at": 1, "expires_at": 2, "filename": "a.txt", "purpose": "user_data"}
DATA = bytes(range(50))
REFUSED, LOST = httpx.ConnectError("refused"), httpx.ReadError("lost")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


def content(request: httpx.Request, cut: int | None = None, etag: str = '"e"') -> httpx.Response:
    """What a gateway sends of the file."""
    wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    start = int(wanted[1]) if wanted and request.headers.get("if-range") == etag else 0
    headers = {"etag": etag, "content-length": str(len(DATA) - start)}
    if start:
        headers["content-range"] = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    return httpx.Response(206 if start else 200, headers=headers, stream=Cut(DATA[start:], cut))


async def test_a_download_goes_on_wherever_it_breaks(tmp_path: Path) -> None:
    """Whichever byte is the last one of a connection, the file arrives whole, and what came is not sent again."""
    for cut in range(1, len(DATA)):
        network = Network(lambda request, cut=cut: content(request, cut))
        sink = io.BytesIO()
        await network.client().files.download(ID, sink)
        assert DATA == sink.getvalue()
        network.blocking().files.download(ID, tmp_path / "a")
        assert DATA == (tmp_path / "a").read_bytes()
        assert DATA == network.blocking().files.content(ID)
        starts = [call.headers.get("range", "bytes=0-") for call in network.calls]
        assert [f"bytes={start}-" for start in range(0, len(DATA), cut)] * 3 == starts


async def test_an_empty_file() -> None:
    """It has no bytes, and is whole."""
    empty = httpx.Response(200, headers={"etag": '"e"', "content-length": "0"}, stream=Cut(b""))

    assert b"" == await Network([empty]).client().files.content(ID)


async def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The target stays as it was."""
    target = tmp_path / "a"
    target.write_bytes(b"old")
    others = [
        [content(httpx.Request("GET", "http://x"), 9), problem(404, "file_not_found")],
        [content(httpx.Request("GET", "http://x"), 9), content(httpx.Request("GET", "http://x"), etag='"f"')],
        [problem(404, "file_not_found")],
        [httpx.Response(200, stream=Cut(DATA))],
    ]
    for replies in others:
        with pytest.raises(ClientError):
            await Network([*replies]).client().files.download(ID, target)

    assert ([target], b"old") == ([*tmp_path.iterdir()], target.read_bytes())


def sent(network: Network) -> list[tuple[bytes, bytes]]:
    """Name and bytes of each uploaded file."""
    found = []
    for body in network.bodies:
        assert b'name="purpose"\r\n\r\nuser_data\r\n' in body
        match = re.search(rb'filename="(.*?)"\r\n.*?\r\n\r\n(.*)\r\n--[0-9a-f]+--\r\n$', body, re.DOTALL)
        assert match
        found.append((match[1], match[2]))
    return found


class Pipe(io.RawIOBase):
    """A file that cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(buffer)


async def test_uploads(tmp_path: Path) -> None:
    """A path, an open file from where it stands, and a pipe are uploaded as they are."""
    path = tmp_path / "größe.bin"
    path.write_bytes(DATA)
    network = Network(lambda _: ok(FILE))
    client = network.client()
    assert ID == (await client.files.upload(path)).id
    with path.open("rb") as opened:
        opened.seek(10)
        await client.files.upload(opened, filename="b")
    await client.files.upload(Pipe(DATA), filename="c")  # type: ignore[arg-type]
    network.blocking().files.upload(str(path), filename="d")

    assert [DATA, DATA[10:], DATA, DATA] == [data for _, data in sent(network)]
    assert [path.name.encode(), b"b", b"c", b"d"] == [name for name, _ in sent(network)]
    assert [True, True, False, True] == ["content-length" in call.headers for call in network.calls]


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (REFUSED, True),
        (problem(503, "unavailable"), True),
        (problem(429, "storage_full", retry_after=1), True),
        (LOST, False),
        (httpx.Response(502), False),
    ],
)
async def test_an_upload_is_repeated_only_if_it_made_no_file(first: Reply, again: bool) -> None:
    """A repeat sends all of the file; one that may have been received is left to the caller."""
    network = Network([first, ok(FILE)])
    uploading = network.client().files.upload(io.BytesIO(DATA))
    if again:
        assert ID == (await uploading).id
        assert [DATA, DATA] == [data for _, data in sent(network)]
    else:
        with pytest.raises(ClientError):
            await uploading
        assert 1 == len(network.calls)


async def test_a_pipe_is_sent_once() -> None:
    """What cannot be read twice is not sent twice."""
    with pytest.raises(UnreachableError):
        await Network([REFUSED]).client().files.upload(Pipe(DATA))  # type: ignore[arg-type]


async def test_a_list_of_files() -> None:
    """Its pages follow the last file of the one before."""
    pages = [{"data": [FILE, FILE], "has_more": True}, {"data": [FILE], "has_more": False}]
    network = Network([ok(page) for page in pages])
    assert [ID] * 3 == [file.id async for file in network.client().files.list(purpose="user_data")]

    first = {"purpose": "user_data", "limit": "1000"}
    assert [first, {**first, "after": ID}] == [dict(call.url.params) for call in network.calls]


async def test_a_deletion() -> None:
    """A file is deleted by its id, and a repeat that finds nothing has succeeded."""
    await Network([ok({"id": ID, "deleted": True})]).client().files.delete(ID)
    await Network([LOST, problem(404, "file_not_found")]).client().files.delete(ID)


def test_a_file_of_this_machine_that_is_not_there(tmp_path: Path) -> None:
    """It is the error of the system, before any call."""
    network = Network([])
    with pytest.raises(FileNotFoundError):
        network.blocking().files.upload(tmp_path / "nothing")

    assert [] == network.calls

"""Promises of the routes of files: what comes in comes out, for its owner only, within limits."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.erasing import Erasing
from gateway.files import Files
from gateway.people.callers import Callers
from gateway.people.tokens import Tokens
from gateway.routes.files import FileRoutes
from gateway.settings import GatewaySettings
from orchestra.files.folder import Folder
from orchestra.store.database import Database
from tests.support.homes import MIB, keys_of
from tests.support.people import bearer, calling, make_key, make_user, routed

TOKENS = Tokens([b"s" * 32])
ID = "file-" + "0" * 32


def settings(**changes: Any) -> GatewaySettings:
    return GatewaySettings.model_validate({"orchestra_secret": "s" * 32, **changes})


@pytest.fixture
def home(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "files")


def app(database: Database, home: Folder | None, **changes: Any) -> Any:
    callers = Callers(database, TOKENS, asks=True)
    files = Files(database, home, settings(**changes), Erasing([b"s" * 32]))
    return calling(routed(callers, FileRoutes(database, files).routes()))


@pytest.fixture
async def client(database: Database, home: Folder) -> AsyncIterator[httpx.AsyncClient]:
    async with app(database, home) as opened:
        yield opened


@pytest.fixture
async def ann(database: Database) -> dict[str, str]:
    return bearer(await make_key(database, "write", user=await make_user(database, "ann")))


@pytest.fixture
async def bob(database: Database) -> dict[str, str]:
    return bearer(await make_key(database, "write", user=await make_user(database, "bob")))


@pytest.fixture
async def admin(database: Database) -> dict[str, str]:
    return bearer(await make_key(database, "admin"))


async def upload(
    client: httpx.AsyncClient, who: dict[str, str], data: bytes = b"data", name: str = "a.txt", **fields: str
) -> httpx.Response:
    form = {"purpose": "user_data", **fields}
    return await client.post("/v1/files", data=form, files={"file": (name, data, "text/html")}, headers=who)


def code(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()["code"]


async def test_a_file_comes_back_as_it_was(client: httpx.AsyncClient, ann: dict[str, str]) -> None:
    """Its object has OpenAI's shape, its bytes are the same, and what a browser would run is only downloaded."""
    data = b"<script>" + os.urandom(2 * MIB)
    made = (await upload(client, ann, data, "r\u00e9sum\u00e9 1.html")).json()
    one = await client.get(f"/v1/files/{made['id']}", headers=ann)
    got = await client.get(f"/v1/files/{made['id']}/content", headers=ann)

    assert {
        "id": made["id"], "object": "file", "bytes": len(data), "created_at": made["created_at"],
        "expires_at": made["created_at"] + 30 * 86400, "filename": "r\u00e9sum\u00e9 1.html", "purpose": "user_data",
        "status": "processed",
    } == made == one.json()  # fmt: skip
    assert (200, data) == (got.status_code, got.content)
    assert {
        "content-type": "application/octet-stream",
        "content-disposition": "attachment; filename*=UTF-8''r%C3%A9sum%C3%A9%201.html",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "content-length": str(len(data)),
        "etag": f'"{hashlib.sha256(data).hexdigest()}"',
    }.items() <= got.headers.items()


async def test_the_type_is_that_of_the_bytes(client: httpx.AsyncClient, ann: dict[str, str]) -> None:
    """Neither the name nor the type that the uploader claims decides how the content is served."""
    made = (await upload(client, ann, b"%PDF-1.7\n", "a.html")).json()

    got = await client.get(f"/v1/files/{made['id']}/content", headers=ann)

    assert "application/pdf" == got.headers["content-type"]


async def test_a_part_of_a_file(client: httpx.AsyncClient, ann: dict[str, str]) -> None:
    """A range is answered with this part, so that a download can be resumed."""
    data = os.urandom(MIB + 10)
    id = (await upload(client, ann, data)).json()["id"]

    part = await client.get(f"/v1/files/{id}/content", headers={**ann, "Range": f"bytes={MIB}-"})

    assert (206, data[MIB:]) == (part.status_code, part.content)
    assert f"bytes {MIB}-{MIB + 9}/{MIB + 10}" == part.headers["content-range"]


async def test_a_page_of_files(client: httpx.AsyncClient, ann: dict[str, str], bob: dict[str, str]) -> None:
    """A list has the caller's files in order, page by page, also while the file at its end is deleted."""
    empty = await client.get("/v1/files", headers=ann)
    assert {"object": "list", "data": [], "has_more": False} == empty.json()
    ids = [(await upload(client, ann, purpose=purpose)).json()["id"] for purpose in ("vision", "batch", "vision")]
    await upload(client, bob)

    async def page(**query: Any) -> dict[str, Any]:
        return dict((await client.get("/v1/files", params=query, headers=ann)).raise_for_status().json())

    first = await page(limit=2)
    assert [ids[2], ids[1]] == [each["id"] for each in first["data"]]
    assert (True, ids[2], ids[1]) == (first["has_more"], first["first_id"], first["last_id"])
    await client.delete(f"/v1/files/{ids[1]}", headers=ann)
    second = await page(limit=2, after=ids[1])
    assert ([ids[0]], False) == ([each["id"] for each in second["data"]], second["has_more"])
    assert [ids[0], ids[2]] == [each["id"] for each in (await page(order="asc", limit=10_000))["data"]]
    assert [ids[2]] == [each["id"] for each in (await page(order="asc", after=ids[0]))["data"]]
    assert [] == (await page(purpose="batch"))["data"]
    assert (422, "invalid_request") == code(await client.get("/v1/files?after=x", headers=ann))


async def test_a_deleted_file_is_gone(client: httpx.AsyncClient, ann: dict[str, str]) -> None:
    """The answer has OpenAI's shape; after it the file is in no answer."""
    id = (await upload(client, ann)).json()["id"]
    gone = await client.delete(f"/v1/files/{id}", headers=ann)

    assert (200, {"id": id, "object": "file", "deleted": True}) == (gone.status_code, gone.json())
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert (404, "file_not_found") == code(await client.request(method, f"/v1/files/{id}{path}", headers=ann))
    assert [] == (await client.get("/v1/files", headers=ann)).json()["data"]


async def test_files_are_their_owners(
    client: httpx.AsyncClient, database: Database, ann: dict[str, str], bob: dict[str, str], admin: dict[str, str]
) -> None:
    """Another owner's file does not exist, nor does another tenant's for its admin; an admin sees the owner."""
    id = (await upload(client, ann)).json()["id"]
    foreign = bearer(await make_key(database, "admin", tenant="other"))
    for who in (bob, foreign):
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            answers = [
                await client.request(method, f"/v1/files/{each}{path}", headers=who) for each in (id, ID, "file-x")
            ]
            assert {(404, "file_not_found")} == {code(each) for each in answers}
            assert 1 == len({each.text for each in answers})
    seen = (await client.get(f"/v1/files/{id}", headers=admin)).json()

    assert seen["owner"]
    assert "owner" not in (await client.get(f"/v1/files/{id}", headers=ann)).json()
    assert [id] == [each["id"] for each in (await client.get("/v1/files", headers=admin)).json()["data"]]


async def test_scopes(client: httpx.AsyncClient, database: Database) -> None:
    """A key that reads does not upload or delete, and nothing is done without credentials."""
    reader = bearer(await make_key(database, "read"))

    assert (403, "forbidden") == code(await upload(client, reader))
    assert (403, "forbidden") == code(await client.delete(f"/v1/files/{ID}", headers=reader))
    assert 200 == (await client.get("/v1/files", headers=reader)).status_code
    assert (401, "unauthorized") == code(await upload(client, {}))


BOUNDARY = "xyz"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\ndata'
PURPOSE = b'Content-Disposition: form-data; name="purpose"\r\n\r\nuser_data'


async def post(client: httpx.AsyncClient, who: dict[str, str], *parts: bytes, end: bool = True) -> httpx.Response:
    body = b"".join(b"--xyz\r\n%b\r\n" % part for part in parts) + (b"--xyz--\r\n" if end else b"")
    headers = {**who, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return await client.post("/v1/files", content=body, headers=headers)


async def test_fields_may_have_any_order(client: httpx.AsyncClient, ann: dict[str, str]) -> None:
    """The purpose may come before the file or after it."""
    for parts in ((FILE, PURPOSE), (PURPOSE, FILE)):
        made = await post(client, ann, *parts)
        assert (200, 4) == (made.status_code, made.json()["bytes"])


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((FILE,), "form:"),
        ((PURPOSE,), "form:"),
        ((FILE, FILE, PURPOSE), "form:"),
        ((FILE, PURPOSE, PURPOSE), "form:"),
        ((FILE, PURPOSE, b'Content-Disposition: form-data; name="more"\r\n\r\nx'), "form:"),
        ((FILE, b'Content-Disposition: form-data; name="purpose"\r\n\r\nfun'), "purpose:"),
        ((FILE, b'Content-Disposition: form-data; name="purpose"\r\n\r\n\xff'), "purpose:"),
        ((FILE.replace(b"data", b"form-data", 1), PURPOSE), "form:"),
        ((FILE.replace(b"\r\n\r\ndata", b"\r\n\r\n"), PURPOSE), "file: is empty"),
        ((FILE.replace(b"a.txt", b""), PURPOSE), "file: must have"),
        ((FILE.replace(b"a.txt", b"a" * 256), PURPOSE), "file: must have"),
        ((FILE.replace(b"a.txt", "a\u202eb".encode()), PURPOSE), "file: must have"),
        ((FILE.replace(b'; filename="a.txt"', b""), PURPOSE), "file: must have"),
        ((b"nonsense\r\n\r\nx", FILE, PURPOSE), "form:"),
    ],
)
async def test_a_form_that_is_not_one(
    client: httpx.AsyncClient, home: Folder, ann: dict[str, str], parts: tuple[bytes, ...], said: str
) -> None:
    """It is refused with what is wrong, which never repeats it, and nothing of it is kept."""
    refused = await post(client, ann, *parts)

    assert (422, "invalid_request") == code(refused)
    assert refused.json()["detail"].startswith(said)
    assert [] == (await client.get("/v1/files", headers=ann)).json()["data"]
    assert set() == await keys_of(home)


async def test_a_form_without_its_end(client: httpx.AsyncClient, home: Folder, ann: dict[str, str]) -> None:
    """A body that ends in the middle is refused, and nothing of it is kept."""
    assert (422, "invalid_request") == code(await post(client, ann, FILE, PURPOSE, end=False))
    assert set() == await keys_of(home)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=", ""])
async def test_a_body_that_is_no_form(client: httpx.AsyncClient, ann: dict[str, str], kind: str) -> None:
    """It is refused before any of it is read."""
    assert (422, "invalid_request") == code(
        await client.post("/v1/files", content=b"x", headers={**ann, "Content-Type": kind})
    )


async def test_folders_are_no_part_of_a_name(client: httpx.AsyncClient, ann: dict[str, str]) -> None:
    """A name cannot lead to a place on the machine that downloads the file."""
    for name in ("../../etc/passwd", "C:\\passwd", "/passwd"):
        assert "passwd" == (await upload(client, ann, name=name)).json()["filename"]


async def test_a_file_that_is_too_large(database: Database, home: Folder, ann: dict[str, str]) -> None:
    """A file of the maximum length is kept; one byte more is refused, claimed or not, and nothing of it is kept."""
    async with app(database, home, max_file_bytes=2 * MIB) as client:
        made = await upload(client, ann, bytes(2 * MIB))
        kept = await keys_of(home)
        refused = await upload(client, ann, bytes(2 * MIB + 1))
        claimed = await upload(client, ann, bytes(4 * MIB))

    assert 200 == made.status_code
    assert {(413, "file_too_large")} == {code(refused), code(claimed)}
    assert kept == await keys_of(home)


async def test_an_owner_has_a_quota(database: Database, home: Folder, ann: dict[str, str], bob: dict[str, str]) -> None:
    """What would exceed it is refused; deleting makes room, and others are not concerned."""
    async with app(database, home, max_file_bytes_per_owner=2 * MIB) as client:
        first = (await upload(client, ann, bytes(MIB))).json()["id"]
        kept = await keys_of(home)
        for size in (MIB + 1, 4 * MIB):
            assert (403, "quota_exceeded") == code(await upload(client, ann, bytes(size)))
        assert kept == await keys_of(home)
        assert 200 == (await upload(client, bob, bytes(2 * MIB))).status_code
        assert 200 == (await upload(client, ann, bytes(MIB))).status_code
        await client.delete(f"/v1/files/{first}", headers=ann)
        assert 200 == (await upload(client, ann, bytes(MIB))).status_code


async def test_no_home_no_files(database: Database, ann: dict[str, str]) -> None:
    """Where FILES_URL is not set, an upload says so, and the list is empty."""
    async with app(database, None) as client:
        refused = await upload(client, ann)
        listed = await client.get("/v1/files", headers=ann)

    assert (422, "not_supported") == code(refused)
    assert "FILES_URL" in refused.json()["detail"]
    assert [] == listed.json()["data"]


async def test_the_home_away_and_back(
    client: httpx.AsyncClient, home: Folder, tmp_path: Path, ann: dict[str, str]
) -> None:
    """While the home is away files cannot be sent or read, but listed; when it is back, all is there."""
    id = (await upload(client, ann)).json()["id"]
    (tmp_path / "files").rename(tmp_path / "away")

    assert (503, "unavailable") == code(await upload(client, ann))
    assert [id] == [each["id"] for each in (await client.get("/v1/files", headers=ann)).json()["data"]]
    (tmp_path / "away").rename(tmp_path / "files")
    assert b"data" == (await client.get(f"/v1/files/{id}/content", headers=ann)).content
    assert 200 == (await upload(client, ann)).status_code

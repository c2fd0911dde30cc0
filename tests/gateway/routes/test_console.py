"""Promises of gateway/routes/console.py and of the files that it serves; `make browser` opens them in a browser."""

import gzip
import hashlib
import json
import re
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.app import create_app
from gateway.routes.console import FOLDER, read
from gateway.settings import GatewaySettings

CONSOLE = read()
VENDOR = FOLDER / "vendor"
LOCK = json.loads((VENDOR / "vendor.lock.json").read_text("utf-8"))
OURS = sorted(
    path for path in FOLDER.rglob("*") if path.suffix in {".js", ".css", ".html"} and VENDOR not in path.parents
)
SCRIPTS = {path.relative_to(FOLDER).as_posix(): path.read_text("utf-8") for path in OURS if path.suffix == ".js"}
# Ways in which a text could become markup or code.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySet|document\.write|\beval\(|new Function|srcdoc|javascript:"
    r"|createContextualFragment|DOMParser|setHTMLUnsafe"
)
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HTML = "text/html; charset=utf-8"
MAX_LINES = 200


# A gateway that requires credentials.
APP = create_app(GatewaySettings.model_validate({"orchestra_secret": "s" * 32, "open_mode": False}))


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as opened:
        yield opened


@pytest.mark.parametrize("path", ["", "/", "/requests", "/requests/7c9e6679-7425-40de-944b-e07fc1f90ae7", "/no/such"])
async def test_every_path_is_the_page(client: httpx.AsyncClient, path: str) -> None:
    """Each path below the console is the same page, without credentials: it has no data, and reads its own address."""
    answer = await client.get(f"/console{path}")

    assert (200, HTML, "no-cache") == (
        answer.status_code,
        answer.headers["content-type"],
        answer.headers["cache-control"],
    )
    assert CONSOLE.page.body == answer.content


async def test_the_policy_is_strict(client: httpx.AsyncClient) -> None:
    """Scripts come from this origin or are the import map, no string becomes markup, and no page frames the console."""
    headers = (await client.get("/console")).headers
    policy = dict(each.strip().partition(" ")[::2] for each in headers["content-security-policy"].split(";"))
    (import_map,) = re.findall(r'<script type="importmap">(.*?)</script>', CONSOLE.page.body.decode(), re.DOTALL)
    (listed,) = re.findall(r"'sha256-([^']+)'", policy["script-src"])

    assert hashlib.sha256(import_map.encode()).hexdigest() == b64decode(listed).hex()
    assert {
        "default-src": "'self'",
        "script-src": f"'self' 'sha256-{listed}'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    } == policy
    assert ("nosniff", "no-referrer", "same-origin", "same-origin") == (
        headers["x-content-type-options"],
        headers["referrer-policy"],
        headers["cross-origin-opener-policy"],
        headers["cross-origin-resource-policy"],
    )
    assert json.loads(import_map)["imports"]


async def test_files_are_kept_for_good(client: httpx.AsyncClient) -> None:
    """Under the hash of all files a browser keeps a file for good; under an older one it asks again."""
    now = await client.get(f"/console/files/{CONSOLE.version}/main.js")
    old = await client.get("/console/files/0000000000000000/main.js")

    assert ("public, max-age=31536000, immutable", "no-cache") == (
        now.headers["cache-control"],
        old.headers["cache-control"],
    )
    assert now.content == old.content == (FOLDER / "main.js").read_bytes()
    assert now.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_a_file_that_a_browser_has_is_not_sent_again(client: httpx.AsyncClient, encoding: str) -> None:
    """A file comes compressed to those that take it, with a tag of its own; with that tag the answer is 304."""
    path = f"/console/files/{CONSOLE.version}/vendor/uplot.js"
    async with client.stream("GET", path, headers={"Accept-Encoding": encoding}) as answer:
        raw = b"".join([each async for each in answer.aiter_raw()])
    again = await client.get(path, headers={"Accept-Encoding": encoding, "If-None-Match": answer.headers["etag"]})
    packed = encoding == "gzip"

    assert (VENDOR / "uplot.js").read_bytes() == (gzip.decompress(raw) if packed else raw)
    assert packed == ("content-encoding" in answer.headers)
    assert "Accept-Encoding" == answer.headers["vary"]
    assert (304, b"", answer.headers["etag"]) == (again.status_code, again.content, again.headers["etag"])


@pytest.mark.parametrize("name", ["nothing.js", "../app.py", "%2e%2e/app.py", "vendor/vendor.lock.json"])
async def test_other_files_are_not_served(client: httpx.AsyncClient, name: str) -> None:
    """A name that is no file of the console is 404, or the page, and never a file beside it."""
    answer = await client.get(f"/console/files/{CONSOLE.version}/{name}")

    assert 404 == answer.status_code or CONSOLE.page.body == answer.content


async def test_the_root_sends_browsers_to_the_console(client: httpx.AsyncClient) -> None:
    """`/` sends a browser to the console, and answers all others as any path that does not exist."""
    browser, other = await client.get("/", headers=PAGE), await client.get("/")
    posted, strange = await client.post("/", headers=PAGE), await client.get("/nothing")

    assert (303, "/console") == (browser.status_code, browser.headers["location"])
    assert other.status_code == posted.status_code == strange.status_code == 404
    assert other.json()["code"] == posted.json()["code"] == strange.json()["code"] == "not_found"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_file_is_short_and_has_no_sink(path: Path) -> None:
    """No file has more than 200 lines, and none turns text into markup or code."""
    text = path.read_text("utf-8")

    assert len(text.splitlines()) <= MAX_LINES
    assert SINKS.search(text) is None


def test_scripts_import_what_exists() -> None:
    """Each import names a file of the console, or a package of the import map."""
    (import_map,) = re.findall(r'<script type="importmap">(.*?)</script>', CONSOLE.page.body.decode(), re.DOTALL)
    packages = json.loads(import_map)["imports"]
    assert {each.removeprefix(f"/console/files/{CONSOLE.version}/") for each in packages.values()} <= {*CONSOLE.files}

    missing = [
        f"{name}: {target}"
        for name, text in SCRIPTS.items()
        for target in re.findall(r'(?:from|import) ?\(?"([^"]+)"', re.sub(r"/\*\*.*?\*/", "", text, flags=re.DOTALL))
        if target not in packages and not (FOLDER / name).parent.joinpath(target).resolve().is_file()
    ]

    assert missing == []


def test_every_call_is_documented() -> None:
    """Each path of the API that a script names is one of the OpenAPI document."""
    known = {re.sub(r"\{\w+\}", "{}", path) for path in APP.openapi()["paths"]}
    called = {
        (name, re.sub(r"\{\w+\}", "{}", path))
        for name, text in SCRIPTS.items()
        for path in re.findall(r'"(/(?:v1|openai|readyz|healthz|metrics)\b[^"\s]*)"', text)
    }

    assert called
    assert {each for each in called if each[1] not in known} == set()


def test_pages_have_their_own_keys() -> None:
    """Each page of the list has a module, and no two have the same path or the same key."""
    pages = SCRIPTS["pages.js"].partition("PAGES = [")[2]
    paths, keys = re.findall(r'\bpath: "([^"]+)"', pages), re.findall(r'\bkey: "([^"]+)"', pages)

    assert paths
    assert sorted(set(paths)) == sorted(paths)
    assert sorted(set(keys)) == sorted(keys)


def test_vendored_files_are_those_of_the_lock() -> None:
    """The third-party files are exactly those that the lock names, by their hashes, each with its licence."""
    files = {file["name"]: file["sha256"] for package in LOCK["packages"] for file in package["files"]}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name not in {"vendor.lock.json", "LICENSES.md"}
    }
    licences = (VENDOR / "LICENSES.md").read_text("utf-8")

    assert files == found
    assert all(re.fullmatch(r"sha512-[A-Za-z0-9+/]+={0,2}", package["integrity"]) for package in LOCK["packages"])
    assert all(f"\n## {package['package']} {package['version']}\n" in licences for package in LOCK["packages"])

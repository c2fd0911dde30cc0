"""The console: static files that browsers run as a client of the public API. They contain no data."""

import base64
import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import Match
from starlette.types import Scope

FOLDER = Path(__file__).parents[1] / "console"
_AT = "/console"
_PAGE = "index.html"
# What index.html writes in the place of the hash of all files.
_VERSION = "{version}"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".md": "text/markdown"}
# A browser keeps a file for good under the hash of all files, and asks for it again under any other.
_FOR_GOOD, _ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# No text becomes code: scripts come from this origin, and no DOM sink takes a string.
_POLICY = (
    "default-src 'self'; script-src 'self' 'sha256-{import_map}'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


@dataclass(frozen=True)
class File:
    """A file as it is sent."""

    body: bytes
    packed: bytes
    media_type: str
    etag: str


@dataclass(frozen=True)
class Console:
    """All files by name. ``version``: the hash of their contents, in whose folder they are served."""

    files: dict[str, File]
    page: File
    version: str
    policy: str


@cache
def read() -> Console:
    """The console, read and compressed once per process."""
    names = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.suffix in _TYPES)
    bodies = {name: (FOLDER / name).read_bytes() for name in names}
    page = (FOLDER / _PAGE).read_text("utf-8")
    all_of_it = hashlib.sha256(page.encode())
    for name, body in bodies.items():
        all_of_it.update(f"\0{name}\0{len(body)}\0".encode() + body)
    version = all_of_it.hexdigest()[:16]
    page = page.replace(_VERSION, version)
    found = re.search(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    assert found, "index.html has an import map"
    import_map = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    return Console(
        files={name: _file(body, _TYPES[Path(name).suffix]) for name, body in bodies.items()},
        page=_file(page.encode(), "text/html"),
        version=version,
        policy=_POLICY.format(import_map=import_map),
    )


def build_router() -> APIRouter:
    """The routes for the app."""
    router = APIRouter(include_in_schema=False)
    console = read()

    async def get_page(request: Request) -> Response:
        return _answer(request, console, console.page, _ASK_AGAIN)

    async def get_file(request: Request, version: str, name: str) -> Response:
        file = console.files.get(name)
        if file is None:
            raise HTTPException(404)
        # During an upgrade the page may come from a gateway of another release.
        return _answer(request, console, file, _FOR_GOOD if version == console.version else _ASK_AGAIN)

    async def get_root() -> Response:
        return RedirectResponse(_AT, 303, headers={"Vary": "Accept"})

    router.add_api_route(f"{_AT}/files/{{version}}/{{name:path}}", get_file)
    router.add_api_route(_AT, get_page)
    # Every path below it is a page of the console, which reads its own address.
    router.add_api_route(f"{_AT}/{{path:path}}", get_page)
    router.add_api_route("/", get_root, route_class_override=_ForBrowsers)
    return router


class _ForBrowsers(APIRoute):
    """A route for calls that ask for a page. All others are answered as if it did not exist."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match a GET with ``text/html`` in its ``Accept``."""
        match, child = super().matches(scope)
        headers = Headers(scope=scope)
        wanted = match is Match.FULL and "text/html" in headers.get("accept", "")
        return (match, child) if wanted else (Match.NONE, {})


def _file(body: bytes, media_type: str) -> File:
    digest = hashlib.sha256(body).hexdigest()[:32]
    return File(body, gzip.compress(body, 9, mtime=0), media_type, f'"{digest}"')


def _answer(request: Request, console: Console, file: File, cache_control: str) -> Response:
    packed = "gzip" in request.headers.get("accept-encoding", "")
    # A compressed answer is another representation, with a tag of its own.
    etag = f'{file.etag[:-1]}-gzip"' if packed else file.etag
    headers = {
        **_HEADERS,
        "Cache-Control": cache_control,
        "Content-Security-Policy": console.policy,
        "ETag": etag,
        "Vary": "Accept-Encoding",
    }
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if etag in known:
        return Response(status_code=304, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(file.packed if packed else file.body, headers=headers, media_type=file.media_type)

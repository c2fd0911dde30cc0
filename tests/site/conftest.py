"""A real Chromium that looks at the built documentation, from a server of this machine and as files."""

import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from chromium import chromium
from playwright.sync_api import Browser

HTML = Path(os.environ["SITE_HTML"])


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """The address of the site on a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(HTML))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(params=["served", "files"])
def site(request: pytest.FixtureRequest) -> str:
    """Where the site is, one way and the other."""
    return str(request.getfixturevalue("served")) if request.param == "served" else HTML.as_uri()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Any]:
    """Opens pages of a width and a theme; a page has no errors, and fetches nothing from elsewhere."""
    contexts, wrong = [], list[str]()

    def make(width: int = 1280, theme: str = "light") -> Any:
        height = 844 if width < 500 else 860
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, has_touch=width < 500,
            reduced_motion="reduce",
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda made: _is_foreign(made.url) and wrong.append(f"foreign: {made.url}"))
        return page

    yield make
    for context in contexts:
        context.close()
    assert [] == wrong


def _is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:"))

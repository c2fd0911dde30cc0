"""A real Chromium for the checks of pages. Every page is watched: its errors, its calls, its policy."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from addresses import URL
from chromium import chromium
from playwright.sync_api import Browser, Page, Request, expect
from playwright.sync_api import TimeoutError as TooLate

SEEN = json.loads(os.environ["CONSOLE_SEEN"])
# A machine may be busy: what comes, comes.
expect.set_options(timeout=20_000)
_OWN = re.compile(r"/console(/.*)?")
# A policy violation is an event of the document, which the page itself cannot hide.
_WATCH = """window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});"""


@dataclass
class Watched:
    """One page and what went wrong in it. ``expected``: statuses of answers that a check asks for."""

    page: Page
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)

    def open(self, path: str) -> Page:
        """Open a page of the console, and wait until it shows something."""
        self.page.goto(f"{URL}/console{path}")
        try:
            self.page.wait_for_selector("h1")
        except TooLate:
            pytest.fail(f"{path} shows {self.page.inner_text('body')!r}: {self.problems()}")
        return self.page

    def settle(self) -> None:
        """Wait until nothing on the page is still loading."""
        self.page.wait_for_function("() => !document.querySelector('.loading, [aria-busy=true]')")
        self.page.evaluate("() => document.fonts.ready.then(() => new Promise(requestAnimationFrame))")

    def problems(self) -> list[str]:
        """Everything that must not happen in a page."""
        violations = self.page.evaluate("() => window.violations")
        ran = ["a text ran"] if self.page.evaluate("() => window.ran !== undefined") else []
        found = [*self.errors, *self.foreign, *self.dialogs, *violations, *ran]
        # The browser itself writes a line for an answer that is an error.
        return [each for each in found if not any(f"status of {status} " in each for status in self.expected)]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def page(browser: Browser) -> Iterator[Page]:
    """A page of the console for what its modules do without one: nothing that a test does remains in it."""
    opened = browser.new_page(timezone_id="UTC")
    opened.goto(f"{URL}/console")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def seen() -> dict[str, Any]:
    """Ids of what the stack has been given."""
    return dict(SEEN)


@pytest.fixture
def open_watched(browser: Browser) -> Iterator[Any]:
    """Opens pages of a size and a theme; each is a browser of its own, without cookies."""
    contexts = []

    def make(width: int = 1280, scheme: str = "light", **more: Any) -> Watched:
        height = 844 if width < 500 else 860
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=width < 500, timezone_id="UTC",
            reduced_motion="reduce", **more,
        )  # fmt: skip
        contexts.append(context)
        context.add_init_script(_WATCH)
        page = context.new_page()
        watched = Watched(page)
        page.on("console", lambda said: said.type in {"error", "warning"} and watched.errors.append(said.text))
        page.on("pageerror", lambda error: watched.errors.append(str(error)))
        page.on("request", lambda request: watched.foreign.extend(_foreign(request)))
        page.on("dialog", lambda dialog: (watched.dialogs.append(dialog.message), dialog.dismiss()))
        return watched

    yield make
    for context in contexts:
        context.close()


def _foreign(request: Request) -> list[str]:
    """The call, if it is neither for a file of the console nor one that the API's document has."""
    at = urlsplit(request.url)
    own = f"{at.scheme}://{at.netloc}" in {URL, SEEN["closed"]}
    if own and (_OWN.fullmatch(at.path) or any(pattern.fullmatch(at.path) for pattern in _documented(request.method))):
        return []
    return [f"foreign: {request.method} {request.url}"]


def _documented(method: str) -> list[re.Pattern[str]]:
    paths = [path for path, methods in SEEN["openapi"].items() if method.lower() in methods]
    return [re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))) for path in paths]


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The API's document."""
    with urlopen(f"{URL}/openapi.json") as answer:
        found: dict[str, Any] = json.load(answer)
    return found

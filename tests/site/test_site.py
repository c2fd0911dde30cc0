"""The documentation as its readers see it: it can be read by everyone, searched offline, and its pictures are drawn."""

import os
from pathlib import Path
from typing import Any

import pytest
from chromium import serious
from playwright.sync_api import expect

HTML, SHOTS = Path(os.environ["SITE_HTML"]), Path(os.environ["SITE_SHOTS"])
PAGES = sorted(page.relative_to(HTML).with_suffix("").as_posix() for page in HTML.rglob("*.html"))
LOOKED_AT = ("index", "tutorial", "howto/run-in-containers", "reference/http", "reference/settings", "capacity")
# What people type, and the page that answers it.
SOUGHT = {
    "structured output": "howto/call-tools.html#structured-output",
    "dead letters": "howto/dead-letters.html",
    "Kubernetes": "howto/run-on-kubernetes.html",
    "upgrade": "howto/upgrade.html",
    "tool calls": "howto/call-tools.html",
}
_WIDE = """() => [...document.querySelectorAll("body *")].filter((each) => {
  const box = each.getBoundingClientRect(), scrolled = each.closest(".table-wrapper, pre, .highlight");
  const wide = (rectangle) => rectangle.right > innerWidth + 1;
  return box.width && wide(box) && (!scrolled || wide(scrolled.getBoundingClientRect()))
    && !each.closest(".sidebar-drawer, .toc-drawer, .overlay");
}).map((each) => `${each.tagName}.${each.getAttribute("class")}`)"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit(width: int, theme: str, served: str, opened: Any) -> None:
    """A page of each kind fits a laptop and a phone, light and dark, and axe finds nothing serious in it."""
    page = opened(width, theme)
    for name in LOOKED_AT:
        page.goto(f"{served}/{name}.html")
        page.screenshot(path=SHOTS / f"{name.replace('/', '-')}-{width}-{theme}.png")

        assert [] == page.evaluate(_WIDE), name
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), name
        assert [] == serious(page), name


@pytest.mark.timeout(900)  # A second or so for each of the pages.
def test_everyone_can_read_every_page(served: str, opened: Any) -> None:
    """Axe finds nothing serious in any page, as a phone shows it."""
    page = opened(390)
    found = {}
    for name in PAGES:
        page.goto(f"{served}/{name}.html")
        if lacks := serious(page):
            found[name] = lacks

    assert {} == found


@pytest.mark.parametrize("words", SOUGHT)
def test_the_first_result_is_the_right_page(words: str, site: str, opened: Any) -> None:
    """Without any server the search leads with the page that says how to do it, and shows a piece of it."""
    page = opened()
    page.goto(f"{site}/index.html")
    page.get_by_placeholder("Search").first.fill(words)
    page.keyboard.press("Enter")
    first = page.locator("ul.search li").first
    expect(first.locator("a").first).to_have_attribute("href", SOUGHT[words], timeout=20_000)
    page.screenshot(path=SHOTS / f"search-{words.replace(' ', '-')}.png")


def test_diagrams_are_drawn(site: str, opened: Any) -> None:
    """A diagram is a drawing with its words in it, not its source."""
    page = opened()
    page.goto(f"{site}/project/README.html")
    drawing = page.locator("svg[id^=mermaid]").first

    expect(drawing).to_be_visible(timeout=20_000)
    expect(drawing).to_contain_text("gateway", ignore_case=True)
    page.screenshot(path=SHOTS / "diagram.png")

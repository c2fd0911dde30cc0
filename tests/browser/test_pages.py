"""Each page of the console, light and dark, on a laptop and a phone: everyone can read it, and it holds its policy."""

from typing import Any

import pytest
from addresses import ADDRESSES, address_of, name_of
from chromium import serious
from looking import shoot

WIDTHS = (1280, 390)
# Pages that are otherwise for someone without the right to operate.
OTHERWISE = ("/", "/requests", "/models", "/keys", "/queue")
_WIDE = """() => [...document.querySelectorAll("body *")].filter((each) => {
  const box = each.getBoundingClientRect();
  const scrolled = each.closest(".flush, nav, pre, dialog, .hidden");
  const wide = (rectangle) => rectangle.right > innerWidth + 1;
  return box.width && wide(box) && (!scrolled || wide(scrolled.getBoundingClientRect()));
}).map((each) => `${each.tagName}.${each.getAttribute("class")} ${Math.round(each.getBoundingClientRect().right)}`)"""


def look(watched: Any, name: str) -> None:
    """Light and dark: a picture, and that the page has nothing that it must not have."""
    page = watched.page
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        watched.settle()
        found = serious(page)
        page.evaluate("() => scrollTo(0, 0)")
        shoot(page, f"{name}-{theme}", whole=True)

        assert [] == watched.problems()
        assert [] == page.evaluate(_WIDE)
        assert [] == found
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("path", "sample"), [*ADDRESSES, ("/nowhere", "")], ids=name_of)
def test_a_page(path: str, sample: str, width: int, open_watched: Any, seen: dict[str, Any]) -> None:
    """A page has no errors, violations and foreign calls, fits its window, and axe finds nothing serious."""
    watched = open_watched(width)
    page = watched.open(address_of(path, sample, seen))
    page.wait_for_selector(".dot.is-live")

    look(watched, "-".join([name_of(path), *([sample] if sample else []), str(width)]))


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_of_a_user(width: int, open_watched: Any, seen: dict[str, Any]) -> None:
    """So do the page to sign in, and pages as someone sees them who may see only what is their own."""
    watched = open_watched(width)
    page = watched.page
    page.goto(f"{seen['closed']}/console")
    page.wait_for_selector("h1")
    look(watched, f"signin-{width}")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password", exact=True).fill(seen["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector(".dot.is-live")
    for path in OTHERWISE:
        page.goto(f"{seen['closed']}/console{path}")
        page.wait_for_selector(".dot.is-live")
        look(watched, f"user-{name_of(path)}-{width}")

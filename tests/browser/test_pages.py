"""Each page of the console, light and dark, on a laptop and a phone: everyone can read it, and it holds its policy."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from addresses import ADDRESSES, address_of, name_of
from axe_playwright_python.sync_playwright import Axe

SIZES, THEMES = (1280, 390), ("light", "dark")
_WIDE = """() => [...document.querySelectorAll("body *")].filter((each) => {
  const box = each.getBoundingClientRect();
  const scrolled = each.closest(".flush, nav, pre, dialog, .hidden");
  const wide = (rectangle) => rectangle.right > innerWidth + 1;
  return box.width && wide(box) && (!scrolled || wide(scrolled.getBoundingClientRect()));
}).map((each) => `${each.tagName}.${each.getAttribute("class")} ${Math.round(each.getBoundingClientRect().right)}`)"""


@pytest.mark.parametrize(("width", "theme"), [*itertools.product(SIZES, THEMES)])
@pytest.mark.parametrize(("path", "sample"), ADDRESSES, ids=name_of)
def test_a_page(path: str, sample: str, width: int, theme: str, open_watched: Any, seen: dict[str, Any]) -> None:
    """A page has no errors, violations and foreign calls, fits its window, and axe finds nothing serious."""
    watched = open_watched(width, theme)
    page = watched.open(address_of(path, sample, seen))
    page.wait_for_selector(".dot.is-live")
    watched.settle()

    found = [each for each in Axe().run(page).response["violations"] if each["impact"] in {"serious", "critical"}]
    serious = [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]
    shot = "-".join([name_of(path), *([sample] if sample else []), str(width), theme])
    page.evaluate("() => scrollTo(0, 0)")
    page.screenshot(path=Path(os.environ["CONSOLE_SHOTS"]) / f"{shot}.png", full_page=True)

    assert [] == watched.problems()
    assert [] == page.evaluate(_WIDE)
    assert [] == serious
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")

"""What is on a page: a picture of it, the texts that one can see, and what no module of the console has made."""

import os
from pathlib import Path

from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as TooLate

_SHOTS = Path(os.environ["CONSOLE_SHOTS"])
# Whether one can see a text, also as JSON: in the page, in a field, in a list to choose from, or by pointing at it.
_MISSING = """(signs) => {
  for (const each of document.querySelectorAll("details")) each.open = true;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), seen = [];
  while (texts.nextNode()) if (texts.currentNode.parentElement.checkVisibility()) seen.push(texts.currentNode.data);
  for (const each of document.querySelectorAll("input, textarea")) seen.push(each.value);
  for (const each of document.querySelectorAll("option")) seen.push(each.text);
  for (const each of document.querySelectorAll("[title]")) seen.push(each.title);
  const all = seen.join("\\n");
  const asJson = (text) => JSON.stringify(text).slice(1, -1);
  return Object.keys(signs).filter((name) => !all.includes(signs[name]) && !all.includes(asJson(signs[name])));
}"""
# Elements, handlers and addresses that only a text could have brought in.
_MARKUP = """() => {
  const own = "head > :is(meta, link, script[type=importmap], script[src^='/console/files/']), body > noscript";
  const foreign = `script, iframe, object, embed, img, video, audio, source, link, style, base, meta, template,
    noscript, math, use, animate, foreignObject, marquee, portal`;
  const leads = ["href", "src", "action", "formaction", "data", "srcdoc", "srcset", "poster", "xlink:href"];
  const away = (each) => leads.some((name) =>
    each.hasAttribute(name) && new URL(each.getAttribute(name), location).origin !== location.origin);
  const handles = (each) => each.getAttributeNames().some((name) => name.startsWith("on"));
  return [...document.querySelectorAll("*")]
    .filter((each) => !each.matches(own) && (each.matches(foreign) || away(each) || handles(each)))
    .map((each) => each.outerHTML.slice(0, 200));
}"""
_LEAVE = """async () => {
  history.pushState(null, "", "/console/nowhere");
  dispatchEvent(new PopStateEvent("popstate"));
  while (document.querySelector("h1")?.textContent !== "Not found") await new Promise(requestAnimationFrame);
}"""


def shoot(page: Page, name: str, *, whole: bool = False) -> None:
    """Keep a picture of what the window shows, or of the whole page."""
    page.screenshot(path=_SHOTS / f"{name}.png", full_page=whole)


def unseen(page: Page, signs: dict[str, str]) -> list[str]:
    """The names of the texts of which no part can be seen, once the page has had the time to show them."""
    try:
        page.wait_for_function(f"(signs) => !({_MISSING})(signs).length", arg=signs, timeout=10_000)
    except TooLate:
        return list(page.evaluate(_MISSING, signs))
    return []


def markup(page: Page) -> list[str]:
    """What a page has of elements and attributes that no module of the console writes."""
    return list(page.evaluate(_MARKUP))


def leave(page: Page) -> None:
    """Go to no page, so that the next one is made and asks again; the scripts stay."""
    page.evaluate(_LEAVE)


def enter(page: Page, address: str) -> None:
    """Go to a page of the console without loading its files again."""
    page.evaluate(
        """(address) => {
          history.pushState(null, "", `/console${address}`);
          dispatchEvent(new PopStateEvent("popstate"));
        }""",
        address,
    )

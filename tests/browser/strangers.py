"""The API as a stranger would have it: each text of each answer and each event is a payload that no other has."""

import itertools
import json
import re
from typing import Any
from urllib.parse import urlsplit

from foreign import SAMPLES, Stranger
from payloads import PAYLOADS
from playwright.sync_api import Page, Route

# The events of a request, by what they have; "" is a text.
_EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("started", {"attempt": 1}),
    ("restart", {"attempt": 2, "text": "", "last_error": {"code": "timeout", "detail": ""}}),
    ("reasoning.delta", {"text": ""}),
    ("refusal.delta", {"text": ""}),
    ("delta", {"text": ""}),
    ("tool_call", {"index": 0, "call_id": "", "name": ""}),
    ("tool_call.delta", {"index": 0, "arguments": ""}),
]
_ENDING = ("completed", {"reply": "", "usage": None})
_AGAIN_MS = 200


class Strangers:
    """Answers the calls of a page. In each round every field has another payload; what is asked is never done."""

    def __init__(self, page: Page, document: dict[str, Any]) -> None:
        self.round = 0
        self.refuses: set[str] = set()
        self._stranger = Stranger(document, self._text)
        self._numbers: dict[str, int] = {}
        self._instances = itertools.count()
        self._real: dict[str, Any] = {}
        named = re.compile(r"\\\{\w+\\\}")
        self._routes = {path: re.compile(named.sub("[^/]+", re.escape(path))) for path in document["paths"]}
        page.route(re.compile(r"/(openai/)?v1/"), self._answer)

    def sign(self, field: str) -> str:
        """What the texts of a field begin with in this round; no other text has it."""
        number = self._numbers.setdefault(field, len(self._numbers))
        return f"{PAYLOADS[(number + self.round) % len(PAYLOADS)]}//{number:03}."

    def _text(self, field: str) -> str:
        return f"{self.sign(field)}{next(self._instances)}"

    def _answer(self, route: Route) -> None:
        url, method = route.request.url, route.request.method.lower()
        path = next(each for each, pattern in self._routes.items() if pattern.fullmatch(urlsplit(url).path))
        if path == "/v1/live":
            frame = self._stranger.one("LiveFrame")
            route.fulfill(content_type="text/event-stream", body=f"retry: {_AGAIN_MS}\n\n{_stream([('frame', frame)])}")
        elif path.endswith("/events"):
            route.fulfill(content_type="text/event-stream", body=_stream(self._events(path)))
        elif method in self.refuses and path != "/v1/session":
            problem = self._stranger.one("Problem", status=409)
            route.fulfill(status=409, content_type="application/problem+json", json=problem)
        else:
            real = self._really(route) if method == "get" else None
            made = self._stranger.answer(path, method, real)
            if path == "/v1/session" and made:
                # Someone who signed in has a name, and is asked for a password.
                made = {**made, "mode": "users", "caller": {**made["caller"], "key_id": None}}
            route.fulfill(status=204) if made is None else route.fulfill(json=made)

    def _really(self, route: Route) -> Any:
        """The gateway's own answer, the same in all rounds; None where it knows nothing of what is asked for."""
        url = route.request.url
        if url not in self._real:
            answer = route.fetch()
            self._real[url] = answer.json() if answer.ok else None
        return self._real[url]

    def _events(self, path: str) -> list[tuple[str, Any]]:
        if "conversation" not in path:
            return [self._event(*each) for each in [*_EVENTS, _ENDING]]
        # Of a turn that the page knows.
        known = [each for url, each in self._real.items() if each and "conversation_id=" in url]
        turn = known[0]["data"][0]["id"] if known else SAMPLES["uuid"]
        return [self._event(name, {"request_id": turn, **data}) for name, data in _EVENTS]

    def _event(self, name: str, data: dict[str, Any]) -> tuple[str, Any]:
        return name, {key: self._in_event(f"{name}:{key}", each) for key, each in data.items()}

    def _in_event(self, field: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._in_event(f"{field}.{key}", each) for key, each in value.items()}
        return self._text(field) if value == "" else value


def _stream(events: list[tuple[str, Any]]) -> str:
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)

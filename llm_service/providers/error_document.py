"""The content of a provider's error document: its names for the error, the parameter at fault, its words, the wait.

Each server has its own format, and proxies nest them, so the document is searched for known fields.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import orjson

_LONGEST_WAIT = 24 * 60 * 60.0
_MAX_CHARACTERS = 1000
_NAMES = ("code", "type", "error_type", "error_code", "status", "reason", "quotaId")
_WORDS = ("message", "error", "detail", "msg", "description", "raw", "text")
_INSIDE = ("error", "message", "detail", "details", "errors", "innererror", "metadata", "raw", "violations")
_DEEPEST, _MAX_IN_A_LIST = 6, 8
# Only text of this form is passed on: a name or a parameter, never part of a prompt.
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
# Names that only say that there is an error; a number says less than a word.
_SAY_NOTHING = re.compile(r"error|none|null|invalid_request_error|badrequesterror|api_error|[0-9]+")


@dataclass(slots=True)
class Said:
    """Everything found. ``status``: an HTTP status among the names; ``wait``: seconds."""

    names: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    status: int | None = None
    wait: float | None = None

    @property
    def code(self) -> str | None:
        """The provider's own name for the error: the first meaningful one."""
        names = [name for name in self.names if _IDENTIFIER.fullmatch(name) and name != str(self.status)]
        return next((name for name in names if not _SAY_NOTHING.fullmatch(name.lower())), next(iter(names), None))

    @property
    def marks(self) -> str:
        """The code and the parameter at fault, as far as they may be passed on."""
        param = next((param for param in self.params if _IDENTIFIER.fullmatch(param)), None)
        return ", ".join(mark for mark in (self.code, param) if mark)


def is_error(document: Mapping[str, object]) -> bool:
    """Whether a document without an answer declares itself an error, under one key or another."""
    return any(document.get(key) for key in ("error", "detail", "message", "error_code"))


def from_body(body: bytes) -> Said:
    """The content of a body: JSON, or plain text. HTML is not read."""
    try:
        return from_document(orjson.loads(body))
    except orjson.JSONDecodeError:
        text = body[: 4 * _MAX_CHARACTERS].decode("utf-8", "replace").strip()
        return from_document("" if text.startswith("<") else text)


def from_document(document: object) -> Said:
    """The content of parsed JSON."""
    said = Said()
    for layer in _layers(document, _DEEPEST):
        texts = [layer] if isinstance(layer, str) else [layer.get(name) for name in _WORDS]
        said.words += [text[:_MAX_CHARACTERS] for text in texts if isinstance(text, str) and not _inside(text)]
        if isinstance(layer, str):
            continue
        for name in _NAMES:
            _note(said, layer.get(name))
        param, place = layer.get("param"), layer.get("loc")
        if isinstance(place, list):  # FastAPI's format.
            param = ".".join(str(step) for step in place[:_MAX_IN_A_LIST] if step != "body")
        if isinstance(param, str) and param.lower() not in ("", "none"):
            said.params.append(param)
        said.wait = _wait(layer) if said.wait is None else said.wait
    return said


def longest_wait(seconds: float) -> float:
    """The seconds, limited to a reasonable wait."""
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _layers(document: object, deepest: int) -> Iterator[dict[str, object] | str]:
    """The document and those nested in it, outermost first."""
    if isinstance(document, dict | str):
        yield document
    inside: list[object] = []
    if isinstance(document, dict):
        inside = [_inside(each) or each for each in map(document.get, _INSIDE)]
        inside = [each for each in inside if isinstance(each, dict | list)]
    elif isinstance(document, list):
        inside = document[:_MAX_IN_A_LIST]
    for each in inside if deepest else ():
        yield from _layers(each, deepest - 1)


def _inside(text: object) -> object:
    """The document that a proxy embedded in a text; None if it is only a text."""
    if not isinstance(text, str) or not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _note(said: Said, name: object) -> None:
    if isinstance(name, bool) or not isinstance(name, int | str) or not name:
        return
    said.names.append(str(name)[:_MAX_CHARACTERS])
    if said.status is None and re.fullmatch("[45][0-9][0-9]", said.names[-1]):
        said.status = int(name)


def _wait(layer: Mapping[str, object]) -> float | None:
    """Seconds, in Gemini's ``"retryDelay": "7s"`` or Hugging Face's ``"estimated_time": 20.0``."""
    delay, time = layer.get("retryDelay"), layer.get("estimated_time")
    try:
        seconds = float(delay.removesuffix("s")) if isinstance(delay, str) else time
    except ValueError:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    return longest_wait(seconds)

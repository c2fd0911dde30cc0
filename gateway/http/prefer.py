"""How a client asks to be answered: the headers ``Prefer`` (RFC 7240) and ``Accept``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_SECONDS = 300

# Each pattern reads its input in one pass: possessive quantifiers do not backtrack.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105  grammar, no password
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
# The text between commas outside quoted strings. An unterminated string extends to the end of the value.
_ELEMENT = re.compile(rf'(?:[^,"]++|{_QUOTED}|".*)++', re.DOTALL)
# A preference: a token, perhaps "=" and a token or quoted string, perhaps parameters after ";", which are ignored.
_PREFERENCE = re.compile(rf"\s*+({_TOKEN})\s*+(?:=\s*+({_TOKEN}|{_QUOTED})?\s*+)?(?:;.*)?", re.DOTALL)


@dataclass(frozen=True)
class Prefer:
    """``wait`` in seconds, at most 300; None if it was not given."""

    respond_async: bool = False
    wait: int | None = None

    @property
    def applied(self) -> str:
        """Value of ``Preference-Applied``."""
        parts = ["respond-async"] if self.respond_async else []
        return ", ".join(parts + ([f"wait={self.wait}"] if self.wait is not None else []))

    def __bool__(self) -> bool:
        """True if the client stated a preference."""
        return self.respond_async or self.wait is not None


def read_prefer(values: Sequence[str]) -> Prefer:
    """The preferences in the values of all ``Prefer`` headers; malformed ones are ignored."""
    found: dict[str, str] = {}
    for value in values:
        for name, text in _preferences(value):
            found.setdefault(name, text)  # The first of the same name counts.
    return Prefer(respond_async="respond-async" in found, wait=_seconds(found.get("wait")))


def wants_stream(accept: Sequence[str]) -> bool:
    """True if the values of ``Accept`` include ``text/event-stream``."""
    ranges = [part.split(";") for value in accept for part in value.split(",")]
    return any(kind.strip().lower() == "text/event-stream" and not _refused(more) for kind, *more in ranges)


def _preferences(value: str) -> list[tuple[str, str]]:
    read = (_PREFERENCE.fullmatch(element) for element in _ELEMENT.findall(value))
    return [(match[1].lower(), (match[2] or "").strip('"')) for match in read if match]


def _seconds(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"[0-9]{1,18}", text):
        return None
    return min(int(text), MAX_SECONDS)


def _refused(parameters: Sequence[str]) -> bool:
    return any(re.fullmatch(r"q=0(\.0*)?", parameter.strip().lower()) for parameter in parameters)

"""Bodies of requests as ``requests.body`` keeps them.

``jsonb`` sorts the members of an object. Models write JSON in the order of its schema, so what has schemas is kept as
text.
"""

from typing import Any

import orjson

_VERBATIM = "verbatim"
_WITH_SCHEMAS = ("tools", "response_format")


def to_store(body: dict[str, Any]) -> dict[str, Any]:
    """The body as it is stored."""
    schemas = {name: body[name] for name in _WITH_SCHEMAS if name in body}
    if not schemas:
        return body
    rest = {name: value for name, value in body.items() if name not in schemas}
    return {**rest, _VERBATIM: orjson.dumps(schemas).decode()}


def from_store(stored: dict[str, Any]) -> dict[str, Any]:
    """The body as it was before it was stored."""
    if _VERBATIM not in stored:
        return stored
    rest = {name: value for name, value in stored.items() if name != _VERBATIM}
    return {**rest, **orjson.loads(stored[_VERBATIM])}

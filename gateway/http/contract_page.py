"""The AsyncAPI document → one HTML page without scripts or external resources."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem; border-bottom: 1px solid #8886 } h3 { margin-top: 2rem }
code, pre { font: 0.875em/1.5 ui-monospace, monospace } pre { background: #8881; padding: 0.75rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% } .wide { overflow-x: auto }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.6rem; border-bottom: 1px solid #8884 }
nav ul { columns: 2 } small { opacity: 0.75 }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LIMITS = {
    "minimum": "at least {}", "exclusiveMinimum": "more than {}", "maximum": "at most {}",
    "minLength": "{} characters or more", "maxLength": "{} characters or less",
    "minItems": "{} items or more", "maxItems": "{} items or less", "maxProperties": "{} entries or less",
    "pattern": "matches {}", "default": "default {}",
}  # fmt: skip


def render(document: Json) -> str:
    """The page. ``document``: a complete AsyncAPI 3 document, with references only into itself."""
    title = escape(document["info"]["title"])
    body = "\n".join(_Page(document).parts())
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


class _Page:
    def __init__(self, document: Json) -> None:
        self._document = document
        self._messages: Json = document["components"]["messages"]

    def parts(self) -> Iterator[str]:
        info, channels = self._document["info"], self._document["channels"].values()
        yield f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        yield from (f"<p>{_prose(text)}</p>" for text in info["description"].split("\n\n"))
        yield '<p>For tools, as AsyncAPI 3: <a href="/asyncapi.json">/asyncapi.json</a>. '
        yield 'The HTTP API: <a href="/docs">/docs</a>.</p>'
        yield "<nav><ul>" + "".join(self._contents(channels)) + "</ul></nav>"
        yield from self._servers()
        for channel in channels:
            yield from self._channel(channel)
        yield '<h2 id="schemas">Schemas</h2>'
        for name, schema in self._document["components"]["schemas"].items():
            yield from self._schema(name, schema)

    def _contents(self, channels: Iterable[Json]) -> Iterator[str]:
        for channel in channels:
            names = "".join(f"<li>{_link(name)}</li>" for name in channel["messages"])
            yield f"<li>{_link(channel['address'])}<ul>{names}</ul></li>"
        yield '<li><a href="#servers">Servers</a></li><li><a href="#schemas">Schemas</a></li>'

    def _servers(self) -> Iterator[str]:
        yield '<h2 id="servers">Servers</h2>'
        rows = [
            [name, _code(server["host"]), server["protocol"], _prose(server["description"]), self._security(server)]
            for name, server in self._document["servers"].items()
        ]
        yield _table(["", "host", "protocol", "what", "one of"], rows)

    def _security(self, server: Json) -> str:
        schemes = [self._at(each["$ref"]) for each in server.get("security", [])]
        return ", ".join(escape(scheme["description"]) for scheme in schemes) or "none"

    def _channel(self, channel: Json) -> Iterator[str]:
        address, kafka = channel["address"], channel["bindings"]["kafka"]
        yield f'<h2 id="{escape(address)}">{_code(address)}</h2><p>{_prose(channel["description"])}</p>'
        config = {"partitions": kafka["partitions"], **kafka["topicConfiguration"]}
        yield _table(["setting", "value"], [[_code(name), _code(_value(value))] for name, value in config.items()])
        for name in channel["messages"]:
            yield from self._message(name, self._messages[name])

    def _message(self, name: str, message: Json) -> Iterator[str]:
        yield f'<h3 id="{escape(name)}">{_code(name)}</h3>'
        yield from (f"<p>{_prose(text)}</p>" for text in message["summary"].split("\n\n"))
        payload = message["payload"]
        what = _type(payload) if "$ref" in payload else _prose(payload["description"])
        yield f"<p>Value: {what} ({_code(message['contentType'])}). "
        yield f"Key: {_prose(message['bindings']['kafka']['key']['description'])}</p><h4>Headers</h4>"
        yield _fields(message["headers"])
        for example in message["examples"]:
            yield f"<h4>Example</h4><p>{_prose(example.get('summary', ''))}</p><pre>{_record(example)}</pre>"

    def _schema(self, name: str, schema: Json) -> Iterator[str]:
        yield f'<h3 id="{escape(name)}">{_code(name)}</h3>'
        yield from (f"<p>{_prose(text)}</p>" for text in schema.get("description", "").split("\n\n") if text)
        yield _fields(schema) if "properties" in schema else f"<p>{_type(schema)}</p>"

    def _at(self, reference: str) -> Json:
        found = self._document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        return found


def _fields(schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        [_code(name), _type(each), "yes" if name in required else "", _prose(each.get("description", ""))]
        for name, each in schema["properties"].items()
    ]
    return _table(["name", "type", "required", "what"], rows)


def _type(schema: Json) -> str:
    """The type and limits of a value, in words."""
    if "$ref" in schema:
        return _link(schema["$ref"].rsplit("/", 1)[1])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(_type(each) for each in schema[union]) + _limits(schema)
    if "const" in schema:
        return _code(json.dumps(schema["const"], ensure_ascii=False))
    if "enum" in schema:
        return ", ".join(_code(json.dumps(each, ensure_ascii=False)) for each in schema["enum"]) + _limits(schema)
    kind = schema.get("format") or schema.get("type", "anything")
    inner = schema.get("items") or schema.get("additionalProperties")
    of = f" of {_type(inner)}" if isinstance(inner, dict) else ""
    return escape(kind) + of + _limits(schema)


def _limits(schema: Json) -> str:
    told = [words.format(_value(schema[name])) for name, words in _LIMITS.items() if schema.get(name) is not None]
    return f" <small>({escape(', '.join(told))})</small>" if told else ""


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _record(example: Json) -> str:
    headers = "".join(f"{name}: {value}\n" for name, value in example.get("headers", {}).items())
    payload = example["payload"]
    value = payload if isinstance(payload, str) else json.dumps(payload, indent=2, ensure_ascii=False)
    return escape(f"{headers}\n{value}" if headers else value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _prose(text: str) -> str:
    # Descriptions use one or two backticks for code, and no other markup.
    return re.sub(r"(`{1,2})(.+?)\1", r"<code>\2</code>", escape(text))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _link(name: str) -> str:
    return f'<a href="#{escape(name)}">{_code(name)}</a>'

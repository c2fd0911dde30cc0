"""The pages of the HTTP API, from the OpenAPI document of the gateway."""

import re
from collections.abc import Iterator
from typing import Any

from tables import table

from gateway.app import create_app
from gateway.settings import GatewaySettings

BODIES = "http-bodies.md"
_REF = "#/components/schemas/"
_INTRO = """# HTTP API

Every route of the gateway. Each gateway shows them at `/docs`, where they can be tried, and for generators at
`/openapi.json`. The fields of bodies and answers are [on a page of their own](http-bodies.md). Errors are problem
documents with a [code](errors.md); below OpenAI's paths they have the form of OpenAI's API.

*Scope* is what the caller's [key or role](../security.md#scopes) must include; `admin` includes all scopes. An open
gateway requires no credentials.
"""
_BODIES_INTRO = """# Bodies of the HTTP API

What the [routes](http.md) read and return. Required fields are in bold.
"""


def document() -> dict[str, Any]:
    """The gateway's OpenAPI document."""
    return create_app(GatewaySettings.model_validate({"orchestra_secret": "-" * 32})).openapi()


def http() -> str:
    """The routes, by what they are about."""
    read = document()
    return "\n".join([_INTRO, *(_part(read, tag) for tag in read["tags"])])


def bodies() -> str:
    """The fields of each body and each answer."""
    schemas = document()["components"]["schemas"]
    return "\n".join([_BODIES_INTRO, *(_schema(name, schemas[name]) for name in sorted(schemas))])


def _part(read: dict[str, Any], tag: dict[str, str]) -> str:
    routes = [
        (f"{method.upper()} {path}", operation)
        for path, methods in read["paths"].items()
        for method, operation in methods.items()
        if tag["name"] in operation["tags"]
    ]
    rows = [[f"[`{route}`](#{_anchor(route)})", operation["summary"]] for route, operation in routes]
    title = tag["name"][0].upper() + tag["name"][1:]
    return "\n".join([f"## {title}\n\n{tag['description']}\n", table(["route", "what"], rows), *_routes(routes)])


def _routes(routes: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    for route, operation in routes:
        text = operation.get("description", "").replace("\n\n", "\n").strip()
        scopes = " or ".join(f"`{scope}`" for scope in operation.get("x-scopes", ())) or "none"
        yield f"### `{route}`\n\n{operation['summary']}.{' ' if text else ''}{text}\n\nScope: {scopes}.\n"
        if given := [*operation.get("parameters", ())]:
            rows = [[f"`{each['name']}`", each["in"], _kind(each["schema"]), _about(each)] for each in given]
            yield table(["parameter", "in", "kind", "what"], rows)
        if body := operation.get("requestBody"):
            yield from (_body(kind, content["schema"]) for kind, content in body["content"].items())
        yield table(["status", "answer"], map(_answer, sorted(operation["responses"].items())))


def _body(kind: str, schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"Body: {_kind(schema)}, as `{kind}`.\n"
    return f"Body, as `{kind}`:\n\n{_fields(schema)}"


def _answer(answer: tuple[str, dict[str, Any]]) -> list[str]:
    status, told = answer
    schemas = [content["schema"] for content in told.get("content", {}).values() if "$ref" in content.get("schema", {})]
    kinds = ", ".join(_kind(each) for each in schemas if not each["$ref"].endswith(("/Problem", "/ErrorBody")))
    return [status, f"{told['description']}{': ' if kinds else ''}{kinds}"]


def _schema(name: str, schema: dict[str, Any]) -> str:
    about = " ".join(schema.get("description", "").split())
    if "enum" in schema:
        return f"## {name}\n\n{about}\n\nOne of {_kind(schema)}.\n"
    return f"## {name}\n\n{about}\n\n{_fields(schema)}" if schema.get("properties") else f"## {name}\n\n{about}\n"


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        [f"**`{name}`**" if name in required else f"`{name}`", _kind(field), _about(field)]
        for name, field in schema["properties"].items()
    ]
    return table(["field", "kind", "what"], rows)


def _about(field: dict[str, Any]) -> str:
    """The description of a field or parameter, and its default where that says something."""
    default = field.get("schema", field).get("default")
    shown = f" Default: `{str(default).lower() if isinstance(default, bool) else default}`." if default else ""
    return f"{' '.join(field.get('description', '').split())}{shown}"


def _kind(schema: dict[str, Any]) -> str:
    """What a value is, in words."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return f"[{name}]({BODIES}#{name.lower()})"
    if kinds := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(map(_kind, kinds)))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema.get('items', {}))}"
        case "string":
            return {"date-time": "time", "uuid": "UUID", "binary": "bytes"}.get(schema.get("format", ""), "text")
        case "object":
            more = schema.get("additionalProperties")
            return f"object of {_kind(more)}" if isinstance(more, dict) and more else "object"
        case None:
            return "any"
        case kind:
            return kind


def _anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub, GitLab and the site make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

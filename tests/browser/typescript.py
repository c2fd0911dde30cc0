"""The types of the console's JavaScript: JSDoc, the API's document and the packages' own, by TypeScript's compiler."""

import json
from typing import Any

from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.browser.environment import CACHE, tools
from tests.support.environments import MissingError, run
from tests.support.tree import ROOT

_CONSOLE = ROOT / "gateway/console"
_OPTIONS = {
    "target": "es2023",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2023", "dom", "dom.iterable"],
    "allowJs": True,
    "checkJs": True,
    "noEmit": True,
    "strict": True,
    "noUncheckedIndexedAccess": True,
    "noImplicitOverride": True,
    "noUnusedLocals": True,
    "exactOptionalPropertyTypes": False,
    "skipLibCheck": True,
    "types": [],
}
_KINDS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def check() -> None:
    """Raises ``MissingError`` with the compiler's report if the types are wrong."""
    node, folder = tools()
    (CACHE / "api.d.ts").write_text(declarations(), "utf-8")
    packages = folder / "node_modules"
    paths = {name: [str(packages / name)] for name in ("preact", "preact/hooks", "htm", "uplot", "@preact/signals")}
    config = {
        "compilerOptions": {**_OPTIONS, "paths": paths, "typeRoots": []},
        "include": [f"{_CONSOLE}/**/*.js", str(CACHE / "api.d.ts")],
        "exclude": [f"{_CONSOLE}/vendor"],
    }
    (CACHE / "tsconfig.json").write_text(json.dumps(config), "utf-8")
    print("checking the types of the console", flush=True)
    run([node, packages / "typescript/bin/tsc", "--project", CACHE / "tsconfig.json"])


def declarations() -> str:
    """The schemas of the API's document as TypeScript, in the namespace ``Api``."""
    document = create_app(GatewaySettings.model_validate({"orchestra_secret": "s" * 32})).openapi()
    found = [f"  type {name} = {_type(schema)};" for name, schema in document["components"]["schemas"].items()]
    return "declare namespace Api {\n" + "\n".join(found) + "\n}\n"


def _type(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "unknown"
    if reference := schema.get("$ref"):
        return str(reference.rsplit("/", 1)[1])
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(each) for each in schema.get("enum", [schema.get("const")]))
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(_type(each) for each in several))
    if schema.get("type") == "array":
        return f"Array<{_type(schema.get('items'))}>"
    if schema.get("type") == "object" or "properties" in schema:
        return _object(schema)
    return _KINDS.get(str(schema.get("type")), "unknown")


def _object(schema: dict[str, Any]) -> str:
    required, more = set(schema.get("required", ())), schema.get("additionalProperties")
    # Fields of answers are there, but for those that the schema lets be absent.
    fields = [
        f"{json.dumps(name)}{'' if name in required else '?'}: {_type(each)}"
        for name, each in schema.get("properties", {}).items()
    ]
    if isinstance(more, dict):
        fields.append(f"[name: string]: {_type(more)}")
    return "{ " + "; ".join(fields) + " }"


if __name__ == "__main__":
    try:
        check()
    except MissingError as error:
        raise SystemExit(str(error)) from None

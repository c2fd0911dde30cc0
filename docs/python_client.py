"""The page of the Python client, from its classes and their docstrings."""

import ast
import inspect
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from tables import table

from orchestra.client import errors, events, options
from orchestra.client.clients import AsyncClient, Client
from orchestra.client.files import AsyncChunks
from orchestra.client.live import AsyncLive
from orchestra.client.stream import AsyncConversationStream, AsyncStream

_INTRO = """# Python client

Every class and method of `orchestra.client`. [How to use it](../howto/use-the-python-client.md). `Client`, which
blocks, and `AsyncClient`, whose methods are awaited, have the same methods with the same arguments. Where a method of
`AsyncClient` returns an `AsyncStream` or `AsyncItems`, the one of `Client` returns a `Stream` or an iterator. Results
are models of `schemas.api`; their fields are those of the [bodies of the HTTP API](http-bodies.md).
"""
# A longer list of arguments has a line for each.
_SHORT = 80
_STREAMS = (AsyncStream, AsyncConversationStream, AsyncChunks, AsyncLive)


def python() -> str:
    """Clients, the groups of their methods, what these return and raise."""
    return "\n".join([_INTRO, *_clients(), *_groups(), *_returned(), *_events(), *_options(), *_errors()])


def _clients() -> Iterator[str]:
    yield "## Clients\n"
    for client in (Client, AsyncClient):
        yield f"### {client.__name__}\n\n{_code(client.__name__ + _signature(client, '__init__'))}\n\n{_doc(client)}\n"
    yield from _methods("client", AsyncClient)


def _groups() -> Iterator[str]:
    for name, group in vars(AsyncClient("http://localhost:8080", "")).items():
        if not name.startswith("_"):
            yield f"## `client.{name}`\n\n{_doc(type(group))}\n"
            yield from _methods(f"client.{name}", type(group))


def _returned() -> Iterator[str]:
    yield "## Streams\n"
    for kind in _STREAMS:
        yield f"### {kind.__name__}\n\n{_doc(kind)}\n"
        yield from _methods("stream", kind)


def _events() -> Iterator[str]:
    yield "## Events\n\nOf `orchestra.client.events`, in streams. All have `id` and `request_id`.\n"
    found = (each for each in vars(events).values() if isinstance(each, type) and issubclass(each, BaseModel))
    rows = [
        [
            f"`{each.__name__}`",
            ", ".join(f"`{name}`" for name in each.__annotations__ if name != "model_config"),
            _line(each),
        ]
        for each in found
        if each.__module__ == events.__name__ and each is not events.StreamEvent
    ]
    yield table(["event", "fields", "what"], rows)


def _options() -> Iterator[str]:
    yield "## Options\n\nKeyword arguments, of `orchestra.client.options`.\n"
    for name, kind in vars(options).items():
        if isinstance(kind, type) and issubclass(kind, dict) and kind.__module__ == options.__name__:
            fields = ", ".join(f"`{field}`" for field in kind.__annotations__)
            yield f"### {name}\n\n{_doc(kind)}\n\n{fields}\n"


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.ClientError):
            yield f"### {name}\n\n{_doc(kind)}\n"


def _methods(prefix: str, kind: type) -> Iterator[str]:
    for name, member in vars(kind).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            shown = name if isinstance(member, property) else name + _signature(kind, name)
            yield f"### `{prefix}.{name}`\n\n{_code(f'{prefix}.{shown}')}\n\n{_doc(member)}\n"


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _doc(documented: Any) -> str:
    return inspect.getdoc(documented) or ""


def _line(documented: Any) -> str:
    return " ".join(_doc(documented).split())


def _signature(kind: type, method: str) -> str:
    """Arguments and result of a method, as its source has them."""
    (source,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(source, ast.ClassDef)
    found = next(
        each for each in source.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == method
    )
    result = f" -> {ast.unparse(found.returns)}" if found.returns and method != "__init__" else ""
    arguments = list(_arguments(found.args))
    short = ", ".join(arguments)
    return f"({short if len(short) <= _SHORT else _lines(arguments)}){result}"


def _arguments(given: ast.arguments) -> Iterator[str]:
    """Each argument but ``self``."""
    defaults = [None] * (len(given.args) - len(given.defaults)) + given.defaults
    yield from map(_argument, given.args[1:], defaults[1:])
    if given.vararg or given.kwonlyargs:
        yield f"*{ast.unparse(given.vararg) if given.vararg else ''}"
    yield from map(_argument, given.kwonlyargs, given.kw_defaults)
    if given.kwarg:
        yield f"**{ast.unparse(given.kwarg)}"


def _argument(named: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(named) + (f" = {ast.unparse(default)}" if default else "")


def _lines(arguments: list[str]) -> str:
    return "".join(f"\n    {each}," for each in arguments) + "\n"

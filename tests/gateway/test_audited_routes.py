"""Every route that changes something names its action for the audit, or is listed here with the reason why not."""

from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute, iter_route_contexts

from gateway.app import create_app
from gateway.http.route import Route, Routing
from gateway.settings import GatewaySettings
from schemas.api.audit import Action

_A_MESSAGE = "sends a message, and messages are not audited"
_CONTENT = "adds content of the caller's own, like a message; nothing that is there changes"
EXCEPTIONS = {
    "createMessage": _A_MESSAGE,
    "createMessages": _A_MESSAGE,
    "createTask": _A_MESSAGE,
    "createTaskV0": _A_MESSAGE,
    "createChatCompletion": _A_MESSAGE,
    "createResponse": _A_MESSAGE,
    "createConversation": _CONTENT,
    "createOpenaiConversation": _CONTENT,
    "createItems": _CONTENT,
    "createFile": _CONTENT,
    "checkDeadLetter": "stores nothing and sends nothing",
    "createToken": "a sign-in changes nothing",
    "createSession": "a sign-in changes nothing",
    "deleteSession": "a sign-out changes nothing but the cookie",
}


def table() -> Iterator[Route]:
    """Every row of the route table."""
    rows: list[Route] = []
    router = Routing.router

    def noting(routing: Routing, tag: str, routes: Sequence[Route], *more: Any) -> APIRouter:
        rows.extend(routes)
        return router(routing, tag, routes, *more)

    with patch.object(Routing, "router", noting):
        app = create_app(GatewaySettings.model_validate({"orchestra_secret": "s" * 32}))
    yield from rows
    in_table = {(row.method, row.path) for row in rows}
    for each in iter_route_contexts(app.routes):
        route = each.original_route
        if isinstance(route, APIRoute):
            for method in route.methods - {"GET", "HEAD"}:
                if (method, each.path) not in in_table:
                    yield Route(method, each.path or "", route.endpoint, None, {})  # type: ignore[arg-type]


ROWS = [row for row in table() if row.method != "GET"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_what_changes_something_is_audited(row: Route) -> None:
    """A route that can change something has an action, or a reason to have none; never both."""
    assert (row.action is None) == (row.operation_id in EXCEPTIONS)


def test_the_list_of_exceptions_is_short_and_true() -> None:
    """It names existing routes, and each action belongs to a route."""
    assert EXCEPTIONS.keys() <= {row.operation_id for row in ROWS}
    assert {row.action for row in ROWS if row.action} == {*Action}


def test_reading_is_not_audited() -> None:
    """Routes that read have no action."""
    assert [row.path for row in table() if row.method == "GET" and row.action] == []

"""Routes called so often that FastAPI's layers around a call would cost more than the call itself.

They keep FastAPI's schema and the app's middleware and error handlers. They skip the search for the route, the
resolution of parameters and dependencies, and Starlette's two exception wrappers around each route. A call with a
query is not hot: FastAPI answers it, dependencies included.
"""

import inspect
from collections.abc import Awaitable, Callable
from os import urandom
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Responses contain one caller's data: no cache may keep them, and no browser may guess another content type.
NOT_KEPT = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
CALL_ID = "x-request-id"
_CALL_ID = CALL_ID.encode()
_OWN_RULES = frozenset({b"cache-control", b"etag"})
_JSON = (b"application/json", b"application/problem+json")
# Key of a call's scope that says whether its response has started.
_BEGUN = "orchestra.begun"


class HotRoute(APIRoute):
    """A fixed path whose function takes the request and returns the response. Dependencies may read only the query."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        """Raises ``TypeError`` for a function that takes more than the request, since nothing would pass that in."""
        if len(inspect.signature(endpoint).parameters) != 1:
            raise TypeError(f"{path}: the function of a hot route takes the request and nothing else")
        super().__init__(path, endpoint, **settings)


class HotApp(FastAPI):
    """Calls the hot routes of included routers directly by their paths.

    ``call_ids``: each response without `x-request-id` gets a new one.
    """

    def __init__(self, *, call_ids: bool = False, **settings: Any) -> None:
        self._call_ids = call_ids
        self._hot: dict[tuple[str, str], HotRoute] = {}
        self._way: ASGIApp | None = None
        super().__init__(**settings)

    def include_router(self, router: APIRouter, **settings: Any) -> None:
        """Include a router, and register its hot routes."""
        super().include_router(router, **settings)
        for route in router.routes:
            if isinstance(route, HotRoute):
                self._hot.update({(method, route.path): route for method in route.methods or ()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a hot route; leave all else to FastAPI. JSON is marked as not cacheable unless it says otherwise."""
        route = None
        if scope["type"] == "http":
            send = _outermost(scope, send, call_ids=self._call_ids)
            route = self._hot.get((scope["method"], scope["path"]))
        if route is None or scope["query_string"]:
            await super().__call__(scope, receive, send)
            return
        scope["app"], scope["route"] = self, route
        self._way = self._way or self._around(self._answer)
        await self._way(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Put the app's middleware around every response.

        Starlette answers unforeseen errors outside it, without what middleware adds to a response.
        """
        middleware, self.user_middleware = self.user_middleware, []
        bare = super().build_middleware_stack()
        self.user_middleware = middleware
        return self._around(bare)

    def _around(self, app: ASGIApp) -> ASGIApp:
        for middleware in reversed(self.user_middleware):
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        return app

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await scope["route"].endpoint(request)
            await response(scope, receive, send)
        except Exception as error:
            if _BEGUN in scope:
                raise
            kind = next(kind for kind in type(error).__mro__ if kind in self.exception_handlers)
            answer = await self.exception_handlers[kind](request, error)  # type: ignore[misc]  # all of ours are async
            await answer(scope, receive, send)
            if kind is Exception:
                raise  # As Starlette does, so that the server sees it.


def new_call_id() -> str:
    """An id of one call, by which a client can refer to its answer."""
    return f"req_{urandom(16).hex()}"


def _outermost(scope: Scope, send: Send, *, call_ids: bool) -> Send:
    """Wrap ``send`` for the whole response: note its start, name the call, and forbid caching of JSON."""

    def sending(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            scope[_BEGUN] = True
            sent = message["headers"]
            headers = dict(sent)
            if call_ids and _CALL_ID not in headers:
                sent = [*sent, (_CALL_ID, new_call_id().encode())]
            if headers.get(b"content-type", b"").startswith(_JSON):
                own = not _OWN_RULES.isdisjoint(headers)
                sent = [*sent, *(NOT_KEPT[1:] if own else NOT_KEPT)]
            message["headers"] = sent
        return send(message)

    return sending

"""The route table: what a route requires of a call is stated once, checked before its handler, and documented."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from gateway.drain import Drain
from gateway.http import openapi
from gateway.http.bodies import check_query, must_be_json, parse, read_body, read_id
from gateway.http.body_room import BodyRoom, Hold
from gateway.http.problems import UNREAD, ErrorForm
from gateway.owner_turns import OwnerTurns
from gateway.people.callers import Callers
from gateway.people.cookies import SAFE
from gateway.people.principal import Principal
from gateway.people.standing import Standing
from orchestra.http.hot_routes import HotRoute
from orchestra.store.audit import Author
from schemas.api.audit import Action
from schemas.api.keys import Scope
from schemas.envelope import trace_id_of
from schemas.errors import ErrorCode, OrchestraError

_EVERY = (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.INVALID_REQUEST, ErrorCode.UNAVAILABLE)
_OF_BODIES = (ErrorCode.NOT_JSON, ErrorCode.TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE)
_OF_UPLOADS = (ErrorCode.TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.TOO_MANY_CALLS)
_OF_THE_LOG = (ErrorCode.OUTCOME_UNKNOWN, ErrorCode.OVERLOADED)

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call that passed the checks of its route. ``body``: the result of ``Body.read``; None for a route without."""

    request: Request
    caller: Principal
    body: T
    callers: Callers
    scope: Scope
    action: Action | None = None

    @property
    def by(self) -> Author:
        """The author of the change that this call is, for the audit. Only for routes with an ``action``."""
        assert self.action
        trace_id = trace_id_of(self.request.headers.get("traceparent"))
        return Author(self.caller.tenant, self.caller.actor, self.action, trace_id)

    def standing(self) -> Standing:
        """Checks, while the call lasts, whether its caller is still authorized."""
        return self.callers.standing(self.request, self.scope, self.caller)


@dataclass(frozen=True)
class Body:
    """The JSON body of a route.

    ``read``: raw bytes → ``Call.body``; None: an instance of ``model``. ``any_type``: accept any ``Content-Type``, for
    clients of the v0 API. Otherwise an empty body is read as ``{}``. ``large``: it may exceed a record, because the
    handler submits it.
    """

    model: type[BaseModel]
    read: Callable[[bytes], Any] | None = None
    any_type: bool = False
    required: bool = True
    large: bool = False


@dataclass(frozen=True)
class Route:
    """One row of the table.

    ``handler`` takes a ``Call``, then path and query parameters by name. Its name and docstring are those of the
    operation: the first line is the summary. A parameter of type UUID that is not one is a 404. ``also``: problems
    that the handler itself raises. ``writes``: to ``llm.requests``, so it is refused while the gateway drains.
    ``upload``: the handler reads the body itself, whatever its length. ``lists``: runs a few at a time per owner.
    ``creates_access``: a key or a password, which outlives a session; so one must have begun a short while ago.
    ``hot``: called without FastAPI's layers. ``suffix``: of the operation's id, where two routes share a handler.
    ``documented``: false for a second path of a route that is documented already. ``or_scope``: a caller that has this
    scope instead may call it, too.
    ``action``: what it changes, for the audit. Without one the handler changes nothing, or only adds to what is there.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[Response]]
    scope: Scope
    answers: openapi.Responses
    body: Body | None = None
    also: Sequence[ErrorCode] = ()
    headers: Sequence[dict[str, Any]] = ()
    writes: bool = False
    upload: bool = False
    lists: bool = False
    creates_access: bool = False
    hot: bool = False
    suffix: str = ""
    or_scope: Scope | None = None
    documented: bool = True
    action: Action | None = None

    def at(self, path: str) -> "Route":
        """The same route at a second path, which the document does not repeat."""
        return replace(self, path=path, documented=False)

    @property
    def operation_id(self) -> str:
        """The operation's id, from which generated clients name their methods: `listTasks` for `list_tasks`."""
        verb, *words = self.handler.__name__.split("_")
        return verb + "".join(word.capitalize() for word in words) + self.suffix

    def responses(self, form: ErrorForm | None = None) -> openapi.Responses:
        """Its possible responses, including errors, which have this form on some paths."""
        codes = [*_EVERY, *self.also]
        codes += [ErrorCode.CROSS_ORIGIN] if self.method not in SAFE else ()
        codes += [ErrorCode.SIGN_IN_AGAIN] if self.creates_access else ()
        codes += _OF_BODIES if self.body else _OF_UPLOADS if self.upload else ()
        codes += [ErrorCode.QUOTA_EXCEEDED, ErrorCode.TOO_SLOW] if self.body and self.body.large else ()
        codes += _OF_THE_LOG if self.writes else ()
        codes += [ErrorCode.TOO_MANY_CALLS] if self.lists or self.writes else ()
        codes += [ErrorCode.NOT_FOUND] if "{" in self.path else ()
        in_order = [code for code in ErrorCode if code in codes]
        formed = form.documented(self.path, in_order) if form else None
        return {**(openapi.problems(*in_order) if formed is None else formed), **self.answers}

    @property
    def extra(self) -> dict[str, Any]:
        """What FastAPI cannot derive from the handler."""
        body = openapi.body(self.body.model, required=self.body.required) if self.body else {}
        body = openapi.UPLOAD if self.upload else body
        scopes = [self.scope, self.or_scope] if self.or_scope else [self.scope]
        return {"x-scopes": scopes, **body, **({"parameters": [*self.headers]} if self.headers else {})}


class Routing:
    """Puts routes behind their checks.

    ``lists`` limits the list calls of each owner. ``room``: memory for bodies of more than ``max_body_bytes``; None:
    there are none. ``form``: of errors on some paths.
    """

    def __init__(
        self,
        callers: Callers,
        drain: Drain,
        lists: OwnerTurns,
        max_body_bytes: int,
        room: BodyRoom | None = None,
        form: ErrorForm | None = None,
    ) -> None:
        self._callers = callers
        self._drain = drain
        self._lists = lists
        self._max_body_bytes = max_body_bytes
        self._room = room
        self._form = form

    def router(self, tag: str, routes: Sequence[Route]) -> APIRouter:
        """The routes for the app."""
        router = APIRouter(tags=[tag], dependencies=[Depends(check_query)])
        for route in routes:
            status = min(int(status) for status in route.answers)
            summary, _, description = (inspect.getdoc(route.handler) or "").partition("\n\n")
            router.add_api_route(
                route.path, self._endpoint(route), methods=[route.method], response_model=None,
                status_code=status, responses=route.responses(self._form),
                # For the document: an answer without a model is no JSON.
                response_class=JSONResponse if "model" in route.answers[status] else Response,
                openapi_extra=route.extra, name=route.handler.__name__, operation_id=route.operation_id,
                summary=summary.removesuffix("."), description=description,
                route_class_override=HotRoute if route.hot else None, include_in_schema=route.documented,
            )  # fmt: skip
        return router

    def _endpoint(self, route: Route) -> Callable[..., Awaitable[Response]]:
        _, *given = inspect.signature(route.handler).parameters.values()
        ids = [parameter.name for parameter in given if parameter.annotation is UUID]

        made = partial(Call, callers=self._callers, scope=route.scope, action=route.action)

        async def endpoint(request: Request, **values: Any) -> Response:
            if route.upload:
                request.scope[UNREAD] = True
            caller = await self._callers.identify(request, route.scope, route.or_scope)
            if route.creates_access:
                _check_recent(caller)
            if route.writes or route.upload:
                self._drain.refuse_new()
            for name in ids:
                values[name] = read_id(values[name])
            if route.body and route.body.large and self._room:
                with self._room.hold(caller.owner) as hold:
                    body = await self._read(request, route.body, hold)
                    return await route.handler(made(request, caller, body), **values)
            body = await self._read(request, route.body) if route.body else None
            call = made(request, caller, body)
            if not route.lists:
                return await route.handler(call, **values)
            async with self._lists.turn(caller.owner):
                return await route.handler(call, **values)

        # FastAPI reads path and query parameters from this signature.
        request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        texts = [each.replace(annotation=str) if each.name in ids else each for each in given]
        texts = [each.replace(annotation=openapi.IN_PATH.get(each.name, each.annotation)) for each in texts]
        endpoint.__signature__ = inspect.Signature([request, *texts])  # type: ignore[attr-defined]
        return endpoint

    async def _read(self, request: Request, body: Body, hold: Hold | None = None) -> Any:
        raw = await read_body(request, self._max_body_bytes, hold)
        if not body.any_type:
            if raw:
                must_be_json(request)
            raw = raw or b"{}"
        read = body.read or partial(parse, body.model)
        if hold and len(raw) > self._max_body_bytes:
            assert self._room
            return await self._room.apart(partial(read, raw))
        return read(raw)


def _check_recent(caller: Principal) -> None:
    if caller.web and datetime.now(UTC) >= caller.web.recent_until:
        raise OrchestraError(ErrorCode.SIGN_IN_AGAIN)

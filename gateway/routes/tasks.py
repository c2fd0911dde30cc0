"""Tasks: the old service's calls, and the same with more to them under ``/v1/tasks``."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from gateway.drain import Drain
from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.http.bodies import parse, read_body, read_id, read_idempotency_key, read_json, read_value, validate
from gateway.http.cursors import read_time_cursor, write_cursor
from gateway.http.list_calls import Counts, KeptCounts
from gateway.people.callers import Callers
from gateway.tasks import Desk
from orchestra.store import tasks
from orchestra.store.database import Database
from schemas.api.conversations import Page
from schemas.api.keys import Scope
from schemas.api.tasks import (
    AcceptedTask,
    CancelledTasks,
    CreatedTask,
    CreateTask,
    OwnerName,
    PostTask,
    TaskFilter,
    TaskResource,
)
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import AgentName, Moment
from schemas.status import Status
from schemas.unsupported import ignored_fields

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=512)]
Route = Callable[..., Any]

_LIST = TypeAdapter(list[TaskResource])
_WHO = (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN)
_LOG = (ErrorCode.OUTCOME_UNKNOWN, ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE)
_READ = openapi.problems(*_WHO, ErrorCode.INVALID_REQUEST, ErrorCode.TOO_MANY_CALLS, ErrorCode.UNAVAILABLE)
_FOUND = openapi.problems(*_WHO, ErrorCode.NOT_FOUND, ErrorCode.INVALID_REQUEST, ErrorCode.UNAVAILABLE)
_WRITTEN = openapi.problems(*_WHO, ErrorCode.NOT_FOUND, ErrorCode.INVALID_REQUEST, *_LOG)
_SENT_CODES = (
    *_WHO, ErrorCode.UNKNOWN_MODEL, ErrorCode.UNKNOWN_AGENT, ErrorCode.IDEMPOTENCY_KEY_REUSED,
    ErrorCode.CONVERSATION_FULL, *openapi.QUOTAS, *_LOG,
)  # fmt: skip
_POSTED_CODES = (ErrorCode.NOT_JSON, *openapi.BODY, ErrorCode.INVALID_REQUEST, *_SENT_CODES)
_KEY = openapi.idempotency_key("task")
_TRACE = openapi.header("traceparent", "W3C trace context, passed on.")
_USER = openapi.header("X-User-ID", "Whose task it is. `POST /tasks` needs it where no credentials are asked for.")
_TASK = {"model": TaskResource, "description": "The task"}
_MADE = {"model": TaskResource, "description": "Accepted; `Location` tells where it is found"}


def read_filter(
    status: Status | None = None,
    type: AgentName | None = None,
    user: OwnerName | None = None,
    created_after: Moment | None = None,
    created_before: Moment | None = None,
) -> TaskFilter:
    """Which tasks a list is to show. ``created_after`` is inclusive, ``created_before`` exclusive."""
    return TaskFilter(status=status, type=type, user=user, created_after=created_after, created_before=created_before)


Filter = Annotated[TaskFilter, Depends(read_filter)]


class Tasks:
    """The routes, with what they need."""

    def __init__(self, callers: Callers, database: Database, desk: Desk, drain: Drain, most_bytes: int) -> None:
        self._callers = callers
        self._database = database
        self._desk = desk
        self._counts = KeptCounts()
        self._drain = drain
        self._most_bytes = most_bytes

    def router(self) -> APIRouter:
        """The routes for the app, under both prefixes."""
        router = APIRouter(tags=["tasks"])
        for path, method, call, answers, extra in (*self._old(), *self._new(), *self._same("/tasks"), *self._same()):
            router.add_api_route(
                path, call, methods=[method], status_code=min(map(int, answers)), response_model=None,
                responses=answers, openapi_extra=extra,
            )  # fmt: skip
        return router

    def _old(self) -> list[tuple[str, str, Route, openapi.Responses, dict[str, Any] | None]]:
        made = {"model": AcceptedTask, "description": "Accepted; `Location` tells where it is found"}
        posted = {**openapi.problems(ErrorCode.MISSING_HEADER, *_POSTED_CODES), 201: made}
        listed = {"model": list[TaskResource], "description": "The newest first; `Link` tells where it goes on"}
        extra = {**openapi.body(PostTask), "parameters": [_USER, _KEY, _TRACE]}
        return [
            ("/tasks", "POST", self.post, posted, extra),
            ("/tasks", "GET", self.list_old, {**_READ, 200: listed}, None),
        ]

    def _new(self) -> list[tuple[str, str, Route, openapi.Responses, dict[str, Any] | None]]:
        v1 = "/v1/tasks"
        listed = {"model": Page[TaskResource], "description": "The newest first"}
        retried = {
            **openapi.problems(ErrorCode.NOT_FOUND, ErrorCode.NOT_RETRYABLE, ErrorCode.INVALID_REQUEST, *_SENT_CODES),
            201: _MADE,
        }
        cancelled: openapi.Responses = {
            200: {"model": TaskResource, "description": "It had ended; nothing is changed"},
            202: {"model": TaskResource, "description": "It will be cancelled, unless it ends first"},
        }
        many = openapi.problems(ErrorCode.NOT_JSON, *_WHO, *openapi.BODY, ErrorCode.INVALID_REQUEST, *_LOG)
        asked = {"model": CancelledTasks, "description": "They will be cancelled, unless they end first"}
        return [
            (v1, "POST", self.create, {**openapi.problems(*_POSTED_CODES), 201: {**_MADE, "model": CreatedTask}},
             {**openapi.body(CreateTask), "parameters": [_USER, _KEY, _TRACE]}),
            (v1, "GET", self.list_tasks, {**_READ, 200: listed}, None),
            (f"{v1}/cancel", "POST", self.cancel_all, {**many, 202: asked}, openapi.body(TaskFilter)),
            (f"{v1}/{{task_id}}/retry", "POST", self.retry, retried, {"parameters": [_KEY, _TRACE]}),
            (f"{v1}/{{task_id}}/cancel", "POST", self.cancel, {**_WRITTEN, **cancelled}, None),
        ]  # fmt: skip

    def _same(self, prefix: str = "/v1/tasks") -> list[tuple[str, str, Route, openapi.Responses, None]]:
        counted = {"model": dict[str, int], "description": "How many there are of each"}
        removed = {"description": "Cancelled if it was open, and removed"}
        return [
            (f"{prefix}/stats/status", "GET", self.by_status, {**_READ, 200: counted}, None),
            (f"{prefix}/stats/type", "GET", self.by_type, {**_READ, 200: counted}, None),
            (f"{prefix}/{{task_id}}", "GET", self.get, {**_FOUND, 200: _TASK}, None),
            (f"{prefix}/{{task_id}}", "DELETE", self.delete, {**_WRITTEN, 204: removed}, None),
        ]

    async def post(self, request: Request) -> Response:
        """Accept a task, as the old service did."""
        caller = await self._callers.identify(request, Scope.WRITE)
        self._drain.refuse_new()
        if not caller.user:
            raise OrchestraError(ErrorCode.MISSING_HEADER, "X-User-ID says whose task it is")
        key = read_idempotency_key(request)
        wanted = parse(PostTask, await read_body(request, self._most_bytes))
        sent = await self._desk.create(caller, wanted, key, request.headers.get("traceparent"))
        # A new one was pending when it was accepted, however far it is by now.
        status = sent.task.status if sent.before else Status.PENDING
        return json_answer(AcceptedTask(task_id=sent.task.id, status=status), 201, _location(sent.task, "/tasks"))

    async def create(self, request: Request) -> Response:
        """Accept a task."""
        caller = await self._callers.identify(request, Scope.WRITE)
        self._drain.refuse_new()
        key, value = read_idempotency_key(request), await read_value(request, self._most_bytes)
        wanted = validate(CreateTask, value)
        sent = await self._desk.create(caller, wanted, key, request.headers.get("traceparent"))
        # Its own fields are all known; those of its history's messages may not be.
        warnings = [*sent.warnings, *ignored_fields(value, CreateTask.model_fields, "history")][:10]
        return json_answer(CreatedTask(**dict(sent.task), warnings=warnings), 201, _location(sent.task))

    async def retry(self, request: Request, task_id: str) -> Response:
        """Try again what has failed, expired or been cancelled, as a task of its own."""
        caller = await self._callers.identify(request, Scope.WRITE)
        self._drain.refuse_new()
        key, trace = read_idempotency_key(request), request.headers.get("traceparent")
        sent = await self._desk.retry(caller, read_id(task_id), key, trace)
        return json_answer(sent.task, 201, _location(sent.task))

    async def cancel(self, request: Request, task_id: str) -> Response:
        """Cancel a task, unless it has ended."""
        caller = await self._callers.identify(request, Scope.WRITE)
        self._drain.refuse_new()
        task = await self._desk.cancel(caller, read_id(task_id))
        return json_answer(task, 200 if task.status.terminal else 202)

    async def cancel_all(self, request: Request) -> Response:
        """Cancel every open task that fits, 1,000 a call."""
        caller = await self._callers.identify(request, Scope.WRITE)
        self._drain.refuse_new()
        filter = await read_json(request, TaskFilter, self._most_bytes)
        return json_answer(await self._desk.cancel_all(caller, filter), 202)

    async def delete(self, request: Request, task_id: str) -> Response:
        """Cancel a task if it is open, and remove it."""
        caller = await self._callers.identify(request, Scope.WRITE)
        self._drain.refuse_new()
        await self._desk.remove(caller, read_id(task_id))
        return Response(status_code=204)

    async def get(self, request: Request, task_id: str) -> Response:
        """A task as it stands."""
        caller = await self._callers.identify(request, Scope.READ)
        return json_answer(await self._desk.find(caller, read_id(task_id)))

    async def list_old(self, request: Request, filter: Filter, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """The caller's tasks, the newest first, as a bare array."""
        found, following = await self._page(request, filter, limit, cursor)
        headers = {}
        if following:
            url = request.url.include_query_params(cursor=following)
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return Response(_LIST.dump_json(found), headers=headers, media_type="application/json")

    async def list_tasks(self, request: Request, filter: Filter, limit: Limit = 20, cursor: Cursor = None) -> Response:
        """The caller's tasks, the newest first."""
        found, following = await self._page(request, filter, limit, cursor)
        return json_answer(Page[TaskResource](data=found, next=following))

    async def by_status(self, request: Request) -> Response:
        """How many of the caller's tasks there are in each state."""
        return JSONResponse(await self._counted(request, tasks.count_by_status))

    async def by_type(self, request: Request) -> Response:
        """How many of the caller's tasks there are of each type."""
        return JSONResponse(await self._counted(request, tasks.count_by_type))

    async def _counted(
        self, request: Request, count: Callable[[Database, str, str | None], Awaitable[Counts]]
    ) -> Counts:
        async with self._callers.listing(request) as caller:
            counting = partial(count, self._database, caller.tenant, caller.only)
            return await self._counts.get((count, caller.tenant, caller.only), counting)

    async def _page(
        self, request: Request, filter: TaskFilter, limit: int, cursor: str | None
    ) -> tuple[list[TaskResource], str | None]:
        async with self._callers.listing(request) as caller:
            before = read_time_cursor(cursor)
            found, more = await tasks.page(self._database, caller.tenant, caller.only, filter, before, limit)
        last = found[-1] if more else None
        return found, write_cursor(last.created_at, last.id) if last and last.created_at else None


def _location(task: TaskResource, prefix: str = "/v1/tasks") -> dict[str, str]:
    return {"Location": f"{prefix}/{task.id}"}

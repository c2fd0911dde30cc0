"""Tasks: the old service's calls, and the same with more to them under ``/v1/tasks``."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.http.bodies import read_idempotency_key, validate
from gateway.http.cursors import next_after, read_time_cursor
from gateway.http.kept_counts import Counts, KeptCounts
from gateway.http.route import Body, Call, Route
from gateway.people.principal import Principal
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
from schemas.envelope import parse_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import AgentName, Moment
from schemas.status import Status
from schemas.unsupported import ignored_fields

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=512)]

_LIST = TypeAdapter(list[TaskResource])
_SENT = (
    ErrorCode.UNKNOWN_MODEL, ErrorCode.UNKNOWN_AGENT, ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.CONVERSATION_FULL,
    *openapi.QUOTAS,
)  # fmt: skip
_KEY = openapi.idempotency_key("task")
_TRACE = openapi.header("traceparent", "W3C trace context, passed on.")
_USER = openapi.header("X-User-ID", "Whose task it is. `POST /tasks` needs it where no credentials are asked for.")
_MADE = {"description": "Accepted; `Location` tells where it is found"}


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

    def __init__(self, database: Database, desk: Desk) -> None:
        self._database = database
        self._desk = desk
        self._counts = KeptCounts()

    def routes(self) -> Sequence[Route]:
        """The rows of the route table, under both prefixes."""
        return [*self._old(), *self._new(), *self._same("/tasks"), *self._same("/v1/tasks")]

    def _old(self) -> Sequence[Route]:
        made = {**_MADE, "model": AcceptedTask}
        listed = {"model": list[TaskResource], "description": "The newest first; `Link` tells where it goes on"}
        body, also = Body(PostTask, any_type=True), (ErrorCode.MISSING_HEADER, *_SENT)
        return [
            Route(
                "POST", "/tasks", self.post, Scope.WRITE, {201: made}, body=body, also=also,
                headers=[_USER, _KEY, _TRACE], writes=True,
            ),
            Route("GET", "/tasks", self.list_old, Scope.READ, {200: listed}, lists=True),
        ]  # fmt: skip

    def _new(self) -> Sequence[Route]:
        path, one = "/v1/tasks", "/v1/tasks/{task_id}"
        made, retried = {**_MADE, "model": CreatedTask}, {**_MADE, "model": TaskResource}
        listed = {"model": Page[TaskResource], "description": "The newest first"}
        asked = {"model": CancelledTasks, "description": "They will be cancelled, unless they end first"}
        cancelled: openapi.Responses = {
            200: {"model": TaskResource, "description": "It had ended; nothing is changed"},
            202: {"model": TaskResource, "description": "It will be cancelled, unless it ends first"},
        }
        return [
            Route(
                "POST", path, self.create, Scope.WRITE, {201: made}, body=Body(CreateTask, read_task), also=_SENT,
                headers=[_USER, _KEY, _TRACE], writes=True,
            ),
            Route("GET", path, self.list_tasks, Scope.READ, {200: listed}, lists=True),
            Route(
                "POST", f"{path}/cancel", self.cancel_all, Scope.WRITE, {202: asked}, body=Body(TaskFilter), writes=True
            ),
            Route(
                "POST", f"{one}/retry", self.retry, Scope.WRITE, {201: retried},
                also=(ErrorCode.NOT_RETRYABLE, *_SENT), headers=[_KEY, _TRACE], writes=True,
            ),
            Route("POST", f"{one}/cancel", self.cancel, Scope.WRITE, cancelled, writes=True),
        ]  # fmt: skip

    def _same(self, path: str) -> Sequence[Route]:
        one = f"{path}/{{task_id}}"
        task = {"model": TaskResource, "description": "The task"}
        counted = {"model": dict[str, int], "description": "How many there are of each"}
        removed = {"description": "Cancelled if it was open, and removed"}
        return [
            Route("GET", f"{path}/stats/status", self.by_status, Scope.READ, {200: counted}, lists=True),
            Route("GET", f"{path}/stats/type", self.by_type, Scope.READ, {200: counted}, lists=True),
            Route("GET", one, self.get, Scope.READ, {200: task}),
            Route("DELETE", one, self.delete, Scope.WRITE, {204: removed}, writes=True),
        ]

    async def post(self, call: Call[PostTask]) -> Response:
        """Accept a task, as the old service did."""
        if not call.caller.user:
            raise OrchestraError(ErrorCode.MISSING_HEADER, "X-User-ID says whose task it is")
        key, trace = read_idempotency_key(call.request), call.request.headers.get("traceparent")
        sent = await self._desk.create(call.caller, call.body, key, trace)
        # A new one was pending when it was accepted, however far it is by now.
        status = sent.task.status if sent.before else Status.PENDING
        return json_answer(AcceptedTask(task_id=sent.task.id, status=status), 201, _location(sent.task, "/tasks"))

    async def create(self, call: Call[tuple[CreateTask, Sequence[str]]]) -> Response:
        """Accept a task."""
        wanted, ignored = call.body
        key, trace = read_idempotency_key(call.request), call.request.headers.get("traceparent")
        sent = await self._desk.create(call.caller, wanted, key, trace)
        warnings = [*sent.warnings, *ignored][:10]
        return json_answer(CreatedTask(**dict(sent.task), warnings=warnings), 201, _location(sent.task))

    async def retry(self, call: Call[None], task_id: UUID) -> Response:
        """Try again what has failed, expired or been cancelled, as a task of its own."""
        key, trace = read_idempotency_key(call.request), call.request.headers.get("traceparent")
        sent = await self._desk.retry(call.caller, task_id, key, trace)
        return json_answer(sent.task, 201, _location(sent.task))

    async def cancel(self, call: Call[None], task_id: UUID) -> Response:
        """Cancel a task, unless it has ended."""
        task = await self._desk.cancel(call.caller, task_id)
        return json_answer(task, 200 if task.status.terminal else 202)

    async def cancel_all(self, call: Call[TaskFilter]) -> Response:
        """Cancel every open task that fits, 1,000 a call."""
        return json_answer(await self._desk.cancel_all(call.caller, call.body), 202)

    async def delete(self, call: Call[None], task_id: UUID) -> Response:
        """Cancel a task if it is open, and remove it."""
        await self._desk.remove(call.caller, task_id)
        return Response(status_code=204)

    async def get(self, call: Call[None], task_id: UUID) -> Response:
        """A task as it stands."""
        return json_answer(await self._desk.find(call.caller, task_id))

    async def list_old(self, call: Call[None], filter: Filter, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """The caller's tasks, the newest first, as a bare array."""
        found, following = await self._page(call.caller, filter, limit, cursor)
        headers = {}
        if following:
            url = call.request.url.include_query_params(cursor=following)
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return Response(_LIST.dump_json(found), headers=headers, media_type="application/json")

    async def list_tasks(self, call: Call[None], filter: Filter, limit: Limit = 20, cursor: Cursor = None) -> Response:
        """The caller's tasks, the newest first."""
        found, following = await self._page(call.caller, filter, limit, cursor)
        return json_answer(Page[TaskResource](data=found, next=following))

    async def by_status(self, call: Call[None]) -> Response:
        """How many of the caller's tasks there are in each state."""
        return JSONResponse(await self._counted(call.caller, tasks.count_by_status))

    async def by_type(self, call: Call[None]) -> Response:
        """How many of the caller's tasks there are of each type."""
        return JSONResponse(await self._counted(call.caller, tasks.count_by_type))

    async def _counted(
        self, caller: Principal, count: Callable[[Database, str, str | None], Awaitable[Counts]]
    ) -> Counts:
        counting = partial(count, self._database, caller.tenant, caller.only)
        return await self._counts.get((count, caller.tenant, caller.only), counting)

    async def _page(
        self, caller: Principal, filter: TaskFilter, limit: int, cursor: str | None
    ) -> tuple[list[TaskResource], str | None]:
        before = read_time_cursor(cursor)
        found, more = await tasks.page(self._database, caller.tenant, caller.only, filter, before, limit)
        return found, next_after(found, more=more)


def read_task(raw: bytes) -> tuple[CreateTask, Sequence[str]]:
    """The body of a POST, and the names of what in its history is ignored; its own fields are all known.

    Raises ``NOT_JSON`` or ``INVALID_REQUEST``.
    """
    value = parse_json(raw)
    return validate(CreateTask, value), ignored_fields(value, CreateTask.model_fields, "history")


def _location(task: TaskResource, prefix: str = "/v1/tasks") -> dict[str, str]:
    return {"Location": f"{prefix}/{task.id}"}

"""Tasks: the calls of the v0 API under ``/tasks``, and of v1 under ``/v1/tasks``."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from gateway.http import openapi
from gateway.http.bodies import read_idempotency_key, validate
from gateway.http.cursors import Cursor, Limit, next_after, read_time_cursor
from gateway.http.kept_counts import Counts, KeptCounts
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.people.principal import Principal
from gateway.tasks import TaskService
from orchestra.store import tasks
from orchestra.store.database import Database
from schemas.api.audit import Action
from schemas.api.keys import Scope
from schemas.api.requests import OwnerName
from schemas.api.tasks import (
    AcceptedTask,
    CancelledTasks,
    CreatedTask,
    CreateTask,
    PostTask,
    TaskFilter,
    TaskPage,
    TaskResource,
)
from schemas.envelope import parse_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import AgentName, Moment
from schemas.status import Status
from schemas.unsupported import ignored_fields

_LIST = TypeAdapter(list[TaskResource])
_SENT = (
    ErrorCode.UNKNOWN_MODEL, ErrorCode.UNKNOWN_AGENT, ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.CONVERSATION_FULL,
    *openapi.QUOTAS,
)  # fmt: skip
_RETRIED = (ErrorCode.NOT_RETRYABLE, ErrorCode.FILE_NOT_FOUND, ErrorCode.QUOTA_EXCEEDED, *_SENT)
_KEY = openapi.idempotency_key("task")
_USER = openapi.header(
    "X-User-ID",
    "The owner of the task. `POST /tasks` requires it if the gateway requires no credentials. If it does, only admins "
    "may name another owner than themselves.",
    "ann",
)
_MADE = {"description": "Accepted; the URL of the task is in `Location`"}
_QUERY = {
    name: Query(description=each.description, examples=each.examples) for name, each in TaskFilter.model_fields.items()
}


def read_filter(
    status: Annotated[Status | None, _QUERY["status"]] = None,
    type: Annotated[AgentName | None, _QUERY["type"]] = None,
    user: Annotated[OwnerName | None, _QUERY["user"]] = None,
    created_after: Annotated[Moment | None, _QUERY["created_after"]] = None,
    created_before: Annotated[Moment | None, _QUERY["created_before"]] = None,
) -> TaskFilter:
    """The tasks that a list shows."""
    return TaskFilter(status=status, type=type, user=user, created_after=created_after, created_before=created_before)


Filter = Annotated[TaskFilter, Depends(read_filter)]


class Tasks:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, service: TaskService) -> None:
        self._database = database
        self._service = service
        self._counts = KeptCounts()

    def routes(self) -> Sequence[Route]:
        """The rows of the route table under ``/v1/tasks``."""
        return [*self._new(), *self._same("/v1/tasks")]

    def routes_of_v0(self) -> Sequence[Route]:
        """The rows of the route table under ``/tasks``."""
        return [*self._old(), *self._same("/tasks", "V0")]

    def _old(self) -> Sequence[Route]:
        made = {**_MADE, "model": AcceptedTask}
        listed = {
            "model": list[TaskResource],
            "description": "One page, newest first; the URL of the next one is in `Link`",
        }
        body, also = Body(PostTask, any_type=True, large=True), (ErrorCode.MISSING_HEADER, *_SENT)
        return [
            Route(
                "POST", "/tasks", self.create_task_v0, Scope.WRITE, {201: made}, body=body, also=also,
                headers=[_USER, _KEY, openapi.TRACEPARENT], writes=True,
            ),
            Route("GET", "/tasks", self.list_tasks_v0, Scope.READ, {200: listed}, lists=True),
        ]  # fmt: skip

    def _new(self) -> Sequence[Route]:
        path, one = "/v1/tasks", "/v1/tasks/{task_id}"
        made, retried = {**_MADE, "model": CreatedTask}, {**_MADE, "model": TaskResource}
        listed = {"model": TaskPage, "description": "One page, newest first"}
        asked = {"model": CancelledTasks, "description": "Each will be cancelled, unless it ends first"}
        cancelled: openapi.Responses = {
            200: {"model": TaskResource, "description": "It had already ended; nothing was changed"},
            202: {"model": TaskResource, "description": "It will be cancelled, unless it ends first"},
        }
        return [
            Route(
                "POST", path, self.create_task, Scope.WRITE, {201: made}, body=Body(CreateTask, read_task, large=True),
                also=_SENT, headers=[_USER, _KEY, openapi.TRACEPARENT], writes=True,
            ),
            Route("GET", path, self.list_tasks, Scope.READ, {200: listed}, lists=True),
            Route(
                "POST", f"{path}/cancel", self.cancel_tasks, Scope.WRITE, {202: asked}, body=Body(TaskFilter),
                writes=True, action=Action.REQUEST_CANCEL,
            ),
            Route(
                "POST", f"{one}/retry", self.retry_task, Scope.WRITE, {201: retried},
                also=_RETRIED, headers=[_KEY, openapi.TRACEPARENT], writes=True, action=Action.REQUEST_RETRY,
            ),
            Route(
                "POST", f"{one}/cancel", self.cancel_task, Scope.WRITE, cancelled, writes=True,
                action=Action.REQUEST_CANCEL,
            ),
        ]  # fmt: skip

    def _same(self, path: str, suffix: str = "") -> Sequence[Route]:
        one = f"{path}/{{task_id}}"
        task = {"model": TaskResource, "description": "The task"}
        by_status = {"model": dict[str, int], "description": "The number of tasks in each state"}
        by_type = {"model": dict[str, int], "description": "The number of tasks of each type"}
        removed = {"description": "Deleted; if it was open, it is being cancelled"}
        return [
            Route(
                "GET", f"{path}/stats/status", self.count_tasks_by_status, Scope.READ, {200: by_status}, lists=True,
                suffix=suffix,
            ),
            Route(
                "GET", f"{path}/stats/type", self.count_tasks_by_type, Scope.READ, {200: by_type}, lists=True,
                suffix=suffix,
            ),
            Route("GET", one, self.get_task, Scope.READ, {200: task}, suffix=suffix),
            Route(
                "DELETE", one, self.delete_task, Scope.WRITE, {204: removed}, writes=True, suffix=suffix,
                action=Action.REQUEST_DELETE,
            ),
        ]  # fmt: skip

    async def create_task_v0(self, call: Call[PostTask]) -> Response:
        """Create a task."""
        if not call.caller.user:
            raise OrchestraError(ErrorCode.MISSING_HEADER, "X-User-ID: must name the owner of the task")
        key, trace = read_idempotency_key(call.request), call.request.headers.get("traceparent")
        sent = await self._service.create(call.caller, call.body, key, trace)
        # A new task was pending when it was accepted, whatever its state is by now.
        status = sent.task.status if sent.before else Status.PENDING
        return json_answer(AcceptedTask(task_id=sent.task.id, status=status), 201, _location(sent.task, "/tasks"))

    async def create_task(self, call: Call[tuple[CreateTask, Sequence[str]]]) -> Response:
        """Create a task."""
        wanted, ignored = call.body
        key, trace = read_idempotency_key(call.request), call.request.headers.get("traceparent")
        sent = await self._service.create(call.caller, wanted, key, trace)
        warnings = [*sent.warnings, *ignored][:10]
        return json_answer(CreatedTask(**dict(sent.task), warnings=warnings), 201, _location(sent.task))

    async def retry_task(self, call: Call[None], task_id: UUID) -> Response:
        """Retry a failed, expired or cancelled task, as a new task."""
        key, trace = read_idempotency_key(call.request), call.request.headers.get("traceparent")
        sent = await self._service.retry(call.caller, task_id, key, trace, call.by)
        return json_answer(sent.task, 201, _location(sent.task))

    async def cancel_task(self, call: Call[None], task_id: UUID) -> Response:
        """Cancel a task, unless it has ended."""
        task = await self._service.cancel(call.caller, task_id, call.by)
        return json_answer(task, 200 if task.status.terminal else 202)

    async def cancel_tasks(self, call: Call[TaskFilter]) -> Response:
        """Cancel all matching open tasks, at most 1,000 per call.

        The filter must have at least one field.
        """
        return json_answer(await self._service.cancel_all(call.caller, call.body, call.by), 202)

    async def delete_task(self, call: Call[None], task_id: UUID) -> Response:
        """Delete a task, and cancel it if it is open."""
        await self._service.remove(call.caller, task_id, call.by)
        return Response(status_code=204)

    async def get_task(self, call: Call[None], task_id: UUID) -> Response:
        """Get a task."""
        return json_answer(await self._service.show(call.caller, task_id))

    async def list_tasks_v0(
        self, call: Call[None], filter: Filter, limit: Limit = 100, cursor: Cursor = None
    ) -> Response:
        """List the caller's tasks, newest first, as a bare array.

        Admins see those of all owners of the tenant.
        """
        found, following = await self._page(call.caller, filter, limit, cursor)
        headers = {}
        if following:
            url = call.request.url.include_query_params(cursor=following)
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return Response(_LIST.dump_json(found), headers=headers, media_type="application/json")

    async def list_tasks(self, call: Call[None], filter: Filter, limit: Limit = 20, cursor: Cursor = None) -> Response:
        """List the caller's tasks, newest first.

        Admins see those of all owners of the tenant.
        """
        found, following = await self._page(call.caller, filter, limit, cursor)
        return json_answer(TaskPage(data=found, next=following))

    async def count_tasks_by_status(self, call: Call[None]) -> Response:
        """Count the caller's tasks in each state.

        Admins count those of all owners of the tenant.
        """
        return JSONResponse(await self._counted(call.caller, tasks.count_by_status))

    async def count_tasks_by_type(self, call: Call[None]) -> Response:
        """Count the caller's tasks of each type.

        Admins count those of all owners of the tenant.
        """
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
    """The body of a POST, and the names of ignored fields in its history. Its own unknown fields are errors.

    Raises ``NOT_JSON`` or ``INVALID_REQUEST``.
    """
    value = parse_json(raw)
    task = validate(CreateTask, value)
    return task, ignored_fields(value, CreateTask.model_fields, task, "history")


def _location(task: TaskResource, prefix: str = "/v1/tasks") -> dict[str, str]:
    return {"Location": f"{prefix}/{task.id}"}

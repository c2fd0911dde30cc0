"""Tasks: create, get, list, wait for, cancel, retry and delete them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Unpack
from uuid import UUID, uuid4

from pydantic import RootModel

from orchestra.client.caller import Call, Caller
from orchestra.client.options import TaskOptions, body_of, check_names
from orchestra.client.pages import AsyncItems, items_by_cursor
from orchestra.client.requests import AsyncRequests, moment, one
from schemas.api.tasks import CancelledTasks, CreatedTask, TaskPage, TaskResource
from schemas.status import Status

_PATH = "/v1/tasks"


class AsyncTasks:
    """The tasks of the caller. Calls raise ``ClientError``, with code ``not_found`` for an id that is unknown."""

    def __init__(self, caller: Caller, requests: AsyncRequests) -> None:
        self._caller = caller
        self._requests = requests

    async def create(
        self,
        task_type: str,
        prompt: str,
        *,
        owner: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> CreatedTask:
        """Create a task, and return once it is accepted.

        ``task_type``: name of the agent that answers it. ``owner``: whose task it is, at a gateway that requires no
        credentials. Without an ``idempotency_key`` it gets a random one, so that a repeated call is not a second task.
        """
        check_names(options, TaskOptions)
        key = idempotency_key or str(uuid4())
        headers = {"Idempotency-Key": key} | ({"X-User-ID": owner} if owner else {})
        body = body_of(task_type=task_type, prompt=prompt, **options)
        call = Call("POST", _PATH, headers=headers, content=body, about={"idempotency_key": key})
        return (await self._caller.call(call)).read(CreatedTask)

    async def get(self, task_id: UUID | str) -> TaskResource:
        """A task as it is now."""
        return (await self._caller.call(Call("GET", one(_PATH, task_id)))).read(TaskResource)

    async def wait(self, task_id: UUID | str, *, timeout: float | None = None) -> TaskResource:
        """Wait until a task has ended, and return it, whether it is completed, failed, cancelled or expired.

        ``timeout``: seconds, rounded up to whole ones; None: no limit. Raises ``StillRunningError`` after it, and
        ``UnreachableError`` if no gateway could be reached for too long; the task goes on all the same.
        """
        await self._requests.wait(task_id, timeout=timeout)
        return await self.get(task_id)

    async def cancel(self, task_id: UUID | str) -> TaskResource:
        """Cancel a task, unless it has ended. It is cancelled when its ``status`` says so, not before."""
        return (await self._caller.call(Call("POST", f"{one(_PATH, task_id)}/cancel"))).read(TaskResource)

    async def cancel_all(
        self,
        *,
        status: Status | str | None = None,
        type: str | None = None,
        user: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> CancelledTasks:
        """Cancel the open tasks that match every given field: at most 1,000, then call it again (``more``)."""
        body = body_of(status=status, type=type, user=user, created_after=created_after, created_before=created_before)
        return (await self._caller.call(Call("POST", f"{_PATH}/cancel", content=body))).read(CancelledTasks)

    async def retry(self, task_id: UUID | str, *, idempotency_key: str | None = None) -> TaskResource:
        """Retry a failed, expired or cancelled task, as a new task, which is returned."""
        key = idempotency_key or str(uuid4())
        call = Call(
            "POST", f"{one(_PATH, task_id)}/retry", headers={"Idempotency-Key": key}, about={"idempotency_key": key}
        )
        return (await self._caller.call(call)).read(TaskResource)

    async def delete(self, task_id: UUID | str) -> None:
        """Delete a task, and cancel it if it is open."""
        await self._caller.call(Call("DELETE", one(_PATH, task_id), is_deletion=True))

    async def count_by_status(self) -> Mapping[str, int]:
        """The number of tasks in each state."""
        return (await self._caller.call(Call("GET", f"{_PATH}/stats/status"))).read(_Counts).root

    async def count_by_type(self) -> Mapping[str, int]:
        """The number of tasks of each type."""
        return (await self._caller.call(Call("GET", f"{_PATH}/stats/type"))).read(_Counts).root

    def list(
        self,
        *,
        status: Status | str | None = None,
        type: str | None = None,
        user: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 100,
    ) -> AsyncItems[TaskResource]:
        """Iterate over the tasks that match every given field, newest first. ``page_size``: 1 to 100."""
        params = {
            "status": status,
            "type": type,
            "user": user,
            "created_after": moment(created_after),
            "created_before": moment(created_before),
            "limit": page_size,
        }
        return items_by_cursor(self._caller, _PATH, TaskPage, params)


class _Counts(RootModel[dict[str, int]]):
    pass

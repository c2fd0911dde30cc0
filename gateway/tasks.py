"""Operations on tasks (requests with a task_type): create, find, retry, cancel, remove."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from gateway.accept import Acceptance
from gateway.deletion import Deletion
from gateway.following.events import Hub
from gateway.following.lookup import Lookup
from gateway.large_bodies import LargeBodies, whole_body
from gateway.people.principal import Principal
from gateway.retries import RETRYABLE, Original, Retries
from gateway.submission import Submission, trace
from gateway.submit import Submissions, attach_request_id, message_of
from gateway.timings import TIMINGS, Timings
from orchestra.store import tasks
from orchestra.store.audit import Author
from orchestra.store.database import Database, DatabaseUnavailableError
from schemas.api.tasks import CancelledTasks, PostTask, TaskFilter, TaskResource, prompt_and_history
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import conversation_id_for_request
from schemas.requests import Context, Message, MessageRequested
from schemas.status import Status

ROUTE = "/v1/tasks"
MAX_CANCELS = 1000
_CANCELS_AT_ONCE = 100
# How long a POST waits for its row, so that a list that follows shows the task unless workers are slower than this.
_ROW_SECONDS = 1.0


@dataclass(frozen=True)
class Sent:
    """An accepted task. ``before``: an earlier call accepted it. ``warnings``: fields whose values were changed."""

    task: TaskResource
    before: bool
    warnings: Sequence[str] = ()


class TaskService:
    """Task operations for a caller; tasks they may not see count as missing.

    Most methods can also raise ``DatabaseUnavailableError``.
    """

    def __init__(
        self,
        database: Database,
        submissions: Submissions,
        acceptance: Acceptance,
        deletion: Deletion,
        lookup: Lookup,
        hub: Hub,
        context: Context,
        priority_limit: int,
        timings: Timings = TIMINGS,
        large: LargeBodies | None = None,
    ) -> None:
        self._retries = Retries(database, submissions, priority_limit, large)
        self._timings = timings
        self._database = database
        self._submissions = submissions
        self._acceptance = acceptance
        self._deletion = deletion
        self._lookup = lookup
        self._hub = hub
        self._large = large
        self._context = context
        self._priority_limit = priority_limit

    async def create(self, caller: Principal, task: PostTask, key: str | None, traceparent: str | None) -> Sent:
        """Accept a task. Raises ``INVALID_REQUEST`` and what ``Submissions.send`` raises."""
        allowed = caller.allowed_priority(task.priority, self._priority_limit)
        fields = {**task.model_dump(exclude_none=True), "priority": allowed}
        body = message_of({**fields, "context": None if self._context == "auto" else self._context})
        id = self._submissions.id(caller, ROUTE, key)
        submission = Submission(caller, id, body, body.body_hash(), trace(traceparent), caller_waits=False)
        sent = await self._send(submission, again=key is not None)
        return replace(sent, warnings=() if allowed == task.priority else ("priority",))

    async def retry(
        self, caller: Principal, id: UUID, key: str | None, traceparent: str | None, by: Author | None = None
    ) -> Sent:
        """Accept a new task with the body of one that has ended without a reply, for the owner of the old one.

        Raises ``NOT_FOUND``, ``NOT_RETRYABLE`` and what ``Retries.submission`` and ``Submissions.send`` raise.
        """
        task = await self.find(caller, id)
        if task.status not in RETRYABLE:
            raise OrchestraError(ErrorCode.NOT_RETRYABLE)
        stored = await tasks.body(self._database, caller.request(id), caller.only)
        if stored is None:
            raise OrchestraError(ErrorCode.NOT_RETRYABLE, "its record was refused, not stored; send the task again")
        original = Original(id, task.conversation_id or conversation_id_for_request(id), task.user_id, is_task=True)
        submission = await self._retries.submission(caller, original, stored, key, traceparent, by)
        return await self._send(submission, again=True)

    async def find(self, caller: Principal, id: UUID) -> TaskResource:
        """The task; without a row (not yet, or a dead letter) it is little more than its status.

        Raises ``NOT_FOUND``.
        """
        ref = caller.request(id)
        if task := await tasks.get(self._database, ref, caller.only):
            return task
        resource = await self._lookup.resource(caller, id)
        if resource.created_at is None:
            result = resource.error.detail if resource.error else None
            return TaskResource(
                id=id, task_id=id, status=resource.status, result=result, cancel_requested=resource.cancel_requested
            )
        # There is a row: either intake has just written it, or it belongs to a message.
        if task := await tasks.get(self._database, ref, caller.only):
            return task
        raise OrchestraError(ErrorCode.NOT_FOUND)

    async def show(self, caller: Principal, id: UUID) -> TaskResource:
        """The task, also with the prompt and history of a large body unless files are away. Raises ``NOT_FOUND``."""
        task = await self.find(caller, id)
        if task.prompt is not None:
            return task
        stored = await tasks.body(self._database, caller.request(id), caller.only)
        if stored is None:
            return task
        try:
            body = await whole_body(self._large, (caller.tenant, task.user_id or ""), stored, media=False)
        except OrchestraError:
            return task
        prompt, history = prompt_and_history([Message.model_construct(**each) for each in body["messages"]])
        return task.model_copy(update={"prompt": prompt, "history": history})

    async def cancel(self, caller: Principal, id: UUID, by: Author) -> TaskResource:
        """Accept a cancel unless the task has ended, and return the task.

        Raises ``NOT_FOUND`` and what ``Acceptance.cancel`` raises.
        """
        task = await self.find(caller, id)
        if task.status.terminal:
            return task
        await self._acceptance.cancel(caller, id, task.conversation_id, by.cancel(id, task.status))
        return task.model_copy(update={"cancel_requested": True})

    async def cancel_all(self, caller: Principal, filter: TaskFilter, by: Author) -> CancelledTasks:
        """Accept a cancel for each matching open task, at most 1,000.

        Raises ``INVALID_REQUEST`` for a filter that names nothing, and what ``Acceptance.cancel`` raises.
        """
        if filter.empty:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "name at least one field to select tasks by")
        found = await tasks.open_tasks(self._database, caller.tenant, caller.only, filter, MAX_CANCELS + 1)
        chosen = found[:MAX_CANCELS]
        for start in range(0, len(chosen), _CANCELS_AT_ONCE):
            chunk = chosen[start : start + _CANCELS_AT_ONCE]
            cancels_of = (
                self._acceptance.cancel(
                    caller, each.id, each.conversation_id,
                    by.once(f"requests/{each.id}", after={"cancel_requested": True}),
                )
                for each in chunk
            )  # fmt: skip
            await asyncio.gather(*cancels_of)
        more = len(found) > MAX_CANCELS
        if more:
            # Until the cancels have arrived, the next call would find the same tasks.
            await self._until_reached(caller, [each.id for each in chosen])
        return CancelledTasks(cancel_requested=len(chosen), more=more)

    async def remove(self, caller: Principal, id: UUID, by: Author) -> None:
        """Cancel a task if it is open and delete it, with its conversation if it is the only turn there.

        Raises ``NOT_FOUND``, ``UNAVAILABLE`` when it has no row yet, and what ``Acceptance.cancel`` raises.
        """
        task = await self._with_row(caller, id)
        ref, conversation_id = caller.request(id), task.conversation_id
        assert conversation_id is not None
        whole = await tasks.alone(self._database, ref, conversation_id)
        # The record goes first: if Kafka is unavailable, the task must stay visible instead of running on unseen. A
        # task that was refused in another owner's conversation does not make that conversation the caller's.
        change = by.once(f"requests/{id}", {"status": task.status.value})
        if whole and await self._deletion.delete(caller, conversation_id, change):
            return
        if not task.status.terminal:
            await self._acceptance.cancel(caller, id, conversation_id, change)
        # Audited by intake, if there was a record.
        await tasks.remove(self._database, ref, conversation_id, caller.only, by if task.status.terminal else None)

    async def _send(self, submission: Submission, *, again: bool) -> Sent:
        caller, id = submission.caller, submission.id
        with self._hub.watch(caller.request(id)) as live, attach_request_id(id):
            before = await self._submissions.send(submission, live, again=again, row_seconds=_ROW_SECONDS)
        try:
            task = await tasks.get(self._database, caller.request(id), caller.only)
        except DatabaseUnavailableError:
            task = None  # The task is accepted all the same.
        return Sent(task or _as_sent(submission), before is not None)

    async def _with_row(self, caller: Principal, id: UUID) -> TaskResource:
        until = time.monotonic() + self._timings.row_of_task
        while (task := await self.find(caller, id)).created_at is None:
            if task.status.terminal:
                raise OrchestraError(ErrorCode.NOT_FOUND)  # A dead letter: there is nothing to remove.
            if time.monotonic() >= until:
                raise OrchestraError(ErrorCode.UNAVAILABLE, "the task has not been taken in yet", retry_after=1)
            await asyncio.sleep(self._timings.look_for_row)
        return task

    async def _until_reached(self, caller: Principal, ids: list[UUID]) -> None:
        until = time.monotonic() + self._timings.row_of_task
        while await tasks.untouched(self._database, caller.tenant, ids) and time.monotonic() < until:
            await asyncio.sleep(self._timings.look_for_row)


def _as_sent(submission: Submission) -> TaskResource:
    body = submission.body
    assert isinstance(body, MessageRequested)
    prompt, history = prompt_and_history(body.messages)
    return TaskResource(
        id=submission.id,
        task_id=submission.id,
        user_id=submission.caller.user or None,
        task_type=body.task_type,
        prompt=prompt,
        history=history,
        status=Status.PENDING,
        conversation_id=submission.conversation_id,
        model=body.model,
        priority=body.priority,
        not_before=body.not_before,
        deadline=body.deadline,
        retry_of=body.retry_of,
        metadata=body.metadata,
    )

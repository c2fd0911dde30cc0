"""JSON Schema (2020-12) of every record and HTTP body, and AsyncAPI, for producers and clients in any language.

``python -m schemas.publish`` writes ``schemas/published``; with ``--check`` it only lists what differs.
"""

import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from schemas import asyncapi, erasures, events, generation, replies, requests
from schemas.agents import Agent
from schemas.api.agents import AgentPage
from schemas.api.audit import AuditPage, AuditQuery
from schemas.api.bulk import BulkMessages, BulkResult
from schemas.api.conversations import (
    BranchConversation,
    ConversationPage,
    ConversationResource,
    CopyConversation,
    CreateConversation,
    MessagePage,
)
from schemas.api.dead_letters import (
    CheckedDeadLetter,
    DeadLetterPage,
    DeadLetterQuery,
    DeadLetterResource,
    EditDeadLetter,
    ReplayDeadLetters,
    ReplayedDeadLetters,
)
from schemas.api.erasures import EraseOwner, ErasurePage, ErasureResource
from schemas.api.files import DeletedFile, FileList, FileObject
from schemas.api.keys import CreatedKey, CreateKey, KeyPage
from schemas.api.live import Changed, LiveFrame, LiveQuery, OwnFrame
from schemas.api.messages import MessageReply, PostMessage
from schemas.api.pauses import PauseResource, PauseWork
from schemas.api.problems import Problem
from schemas.api.queue import QueueState
from schemas.api.requests import (
    AcceptedRequest,
    ChangedRequest,
    RequestDetail,
    RequestPage,
    RequestQuery,
    RequestResource,
)
from schemas.api.session import CreateSession, SessionResource
from schemas.api.stats import StatsAnswer, StatsQuery
from schemas.api.steering import (
    CancelRequests,
    ChangeRequest,
    ChangeRequests,
    RequestsChanged,
    RequestsDone,
    RetryRequests,
)
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
from schemas.api.topics import RecordList, RecordQuery, TopicList
from schemas.api.users import ChangePassword, ChangeUser, CreateUser, Token, UserResource
from schemas.api.waiting import WaitingState
from schemas.api.workers import WorkerList, WorkerResource
from schemas.changes import Change
from schemas.json_schema import PlainJsonSchema
from schemas.openai.chat import ChatCompletion, ChatCompletionChunk, CreateChatCompletion
from schemas.openai.conversations import (
    AddItems,
    CreateOpenAIConversation,
    DeletedConversation,
    OpenAIConversation,
    UpdateOpenAIConversation,
)
from schemas.openai.errors import ErrorBody
from schemas.openai.models import ModelObjects
from schemas.openai.responses import (
    AskedResponse,
    CreateResponse,
    DeletedResponse,
    ItemList,
    ResponseEvent,
    ResponseObject,
)

PUBLISHED = Path(__file__).parent / "published"

# By name. The name of a record is its ``ce_type``.
MODELS: dict[str, type[BaseModel]] = {
    **requests.RECORD_TYPES,
    "llm.message.requested.large": requests.ReferredMessage,
    **events.EVENT_TYPES,
    replies.REPLY: replies.Reply,
    erasures.ERASED: erasures.Erased,
    "header.change": Change,
    "http.post-message": PostMessage,
    "http.message-reply": MessageReply,
    "http.bulk-messages": BulkMessages,
    "http.bulk-result": BulkResult,
    "http.request": RequestResource,
    "http.request-detail": RequestDetail,
    "http.waiting": WaitingState,
    "http.accepted-request": AcceptedRequest,
    "http.request-page": RequestPage,
    "http.request-query": RequestQuery,
    "http.change-request": ChangeRequest,
    "http.changed-request": ChangedRequest,
    "http.retry-requests": RetryRequests,
    "http.change-requests": ChangeRequests,
    "http.cancel-requests": CancelRequests,
    "http.requests-done": RequestsDone,
    "http.requests-changed": RequestsChanged,
    "http.create-conversation": CreateConversation,
    "http.branch-conversation": BranchConversation,
    "http.copy-conversation": CopyConversation,
    "http.conversation": ConversationResource,
    "http.conversation-page": ConversationPage,
    "http.message-page": MessagePage,
    "http.post-task": PostTask,
    "http.create-task": CreateTask,
    "http.accepted-task": AcceptedTask,
    "http.created-task": CreatedTask,
    "http.task": TaskResource,
    "http.task-page": TaskPage,
    "http.task-filter": TaskFilter,
    "http.cancelled-tasks": CancelledTasks,
    "http.agent-page": AgentPage,
    "http.create-user": CreateUser,
    "http.change-user": ChangeUser,
    "http.change-password": ChangePassword,
    "http.user": UserResource,
    "http.token": Token,
    "http.create-session": CreateSession,
    "http.session": SessionResource,
    "http.file": FileObject,
    "http.file-list": FileList,
    "http.deleted-file": DeletedFile,
    "http.erase-owner": EraseOwner,
    "http.erasure": ErasureResource,
    "http.erasure-page": ErasurePage,
    "http.create-key": CreateKey,
    "http.created-key": CreatedKey,
    "http.key-page": KeyPage,
    "http.dead-letter-query": DeadLetterQuery,
    "http.dead-letter-page": DeadLetterPage,
    "http.dead-letter": DeadLetterResource,
    "http.edit-dead-letter": EditDeadLetter,
    "http.checked-dead-letter": CheckedDeadLetter,
    "http.replay-dead-letters": ReplayDeadLetters,
    "http.replayed-dead-letters": ReplayedDeadLetters,
    "http.queue": QueueState,
    "http.worker-list": WorkerList,
    "http.worker": WorkerResource,
    "http.pause-work": PauseWork,
    "http.pause": PauseResource,
    "http.audit-query": AuditQuery,
    "http.audit-page": AuditPage,
    "http.topic-list": TopicList,
    "http.record-query": RecordQuery,
    "http.record-list": RecordList,
    "http.stats-query": StatsQuery,
    "http.stats": StatsAnswer,
    "http.live-query": LiveQuery,
    "http.live-frame": LiveFrame,
    "http.live-own-frame": OwnFrame,
    "http.live-changed": Changed,
    "http.problem": Problem,
    "openai.create-chat-completion": CreateChatCompletion,
    "openai.chat-completion": ChatCompletion,
    "openai.chat-completion-chunk": ChatCompletionChunk,
    "openai.models": ModelObjects,
    "openai.error": ErrorBody,
    "openai.create-response": CreateResponse,
    "openai.response": ResponseObject,
    "openai.response-event": ResponseEvent,
    "openai.deleted-response": DeletedResponse,
    "openai.items": ItemList,
    "openai.asked-response": AskedResponse,
    "openai.create-conversation": CreateOpenAIConversation,
    "openai.update-conversation": UpdateOpenAIConversation,
    "openai.add-items": AddItems,
    "openai.conversation": OpenAIConversation,
    "openai.deleted-conversation": DeletedConversation,
    "file.agent": Agent,
    "generation.request": generation.GenerateRequest,
    "generation.reply": generation.GenerateReply,
    "generation.delta-line": generation.DeltaLine,
    "generation.tool-line": generation.ToolLine,
    "generation.tool-delta-line": generation.ToolDeltaLine,
    "generation.reasoning-line": generation.ReasoningLine,
    "generation.refusal-line": generation.RefusalLine,
    "generation.state-line": generation.StateLine,
    "generation.restart-line": generation.RestartLine,
    "generation.done-line": generation.DoneLine,
    "generation.error-line": generation.ErrorLine,
    "generation.models": generation.ModelList,
}


def documents() -> Iterator[tuple[str, str]]:
    """File name and text of each published document."""
    for name, model in MODELS.items():
        head = {"$schema": GenerateJsonSchema.schema_dialect, "$id": f"urn:llm-orchestra:schema:{name}"}
        body = {"description": inspect.getdoc(model), **model.model_json_schema(schema_generator=PlainJsonSchema)}
        yield f"{name}.json", _text(head | body)
    yield "asyncapi.json", _text(asyncapi.document())


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def drifted(folder: Path = PUBLISHED) -> list[str]:
    """Names of the files in the folder that are missing, stale or left over."""
    fresh = dict(documents())
    kept = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))


def write(folder: Path = PUBLISHED) -> None:
    """Write every schema that differs, and delete those that are gone."""
    folder.mkdir(exist_ok=True)
    fresh = dict(documents())
    for name in drifted(folder):
        if name in fresh:
            (folder / name).write_text(fresh[name], "utf-8")
        else:
            (folder / name).unlink()


def main(arguments: Sequence[str]) -> int:
    """Write, or with ``--check`` compare. Return the exit code."""
    if "--check" not in arguments:
        write()
        return 0
    stale = drifted()
    for name in stale:
        print(f"schemas/published/{name} is not what the code says: run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

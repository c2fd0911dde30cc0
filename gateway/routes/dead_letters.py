"""Dead letters, for admins: list, look, edit, replay one or many."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from gateway.drain import Drain
from gateway.http import openapi
from gateway.http.answers import json_answer
from gateway.http.bodies import read_json
from gateway.http.cursors import read_letter_cursor, write_cursor
from gateway.people.callers import Callers
from gateway.replays import Replays
from orchestra.store import dead_letters
from orchestra.store.database import Database
from orchestra.store.dead_letters import KeptLetter
from schemas.api.conversations import Page
from schemas.api.dead_letters import (
    DeadLetterQuery,
    DeadLetterResource,
    DeadLetterSummary,
    EditDeadLetter,
    LetterRecord,
    ReplayDeadLetters,
    ReplayedDeadLetters,
)
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from schemas.replies import RequestError

_HIGHEST_ID = 2**63 - 1
_WHO = (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN)
_BODY = (ErrorCode.NOT_JSON, *openapi.BODY, ErrorCode.INVALID_REQUEST)
_LOG = (ErrorCode.OUTCOME_UNKNOWN, ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE)
_LISTED = openapi.problems(*_WHO, ErrorCode.INVALID_REQUEST, ErrorCode.TOO_MANY_CALLS, ErrorCode.UNAVAILABLE)
_FOUND = openapi.problems(*_WHO, ErrorCode.NOT_FOUND, ErrorCode.INVALID_REQUEST, ErrorCode.UNAVAILABLE)
_EDITED = openapi.problems(ErrorCode.NOTHING_TO_CHANGE, *_BODY, *_WHO, ErrorCode.NOT_FOUND, ErrorCode.UNAVAILABLE)
_SENT = openapi.problems(*_WHO, ErrorCode.NOT_FOUND, ErrorCode.NOT_REPLAYABLE, *_LOG)
_ALL_SENT = openapi.problems(*_BODY, *_WHO, *_LOG)


class DeadLetters:
    """The routes, with what they need."""

    def __init__(self, callers: Callers, database: Database, replays: Replays, drain: Drain, most_bytes: int) -> None:
        self._callers = callers
        self._database = database
        self._replays = replays
        self._drain = drain
        self._most_bytes = most_bytes

    def router(self) -> APIRouter:
        """The routes for the app."""
        router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])
        page: openapi.Responses = {200: {"model": Page[DeadLetterSummary], "description": "The newest first"}}
        one: openapi.Responses = {200: {"model": DeadLetterResource, "description": "The letter"}}
        sent: openapi.Responses = {202: {"model": DeadLetterResource, "description": "Sent; a worker will take it in"}}
        many: openapi.Responses = {
            202: {"model": ReplayedDeadLetters, "description": "Sent; call again with `next` for the rest"}
        }
        for path, method, call, answers, more in (
            ("", "GET", self.list, {**_LISTED, **page}, None),
            ("/replay", "POST", self.replay_all, {**_ALL_SENT, **many}, openapi.body(ReplayDeadLetters)),
            ("/{letter_id}", "GET", self.get, {**_FOUND, **one}, None),
            ("/{letter_id}", "PUT", self.edit, {**_EDITED, **one}, openapi.body(EditDeadLetter)),
            ("/{letter_id}/replay", "POST", self.replay, {**_SENT, **sent}, None),
        ):
            router.add_api_route(
                path, call, methods=[method], status_code=min(map(int, answers)), response_model=None,
                responses=answers, openapi_extra=more,
            )  # fmt: skip
        return router

    async def list(self, request: Request, query: Annotated[DeadLetterQuery, Query()]) -> Response:
        """The records that were not taken in, the newest first."""
        replayed = None if query.replayed is None else query.replayed == "true"
        async with self._callers.listing(request, Scope.ADMIN) as caller:
            before = read_letter_cursor(query.cursor)
            place = (before[0][0], before[1]) if before else None
            found = await dead_letters.page(
                self._database, caller.tenant, query, place, query.limit + 1, replayed=replayed
            )
        last = found[query.limit - 1] if len(found) > query.limit else None
        following = write_cursor(last.created_at, last.id) if last else None
        return json_answer(Page[DeadLetterSummary](data=found[: query.limit], next=following))

    async def get(self, request: Request, letter_id: str) -> Response:
        """A letter with its key, value and headers, and whether it could be replayed."""
        caller = await self._callers.identify(request, Scope.ADMIN)
        return await self._answer(await self._replays.find(caller, _read_number(letter_id)))

    async def edit(self, request: Request, letter_id: str) -> Response:
        """Change what a replay sends. What came is kept as it is."""
        caller, id = await self._callers.identify(request, Scope.ADMIN), _read_number(letter_id)
        wanted = await read_json(request, EditDeadLetter, self._most_bytes)
        return await self._answer(await self._replays.edit(caller, id, wanted))

    async def replay(self, request: Request, letter_id: str) -> Response:
        """Send a letter again, as it is or as it was edited. What was taken in already stays as it is."""
        caller = await self._callers.identify(request, Scope.ADMIN)
        self._drain.refuse_new()
        return await self._answer(await self._replays.send(caller, _read_number(letter_id)), 202)

    async def replay_all(self, request: Request) -> Response:
        """Send every letter again that fits and never was, 500 a call."""
        caller = await self._callers.identify(request, Scope.ADMIN)
        self._drain.refuse_new()
        wanted = await read_json(request, ReplayDeadLetters, self._most_bytes)
        return json_answer(await self._replays.send_all(caller, wanted), 202)

    async def _answer(self, letter: KeptLetter, status: int = 200) -> Response:
        obstacle, sends = await self._replays.obstacle(letter), letter.to_send
        came = LetterRecord.of(letter.came.key, letter.came.value, letter.came.headers)
        shown = LetterRecord.of(sends.key, sends.value, sends.headers)
        body = DeadLetterResource.model_construct(
            **dict(letter.summary),
            **dict(shown),
            original=came if letter.edited else None,
            obstacle=RequestError(code=obstacle.code, detail=obstacle.detail) if obstacle else None,
        )
        return json_answer(body, status)


def _read_number(text: str) -> int:
    """The id in a path. Raises ``NOT_FOUND``: nothing goes by a name that is no number."""
    if not text.isascii() or not text.isdecimal() or len(text) > 19 or int(text) > _HIGHEST_ID:
        raise OrchestraError(ErrorCode.NOT_FOUND)
    return int(text)

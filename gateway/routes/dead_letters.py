"""Dead letters, for operators: list, look, edit, replay one or many."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Response

from gateway.http.answers import json_answer
from gateway.http.cursors import cut, read_letter_cursor
from gateway.http.route import Body, Call, Route
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


class DeadLetters:
    """The routes, with what they need."""

    def __init__(self, database: Database, replays: Replays) -> None:
        self._database = database
        self._replays = replays

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one = "/v1/dead-letters", "/v1/dead-letters/{letter_id}"
        page = {"model": Page[DeadLetterSummary], "description": "The newest first"}
        letter = {"model": DeadLetterResource, "description": "The letter"}
        sent = {"model": DeadLetterResource, "description": "Sent; a worker will take it in"}
        many = {"model": ReplayedDeadLetters, "description": "Sent; call again with `next` for the rest"}
        nothing, obstacle = [ErrorCode.NOTHING_TO_CHANGE], [ErrorCode.NOT_REPLAYABLE]
        edit, all_that = Body(EditDeadLetter), Body(ReplayDeadLetters)
        return [
            Route("GET", path, self.list, Scope.OPERATE, {200: page}, lists=True),
            Route("POST", f"{path}/replay", self.replay_all, Scope.OPERATE, {202: many}, body=all_that, writes=True),
            Route("GET", one, self.get, Scope.OPERATE, {200: letter}),
            Route("PUT", one, self.edit, Scope.OPERATE, {200: letter}, body=edit, also=nothing),
            Route("POST", f"{one}/replay", self.replay, Scope.OPERATE, {202: sent}, also=obstacle, writes=True),
        ]

    async def list(self, call: Call[None], query: Annotated[DeadLetterQuery, Query()]) -> Response:
        """The records that were not taken in, the newest first."""
        replayed = None if query.replayed is None else query.replayed == "true"
        before = read_letter_cursor(query.cursor)
        place = (before[0][0], before[1]) if before else None
        found = await dead_letters.page(
            self._database, call.caller.tenant, query, place, query.limit + 1, replayed=replayed
        )
        data, following = cut(found, query.limit)
        return json_answer(Page[DeadLetterSummary](data=data, next=following))

    async def get(self, call: Call[None], letter_id: str) -> Response:
        """A letter with its key, value and headers, and whether it could be replayed."""
        return await self._answer(await self._replays.find(call.caller, _read_number(letter_id)))

    async def edit(self, call: Call[EditDeadLetter], letter_id: str) -> Response:
        """Change what a replay sends. What came is kept as it is."""
        return await self._answer(await self._replays.edit(call.caller, _read_number(letter_id), call.body))

    async def replay(self, call: Call[None], letter_id: str) -> Response:
        """Send a letter again, as it is or as it was edited. What was taken in already stays as it is."""
        return await self._answer(await self._replays.send(call.caller, _read_number(letter_id)), 202)

    async def replay_all(self, call: Call[ReplayDeadLetters]) -> Response:
        """Send every letter again that fits and never was, 500 a call."""
        return json_answer(await self._replays.send_all(call.caller, call.body), 202)

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

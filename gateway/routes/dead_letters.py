"""Dead letters, for operators: list, get, edit, and replay one or many."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Response

from gateway.http.cursors import read_letter_cursor, searched
from gateway.http.responses import json_answer
from gateway.http.route import Body, Call, Route
from gateway.replays import Replays
from orchestra.store import dead_letters
from orchestra.store.database import Database
from orchestra.store.dead_letters import KeptLetter
from schemas.api.audit import Action
from schemas.api.dead_letters import (
    CheckedDeadLetter,
    DeadLetterPage,
    DeadLetterQuery,
    DeadLetterResource,
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
    """The routes, with their collaborators."""

    def __init__(self, database: Database, replays: Replays) -> None:
        self._database = database
        self._replays = replays

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        path, one = "/v1/dead-letters", "/v1/dead-letters/{letter_id}"
        page = {"model": DeadLetterPage, "description": "One page, newest first"}
        letter = {"model": DeadLetterResource, "description": "The dead letter"}
        sent = {"model": DeadLetterResource, "description": "Sent; a worker will read it"}
        many = {"model": ReplayedDeadLetters, "description": "Sent; repeat the call with `next` for the rest"}
        nothing, obstacle = [ErrorCode.NOTHING_TO_CHANGE], [ErrorCode.NOT_REPLAYABLE]
        checked = {"model": CheckedDeadLetter, "description": "Whether something prevents the replay"}
        edit, all_that = Body(EditDeadLetter), Body(ReplayDeadLetters)
        return [
            Route("GET", path, self.list_dead_letters, Scope.OPERATE, {200: page}, lists=True),
            Route(
                "POST", f"{path}/replay", self.replay_dead_letters, Scope.OPERATE, {202: many}, body=all_that,
                writes=True, action=Action.DEAD_LETTER_REPLAY,
            ),
            Route("GET", one, self.get_dead_letter, Scope.OPERATE, {200: letter}),
            Route(
                "PUT", one, self.update_dead_letter, Scope.OPERATE, {200: letter}, body=edit, also=nothing,
                action=Action.DEAD_LETTER_EDIT,
            ),
            Route(
                "POST", f"{one}/check", self.check_dead_letter, Scope.OPERATE, {200: checked},
                body=Body(EditDeadLetter, required=False),
            ),
            Route(
                "POST", f"{one}/replay", self.replay_dead_letter, Scope.OPERATE, {202: sent}, also=obstacle,
                writes=True, action=Action.DEAD_LETTER_REPLAY,
            ),
        ]  # fmt: skip

    async def list_dead_letters(self, call: Call[None], query: Annotated[DeadLetterQuery, Query()]) -> Response:
        """List dead letters, newest first.

        A call examines a limited number of dead letters: see `searched_to`.
        """
        replayed = None if query.replayed is None else query.replayed == "true"
        before = read_letter_cursor(query.cursor)
        place = (before[0][0], before[1]) if before else None
        found = await dead_letters.page(
            self._database, call.caller.tenant, query, place, query.limit, replayed=replayed
        )
        return json_answer(searched(DeadLetterPage, found))

    async def get_dead_letter(self, call: Call[None], letter_id: str) -> Response:
        """Get a dead letter, with its key, value and headers, and any obstacle to a replay."""
        return await self._answer(await self._replays.find(call.caller, _read_number(letter_id)))

    async def update_dead_letter(self, call: Call[EditDeadLetter], letter_id: str) -> Response:
        """Edit what a replay of a dead letter sends.

        The original record is kept.
        """
        return await self._answer(await self._replays.edit(call.caller, _read_number(letter_id), call.body, call.by))

    async def check_dead_letter(self, call: Call[EditDeadLetter], letter_id: str) -> Response:
        """Check whether a dead letter could be replayed with this edit.

        Without a body, the dead letter is checked as it is now. Nothing is stored or sent.
        """
        return json_answer(await self._replays.check(call.caller, _read_number(letter_id), call.body))

    async def replay_dead_letter(self, call: Call[None], letter_id: str) -> Response:
        """Replay a dead letter, as it is or as it was edited.

        If its request already exists, that request does not change.
        """
        return await self._answer(await self._replays.send(call.caller, _read_number(letter_id), call.by), 202)

    async def replay_dead_letters(self, call: Call[ReplayDeadLetters]) -> Response:
        """Replay all matching dead letters that have not been replayed, at most 500 per call.

        With `dry_run` they are only counted.
        """
        return json_answer(await self._replays.send_all(call.caller, call.body, call.by), 202)

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
    """The id in a path. Raises ``NOT_FOUND`` if it is not a number: there can be no such dead letter."""
    if not text.isascii() or not text.isdecimal() or len(text) > 19 or int(text) > _HIGHEST_ID:
        raise OrchestraError(ErrorCode.NOT_FOUND)
    return int(text)

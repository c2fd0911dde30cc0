"""A model's answer → fits its agent's schema, or is one to be asked for again."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from orchestra.agents.answer_schema import AnswerSchema
from schemas.errors import ErrorCode, OrchestraError

# A longer one is not worth its checking.
MOST_CHARACTERS = 256 * 1024
_MOST_CHARACTERS_AT_ONCE = 4 * 1024
_THREADS = 2


class Answers:
    """Checks answers, long ones beside the event loop: a few at once, for they take the processor from it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "answers")

    async def check(self, schema: AnswerSchema | None, answer: str) -> None:
        """Raise ``OrchestraError(ANSWER_MISMATCH)``, which tells where the answer does not fit, never what it says."""
        if schema is None:
            return
        if len(answer) <= _MOST_CHARACTERS_AT_ONCE:
            where = schema.mismatch(answer)
        else:
            where = await asyncio.get_running_loop().run_in_executor(self._threads, schema.mismatch, answer)
        if where:
            raise mismatch(where)


def mismatch(where: str) -> OrchestraError:
    """The error of an answer that does not fit."""
    return OrchestraError(ErrorCode.ANSWER_MISMATCH, f"the model's answer does not fit the agent's schema: {where}")

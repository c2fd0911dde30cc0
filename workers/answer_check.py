"""Checks a model's answer against its agent's schema; an answer that does not fit is retried."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from orchestra.agents.answer_schema import AnswerSchema
from schemas.errors import ErrorCode, OrchestraError

# A longer answer is refused without a check, which would cost too much.
MAX_CHARACTERS = 256 * 1024
_MAX_CHARACTERS_INLINE = 4 * 1024
_THREADS = 2
_FENCE = "```"


class Answers:
    """Checks answers, long ones in threads. The threads are few because they compete with the event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "answers")

    async def check(self, schema: AnswerSchema | None, answer: str) -> None:
        """Check an answer against the schema; without a schema every answer fits. It may be in a Markdown code fence.

        Raises ``OrchestraError(ANSWER_MISMATCH)``. Its detail names the place of the mismatch and quotes no content.
        """
        if schema is None:
            return
        answer = _without_fence(answer)
        if len(answer) <= _MAX_CHARACTERS_INLINE:
            where = schema.mismatch(answer)
        else:
            where = await asyncio.get_running_loop().run_in_executor(self._threads, schema.mismatch, answer)
        if where:
            raise mismatch(where)


def _without_fence(answer: str) -> str:
    """The answer without the Markdown code fence around it, if there is one."""
    opening, newline, rest = answer.strip().partition("\n")
    fenced = opening.startswith(_FENCE) and newline and rest.endswith(_FENCE)
    return rest.removesuffix(_FENCE) if fenced else answer


def mismatch(where: str) -> OrchestraError:
    """The error for an answer that does not fit the schema. ``where``: the place and the rule."""
    return OrchestraError(ErrorCode.ANSWER_MISMATCH, f"the model's answer does not fit the agent's schema: {where}")

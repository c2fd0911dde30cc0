"""Promises of workers/answer_check.py: an answer fits its agent's schema, or the attempt has failed."""

import json
import threading
from typing import Any

import pytest

from orchestra.agents.answer_schema import AnswerSchema
from schemas.errors import ErrorCode, OrchestraError
from workers.answer_check import Answers

NUMBERS = AnswerSchema({"type": "array", "items": {"type": "integer"}})
CANARY = "canary-5e0a"


async def test_what_fits_passes() -> None:
    """An answer that fits passes, short or long; without a schema every answer does."""
    answers = Answers()

    await answers.check(NUMBERS, "[1, 2]")
    await answers.check(NUMBERS, json.dumps([1] * 10_000))
    await answers.check(None, CANARY)


@pytest.mark.parametrize(
    "answer",
    [
        "```json\n[1, 2]\n```",
        "```\n[1,\n 2]```",
        "\n```JSON \r\n[1, 2]\r\n```\n",
        f"```json\n{json.dumps([1] * 10_000)}\n```",
    ],
)
async def test_a_code_fence_is_not_part_of_an_answer(answer: str) -> None:
    """An answer that is wrapped in one Markdown code fence is checked without the fence."""
    await Answers().check(NUMBERS, answer)


@pytest.mark.parametrize(
    "answer", ["```", "``````", "```\n```", "```json\n[1]", "[1]\n```", "```[1]```", "```\n```\n[1]\n```\n```"]
)
async def test_half_a_fence_is_none(answer: str) -> None:
    """What is not one fence around the whole answer stays part of it."""
    with pytest.raises(OrchestraError):
        await Answers().check(NUMBERS, answer)


@pytest.mark.parametrize("length", [1, 10_000])
async def test_what_does_not_fit_is_an_error(length: int) -> None:
    """An answer that does not fit is an error that names the place and quotes no content."""
    with pytest.raises(OrchestraError) as refused:
        await Answers().check(NUMBERS, json.dumps([*[1] * length, CANARY]))

    assert ErrorCode.ANSWER_MISMATCH is refused.value.code
    assert f"$[{length}] does not match `type`" in refused.value.detail
    assert CANARY not in refused.value.detail


async def test_a_long_answer_is_checked_beside_the_event_loop() -> None:
    """A long answer is checked in another thread, a short one directly."""
    where: list[threading.Thread] = []

    class Watched:
        def mismatch(self, _answer: str) -> None:
            where.append(threading.current_thread())

    schema: Any = Watched()
    answers = Answers()
    await answers.check(schema, "1")
    await answers.check(schema, "1" * 10_000)

    assert [True, False] == [thread is threading.current_thread() for thread in where]

"""Promises of schemas/api/problems.py: an error as an HTTP caller sees it."""

from uuid import uuid4

import pytest

from schemas.api.problems import Problem
from schemas.errors import ERRORS, ErrorCode


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_makes_a_problem(code: ErrorCode) -> None:
    """Each code has a problem document with its own status, title and type."""
    problem = Problem.of(code)

    assert (ERRORS[code].status, ERRORS[code].title, code) == (problem.status, problem.title, problem.code)
    assert problem.type.endswith(f":{code}")
    assert problem.detail


def test_the_status_can_be_another() -> None:
    """A waiting POST answers 502 for what ended as another code, and says the code all the same."""
    problem = Problem.of(ErrorCode.RATE_LIMITED, status=502, request_id=(request_id := uuid4()))

    assert (502, ErrorCode.RATE_LIMITED, request_id) == (problem.status, problem.code, problem.request_id)

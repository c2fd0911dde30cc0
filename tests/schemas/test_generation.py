"""Promises of schemas/generation.py: what workers and the LLM service can rely on from each other."""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from schemas.errors import ErrorCode
from schemas.generation import (
    DeltaLine,
    DoneLine,
    ErrorLine,
    GenerateRequest,
    GenerationError,
    GenerationErrorCode,
    ModelInfo,
    RestartLine,
    Usage,
)


def test_an_old_callers_body_is_enough() -> None:
    """A model and messages are a request, and fields of others are ignored."""
    request = GenerateRequest.model_validate(
        {"model": "llama3", "messages": [{"role": "user", "content": "hi", "id": "x"}], "of_the_future": 1}
    )

    assert request.model_dump(exclude_unset=True) == {
        "model": "llama3",
        "messages": [{"role": "user", "content": "hi"}],
    }
    assert not request.stream


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"max_tokens": 0},
        {"stop": [""]},
        {"messages": []},
        {"model": "x" * 201},
        {"messages": [{"role": "tool", "content": "x"}]},
    ],
)
def test_what_no_provider_takes_is_refused(fields: dict[str, Any]) -> None:
    """Settings outside of their range are refused before a provider is asked."""
    with pytest.raises(ValidationError):
        GenerateRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


@pytest.mark.parametrize("code", ErrorCode)
def test_generation_errors_are_a_closed_list(code: ErrorCode) -> None:
    """Only the codes of the list between LLM service and workers pass."""
    if code in get_args(GenerationErrorCode):
        assert GenerationError(code=code, detail="why").code is code
    else:
        with pytest.raises(ValidationError):
            GenerationError.model_validate({"code": code, "detail": "why"})


def test_the_lines_of_a_stream_are_told_apart_by_their_field() -> None:
    """A line reads as one kind only: a piece of text, a new beginning, the end, or an error."""
    lines = {
        "delta": {"delta": "a"},
        "restart": {"restart": {"model": "m"}},
        "done": {"done": True, "usage": {}},
        "error": {"error": {"code": "timeout", "detail": ""}},
    }
    kinds = {"delta": DeltaLine, "restart": RestartLine, "done": DoneLine, "error": ErrorLine}

    for name, line in lines.items():
        fitting = [kind for kind, model in kinds.items() if kind in line and model.model_validate(line)]
        assert fitting == [name]


def test_a_stream_is_only_done_when_it_says_so() -> None:
    """A last line with `done` false is no last line."""
    with pytest.raises(ValidationError):
        DoneLine.model_validate({"done": False, "usage": {}})


def test_bodies_without_news_are_as_they_were() -> None:
    """Usage without a price, and a model without more than its limits, have the fields that old readers know."""
    model = ModelInfo(name="m", provider="p", context_tokens=2, max_output_tokens=1)

    assert Usage(input_tokens=1).model_dump(mode="json") == {"input_tokens": 1, "output_tokens": 0}
    assert [*model.model_dump(mode="json")] == ["name", "aliases", "provider", "context_tokens", "max_output_tokens"]


@pytest.mark.parametrize("cost", [-1, float("nan"), float("inf")])
def test_a_cost_is_a_sum_of_money(cost: float) -> None:
    """Never less than nothing, and a number that JSON can carry."""
    with pytest.raises(ValidationError):
        Usage(cost=cost)

"""Bodies of OpenAI's API: lenient about what means nothing, and strict about what would be ignored."""

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.openai.errors import DoorError
from schemas.errors import ErrorCode, OrchestraError
from schemas.invalid import MISSING, problems_of
from schemas.openai.not_offered import Refusal
from schemas.requests import refused

_Body = TypeVar("_Body", bound=BaseModel)


def refuse(refusals: Iterable[Refusal]) -> None:
    """Raises ``DoorError`` for the first of these."""
    for field, code, detail in refusals:
        raise DoorError(
            code, f"{field}: {detail}" if field else detail, param=field or None, code=ErrorCode.NOT_SUPPORTED
        )


def validate(model: type[_Body], value: Any) -> _Body:
    """Parsed JSON as its model. Raises ``DoorError``, which says where it is wrong and why."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> OrchestraError:
    found = refused(error)
    first = problems_of(error)[0]
    if found.code is not ErrorCode.INVALID_REQUEST:
        return found
    if first["type"] == "missing" or first["msg"].endswith(f": {MISSING}"):
        return DoorError("missing_required_parameter", found.detail)
    if first["type"].endswith("_type"):
        return DoorError("invalid_type", found.detail)
    return found

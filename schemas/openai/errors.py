"""Errors in the form of OpenAI's API."""

from typing import Annotated

from pydantic import BaseModel

from schemas.json_schema import described


class ErrorObject(BaseModel):
    """An error. Its message may name fields that were sent, but never repeats their values."""

    message: Annotated[str, described("What is wrong with this call.", "n: this value is not offered here")]
    type: Annotated[
        str,
        described(
            "`invalid_request_error`, `rate_limit_error`, `server_error`, or `failed_dependency` if the request was "
            "accepted and then not answered.",
            "invalid_request_error",
        ),
    ]
    param: Annotated[str | None, described("The field that is wrong; null if the error is not about one field.", "n")]
    code: Annotated[
        str,
        described(
            "Stable code; docs/reference/errors.md lists those that our own API spells differently.",
            "unsupported_value",
        ),
    ]


class ErrorBody(BaseModel):
    """The body of every response below OpenAI's paths that is an error."""

    error: Annotated[ErrorObject, described("What is wrong.")]

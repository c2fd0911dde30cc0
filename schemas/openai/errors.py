"""Errors in the form of OpenAI's API."""

from typing import Annotated

from pydantic import BaseModel

from schemas.json_schema import described


class ErrorObject(BaseModel):
    """An error. Its message never repeats what was sent, but may name its fields."""

    message: Annotated[str, described("What is wrong with this call.", "n: this value is not offered here")]
    type: Annotated[
        str,
        described(
            "`invalid_request_error`, `rate_limit_error`, `server_error`, or `failed_dependency` if the request was "
            "accepted and then not answered.",
            "invalid_request_error",
        ),
    ]
    param: Annotated[str | None, described("The field that is wrong, if it is one.", "n")]
    code: Annotated[
        str,
        described("Stable code; docs/reference/errors.md lists those that differ from our own.", "unsupported_value"),
    ]


class ErrorBody(BaseModel):
    """The body of every response below OpenAI's paths that is an error."""

    error: Annotated[ErrorObject, described("What is wrong.")]

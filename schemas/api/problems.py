"""Problem documents (RFC 9457, ``application/problem+json``)."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel

from schemas import fields
from schemas.errors import ERRORS, ErrorCode
from schemas.json_schema import described

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error as HTTP clients see it. It never repeats any of the input."""

    type: Annotated[str, described("A URN that ends with `code`.", "urn:llm-orchestra:error:timeout")]
    title: Annotated[str, described("What the code means, in one sentence.", "The model did not answer in time")]
    status: Annotated[int, described("The HTTP status of this response.", 504)]
    detail: Annotated[
        str,
        described(
            "What is wrong with this call; `title` if there is no more to say.", "The model did not answer in time"
        ),
    ]
    code: Annotated[ErrorCode, fields.CODE]
    request_id: Annotated[
        UUID | None, described("The request that the problem concerns, if there is one.", fields.A_REQUEST)
    ] = None

    @classmethod
    def of(
        cls, code: ErrorCode, detail: str = "", *, status: int | None = None, request_id: UUID | None = None
    ) -> "Problem":
        """The problem document of an error code. ``status`` overrides the code's usual HTTP status."""
        kind = ERRORS[code]
        return cls(
            type=f"urn:llm-orchestra:error:{code}",
            title=kind.title,
            status=status or kind.status,
            detail=detail or kind.title,
            code=code,
            request_id=request_id,
        )

"""Problem documents (RFC 9457, ``application/problem+json``)."""

from uuid import UUID

from pydantic import BaseModel

from schemas.errors import ERRORS, ErrorCode

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error as an HTTP caller sees it. Nothing of the input is ever repeated in it."""

    type: str
    title: str
    status: int
    detail: str
    code: ErrorCode
    request_id: UUID | None = None

    @classmethod
    def of(
        cls, code: ErrorCode, detail: str = "", *, status: int | None = None, request_id: UUID | None = None
    ) -> "Problem":
        """The problem document for an error code; ``status`` overrides the code's usual HTTP status."""
        kind = ERRORS[code]
        return cls(
            type=f"urn:llm-orchestra:error:{code}",
            title=kind.title,
            status=status or kind.status,
            detail=detail or kind.title,
            code=code,
            request_id=request_id,
        )

"""Ids in the form of OpenAI's API. They contain our own, so no table maps one to the other."""

import re
from typing import Literal
from uuid import UUID

from schemas.errors import ErrorCode, OrchestraError

_HEX = re.compile(r"[0-9a-f]{32}")
Kind = Literal["resp_", "chatcmpl-", "conv_", "req_"]


def spell(kind: Kind, id: UUID) -> str:
    """A request's or a conversation's id: ``resp_``, ``chatcmpl-`` or ``conv_`` and its 32 hex digits."""
    return f"{kind}{id.hex}"


def read(kind: Kind, text: str) -> UUID:
    """The id with this spelling. Raises ``NOT_FOUND`` for any other one, because no such id was ever given out."""
    digits = text.removeprefix(kind)
    if digits == text or not _HEX.fullmatch(digits):
        raise OrchestraError(ErrorCode.NOT_FOUND)
    return UUID(digits)

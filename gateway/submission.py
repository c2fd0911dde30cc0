"""① One validated message or task on its way in, with its id and its owner."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from uuid import UUID

from gateway.people.principal import Principal
from schemas import envelope
from schemas.changes import Change
from schemas.ids import conversation_id_for_request
from schemas.requests import MessageBody, MessageRequested

Begin = Callable[[], Awaitable[None]]
"""Makes what a request needs before its record is written, such as the branch that it is a turn of."""


@dataclass(frozen=True)
class Submission:
    """A validated message or task with its request id.

    ``caller_waits``: a client holds a connection open for the reply. ``warnings``: fields that the caller sent and that
    had no effect, for the response to this call. ``change``: what is to be audited with it. ``begin``: called once no
    limit speaks against the request, so that a refused one leaves nothing behind.
    """

    caller: Principal
    id: UUID
    body: MessageBody
    body_hash: str
    traceparent: str
    caller_waits: bool
    warnings: Sequence[str] = ()
    change: Change | None = None
    begin: Begin | None = field(default=None, compare=False)

    @cached_property
    def conversation_id(self) -> UUID:
        """The conversation it belongs to; without one in the body, its own."""
        return self.body.conversation_id or conversation_id_for_request(self.id)

    @property
    def door(self) -> str:
        """The API by which it came."""
        if not isinstance(self.body, MessageRequested):
            return "messages"
        return self.body.door or ("tasks" if self.body.task_type else "messages")

    @property
    def agent(self) -> str | None:
        """The name of the agent that must answer it, if any."""
        return self.body.agent_name if isinstance(self.body, MessageRequested) else self.body.agent


def trace(traceparent: str | None) -> str:
    """The caller's traceparent if it is valid, otherwise a new one (W3C Trace Context)."""
    if traceparent and envelope.TRACEPARENT_FORM.fullmatch(traceparent):
        return traceparent
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"

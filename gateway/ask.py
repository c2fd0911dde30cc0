"""① One message or task on its way in: checked, with its id, and whose it is."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from gateway.people.principal import Principal
from schemas import envelope
from schemas.ids import conversation_id_for_request
from schemas.requests import MessageBody, MessageRequested


@dataclass(frozen=True)
class Ask:
    """A message or task, checked, with the id that it goes by. ``caller_waits``: it needs an answer in seconds.

    ``warnings``: names of what the caller sent in vain, for the answer to this call.
    """

    caller: Principal
    id: UUID
    body: MessageBody
    body_hash: str
    traceparent: str
    caller_waits: bool
    warnings: Sequence[str] = ()

    @cached_property
    def conversation_id(self) -> UUID:
        """The conversation that it belongs to."""
        return self.body.conversation_id or conversation_id_for_request(self.id)

    @property
    def agent(self) -> str | None:
        """The agent that is to answer it, if any."""
        return self.body.agent_name if isinstance(self.body, MessageRequested) else self.body.agent


def trace(traceparent: str | None) -> str:
    """The caller's trace, or a new one (W3C Trace Context)."""
    if traceparent and envelope.TRACEPARENT_FORM.fullmatch(traceparent):
        return traceparent
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"

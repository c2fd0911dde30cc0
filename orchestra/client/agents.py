"""Agents: list them."""

from orchestra.client.caller import Caller
from orchestra.client.pages import AsyncItems, items_by_cursor
from schemas.api.agents import AgentPage, AgentResource


class AsyncAgents:
    """The agents that messages and tasks may name. Calls raise ``ClientError``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self) -> AsyncItems[AgentResource]:
        """Iterate over the agents, sorted by name."""
        return items_by_cursor(self._caller, "/v1/agents", AgentPage, {})

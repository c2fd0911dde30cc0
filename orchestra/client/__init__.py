"""A client of gateways: typed, blocking or for asyncio, which gets each answer once, whatever breaks on the way.

with Client() as client:
    reply = client.messages.send("What is a queue?").reply
    with client.messages.stream("Tell me a story.") as stream:
        for event in stream:
            if event.type == "delta":
                print(event.text, end="")

It needs pydantic and httpx. How to use it: ``docs/howto/use-the-python-client.md``.
"""

from orchestra.client.clients import AsyncClient, Client
from orchestra.client.errors import ClientError, RequestFailedError, StillRunningError, UnreachableError

__all__ = ["AsyncClient", "Client", "ClientError", "RequestFailedError", "StillRunningError", "UnreachableError"]

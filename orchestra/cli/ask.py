"""Sends one message to a gateway and shows the reply as it arrives."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

_SILENCE_LIMIT_SECONDS = 120.0


class NoReplyError(Exception):
    """The message was not answered."""


async def ask(gateway: str, text: str, show: Callable[[str], None], **more: object) -> None:
    """Send ``text`` as a user's message and call ``show`` with each piece of the reply. Raises ``NoReplyError``.

    ``more`` are further fields of the body.
    """
    body = {"messages": [{"role": "user", "content": text}], "stream": True, **more}
    try:
        async with (
            httpx.AsyncClient(base_url=gateway, trust_env=False, timeout=_SILENCE_LIMIT_SECONDS) as client,
            client.stream("POST", "/v1/messages", json=body, headers={"Accept": "text/event-stream"}) as response,
        ):
            if response.is_error:
                raise NoReplyError(f"{response.status_code} {(await response.aread()).decode(errors='replace')}")
            await _show_events(response, show)
    except httpx.HTTPError as error:
        raise NoReplyError(f"{gateway}: {error or type(error).__name__}") from error


async def _show_events(response: httpx.Response, show: Callable[[str], None]) -> None:
    async for event, data in _events(response):
        match event:
            case "delta":
                show(data["text"])
            case "restart":
                show(f"\n{data['text']}")
            case "completed":
                return
            case "failed":
                raise NoReplyError(f"{data['code']}: {data['detail']}")
            case "cancelled" | "expired":
                raise NoReplyError(f"the request was {event}")
    raise NoReplyError("the stream ended without an ending")


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    event, data = "message", ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        if name == "event":
            event = value.strip()
        elif name == "data":
            data += value.removeprefix(" ")
        elif not line and data:
            yield event, json.loads(data)
            event, data = "message", ""

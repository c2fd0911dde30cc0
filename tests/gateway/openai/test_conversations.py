"""Promises of gateway/openai/conversations.py: what is refused, while Postgres is away."""

from typing import Any

import pytest

from tests.support.door import open_door

ROUTE = "/openai/v1/conversations"
TEXT = {"role": "user", "content": "look"}


def user(part: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [part]}


@pytest.mark.parametrize("path", [ROUTE, f"{ROUTE}/conv_019b0a52c1d87d3e9f0a4b6c8d2e1f30/items"])
@pytest.mark.parametrize("allowed", [False, True])
async def test_media_that_are_not_fetched(path: str, allowed: bool) -> None:
    """An item with a URL that no model may fetch is refused: every later response of its conversation would fail."""
    body = {"items": [TEXT, user({"type": "input_image", "image_url": "https://example.org/a.png"})]}

    async with open_door(allow_media_urls=allowed) as door:
        response = await door.client.post(path, json=body)

    error = response.json()["error"]
    refused = (400, "unsupported_value", "items[1]")
    # What is not refused goes to Postgres.
    assert (response.status_code, error["code"], error["param"]) == ((503, "unavailable", None) if allowed else refused)
    assert allowed or "others are not fetched" in error["message"]

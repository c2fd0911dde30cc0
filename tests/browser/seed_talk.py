"""What the pages of conversations, keys and the playground have to show."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.support.waiting import eventually

_PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "incidents",
            "description": "Incidents of a day.",
            "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
        },
    }
]
_USER = {"role": "user"}
_TOPICS = (
    {"topic": "invoices", "team": "billing"},
    {"topic": '<img src=x onerror="alert(1)">'},
    {},
    {"topic": "release 1.4"},
)


async def talked(client: httpx.AsyncClient) -> dict[str, str]:
    """A conversation with tools, a picture, a failed turn and one that runs; its id. Others; API keys."""
    for metadata in _TOPICS:
        (await client.post("/v1/conversations", json={"metadata": metadata})).raise_for_status()
    noted = {"metadata": {"topic": "the outage of last night", "client": "support desk"}}
    talk = (await client.post("/v1/conversations", json=noted)).json()["id"]
    say = _Talk(client, talk)
    system = {"role": "system", "content": "You help the colleague who is on call."}
    await say("llama3", [system, {**_USER, "content": "Good evening."}])
    called = await say("llama3", [{**_USER, "content": "What happened last night? call incidents"}], tools=_TOOLS)
    calls = [item["call_id"] for item in called["output"] or () if item["type"] == "function_call"]
    results = [{"role": "tool", "tool_call_id": each, "content": '{"count": 2, "worst": "payments"}'} for each in calls]
    await say("llama3", results, tools=_TOOLS)
    picture = {"type": "image_url", "image_url": {"url": _PIXEL}}
    seen = [{"type": "text", "text": "Is this the graph? <script>alert(1)</script>"}, picture]
    await say("qwen3-32b", [{**_USER, "content": seen}])
    await say("command-r", [{**_USER, "content": "Write the report for the customers."}])
    await say("llama3-70b", [{**_USER, "content": "Then write it in full, with a timeline."}], waits=False)
    await _keys(client)
    return {"talk": talk}


class _Talk:
    def __init__(self, client: httpx.AsyncClient, id: str) -> None:
        self._client = client
        self._id = id

    async def __call__(self, model: str, messages: list[dict[str, Any]], *, waits: bool = True, **more: Any) -> Any:
        body = {"conversation_id": self._id, "model": model, "messages": messages, **more}
        answer = await self._client.post("/v1/messages", json=body, headers={"Prefer": "respond-async"})
        answer.raise_for_status()
        path = f"/v1/requests/{answer.json()['id']}"

        async def ended() -> bool:
            return (await self._client.get(path)).json()["status"] in {"completed", "failed"}

        if waits:
            await eventually(ended, 120)
        return (await self._client.get(path)).json()


async def _keys(client: httpx.AsyncClient) -> None:
    later = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    wanted = [
        {"name": "nightly report", "expires_at": later},
        {"name": "grafana", "scopes": ["read", "operate"]},
        {"name": '<img src=x onerror="alert(1)">', "scopes": ["read"]},
        {"name": "old laptop", "scopes": ["read", "write"]},
    ]
    made = [(await client.post("/v1/keys", json=each)).json()["id"] for each in wanted]
    (await client.delete(f"/v1/keys/{made[-1]}")).raise_for_status()

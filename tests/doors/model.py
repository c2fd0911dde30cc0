"""A model that calls a tool whenever it is offered one, as Open Responses' tests expect of the model behind a door."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from llm_service.providers.smallest_json import smallest

NAME = "obliging"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("application/json", json.dumps({"object": "list", "data": [{"id": NAME, "object": "model"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chunks = [{"choices": [{"index": 0, **choice}]} for choice in _choices(body)]
        chunks.append({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}})
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        self._answer("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]))

    def _answer(self, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged."""


def _choices(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    tools = body.get("tools") or []
    if tools and body["messages"][-1]["role"] != "tool":
        function = tools[0]["function"]
        arguments = json.dumps(smallest(function.get("parameters") or {"type": "object"}))
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": ""}}
        yield {"delta": {"tool_calls": [call]}, "finish_reason": None}
        yield {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}, "finish_reason": None}
        yield {"delta": {}, "finish_reason": "tool_calls"}
    else:
        for word in ("Hello ", "to ", "you."):
            yield {"delta": {"content": word}, "finish_reason": None}
        yield {"delta": {}, "finish_reason": "stop"}


@contextmanager
def serving() -> Iterator[str]:
    """The model at this OpenAI base URL, until the body ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()

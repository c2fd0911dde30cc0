"""Read a reply while it is generated, lose the connection in the middle, and continue where it broke.

    .venv/bin/python examples/02_stream_and_resume.py "Tell me a story."

GATEWAY_URL is the gateway's URL (default http://127.0.0.1:8080), MODEL the model to use.
GATEWAY_URL_2 may name another gateway to continue at: any of them can.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import httpx

from orchestra.http.event_stream import EventStream

GATEWAY_URL = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")
GATEWAY_URL_2 = os.environ.get("GATEWAY_URL_2", GATEWAY_URL)
MODEL = os.environ.get("MODEL", "")  # Empty: the gateway's default.
DELTAS_BEFORE_THE_CUT = 3


def events(response: httpx.Response) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, id and data of each server-sent event.

    Do not use ``iter_lines``: it also splits at characters such as U+2028, which are ordinary text of a reply.
    ``orchestra/http/event_stream.py`` needs nothing but Python, so you can copy it into your own program.
    """
    stream = EventStream(max_bytes=32 * 1024 * 1024)
    for chunk in response.iter_bytes():
        for event in stream.feed(chunk):
            yield event.name, event.id, json.loads(event.data)


def main() -> None:
    """Ask; read a few pieces; hang up; read the rest."""
    question = " ".join(sys.argv[1:]) or "Tell me a story."
    body = {"messages": [{"role": "user", "content": question}], "model": MODEL, "stream": True}
    where, text, last_id, deltas = "", "", "", 0
    with httpx.stream("POST", f"{GATEWAY_URL}/v1/messages", json=body, timeout=60) as response:
        where = response.raise_for_status().headers["Location"]
        for event, event_id, data in events(response):
            last_id = event_id or last_id
            if event == "delta":
                text += data["text"]
                deltas += 1
            if deltas == DELTAS_BEFORE_THE_CUT:
                break  # Leaving the block closes the connection. The request continues.
    print(f"cut after {len(text)} characters, at event {last_id}")

    headers = {"Last-Event-ID": last_id}
    with httpx.stream("GET", f"{GATEWAY_URL_2}{where}/events", headers=headers, timeout=60) as response:
        for event, _, data in events(response.raise_for_status()):
            if event == "delta":
                text += data["text"]
            elif event == "restart":  # A new attempt has started: this is its text so far.
                text = data["text"]
    stored = httpx.get(f"{GATEWAY_URL_2}{where}").raise_for_status().json()
    print(f"{stored['status']}; all {len(text)} characters are here, as stored: {text == stored['reply']}")
    print(text)


if __name__ == "__main__":
    main()

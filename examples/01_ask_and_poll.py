"""Ask, do something else, and come back for the reply.

    .venv/bin/python examples/01_ask_and_poll.py "What is a queue?"

GATEWAY_URL is the gateway's URL (default http://127.0.0.1:8080), MODEL the model to use.
"""

import os
import sys
from uuid import uuid4

import httpx

GATEWAY_URL = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")
MODEL = os.environ.get("MODEL", "")  # Empty: the gateway's default.


def main() -> None:
    """Ask, then poll until the request has ended."""
    question = " ".join(sys.argv[1:]) or "What is a queue?"
    body = {"messages": [{"role": "user", "content": question}], "model": MODEL}
    with httpx.Client(base_url=GATEWAY_URL, timeout=60) as gateway:
        # No answer (a broken connection, 503 outcome_unknown)? Send it again with the same key: it stays one request.
        headers = {"Prefer": "respond-async", "Idempotency-Key": str(uuid4())}
        accepted = gateway.post("/v1/messages", json=body, headers=headers).raise_for_status()
        where = accepted.headers["Location"]
        print(f"{accepted.status_code} accepted as {where}")

        request = accepted.json()
        while request["status"] in ("pending", "in_progress"):
            # Answers as soon as it has ended, or after 20 s with its current state.
            request = gateway.get(where, headers={"Prefer": "wait=20"}).raise_for_status().json()
    print(request["status"])
    print(request["reply"] or request["error"])


if __name__ == "__main__":
    main()

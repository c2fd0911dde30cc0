"""What a client of the previous API does, unchanged: two turns of a conversation whose id it chose.

    .venv/bin/python examples/04_old_client.py

ORCHESTRA_GATEWAY is the gateway's URL (default http://127.0.0.1:8080).
"""

import os
import sys
from uuid import uuid4

import httpx

GATEWAY = os.environ.get("ORCHESTRA_GATEWAY", "http://127.0.0.1:8080")


def main() -> None:
    """Check that it is up; ask twice; wait for each reply on the open connection."""
    conversation_id = str(uuid4())
    with httpx.Client(base_url=GATEWAY, timeout=65) as orchestrator:
        assert orchestrator.get("/healthz").raise_for_status().text.strip() == "ok"
        for question in ("My name is Ada.", "What is my name?"):
            body = {"conversation_id": conversation_id, "messages": [{"role": "user", "content": question}]}
            answer = orchestrator.post("/v1/messages", json=body).raise_for_status().json()
            assert answer["conversation_id"] == conversation_id
            print(f"user       {question}")
            print(f"assistant  {answer['reply']}")


if __name__ == "__main__":
    try:
        main()
    except httpx.HTTPError as error:
        sys.exit(f"{GATEWAY}: {error!r}")

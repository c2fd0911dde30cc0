"""Read a reply while it is generated, lose the connection in the middle, and continue where it broke.

    .venv/bin/python examples/02_stream_and_resume.py "Tell me a story."

ORCHESTRA_GATEWAY is the gateway's URL (default http://127.0.0.1:8080), MODEL the model to use.
If it has several, separated by commas, the last continues what the first began: any of them can.

The client continues a broken stream by itself. This program shows what another program needs to continue it.
"""

import os
import sys

from orchestra.client import Client, ClientError

GATEWAYS = os.environ.get("ORCHESTRA_GATEWAY", "http://127.0.0.1:8080").split(",")
MODEL = os.environ.get("MODEL", "")  # Empty: the gateway's default.
DELTAS_BEFORE_THE_CUT = 3


def main() -> None:
    """Ask; read a few pieces; hang up; read the rest."""
    question = " ".join(sys.argv[1:]) or "Tell me a story."
    with Client(GATEWAYS[0]) as client, client.messages.stream(question, model=MODEL) as stream:
        deltas = (event for event in stream if event.type == "delta")
        for _ in range(DELTAS_BEFORE_THE_CUT):
            next(deltas, None)
        # Leaving the block closes the connection. The request continues.
    where, last_id, text = stream.request_id, stream.last_event_id, stream.text
    print(f"cut after {len(text)} characters, at event {last_id}")

    assert where
    with Client(GATEWAYS[-1]) as client:
        with client.requests.stream(where, last_event_id=last_id) as rest:
            for event in rest:
                if event.type == "delta":
                    text += event.text
                elif event.type == "restart":  # A new attempt has started: this is its text so far.
                    text = event.text
        stored = client.requests.get(where)
    print(f"{stored.status}; all {len(text)} characters are here, as stored: {text == stored.reply}")
    print(text)


if __name__ == "__main__":
    try:
        main()
    except ClientError as error:
        sys.exit(str(error))

"""Ask, do something else, and come back for the reply.

    .venv/bin/python examples/01_ask_and_poll.py "What is a queue?"

ORCHESTRA_GATEWAY is the gateway's URL (default http://127.0.0.1:8080), MODEL the model to use.
"""

import os
import sys

from orchestra.client import Client, ClientError

MODEL = os.environ.get("MODEL", "")  # Empty: the gateway's default.


def main() -> None:
    """Ask, then wait until the request has ended."""
    question = " ".join(sys.argv[1:]) or "What is a queue?"
    with Client() as client:
        accepted = client.messages.submit(question, model=MODEL)
        print(f"accepted as {accepted.id}")

        # The id is all that it takes: another program can wait for the reply, at any gateway, now or tomorrow.
        request = client.requests.wait(accepted.id)
    print(request.status)
    print(request.reply or request.error)


if __name__ == "__main__":
    try:
        main()
    except ClientError as error:
        sys.exit(str(error))

"""Options that several verbs share, and how the verbs speak of each other."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli.terminal import echo

DEFAULT_DATA = Path(".orchestra")


def _folder(name: str) -> Path:
    # As "$FOLDER" is where nothing is in it; a path would make the present folder of it.
    if not name:
        raise typer.BadParameter("the name of the folder is empty")
    return Path(name)


Data = Annotated[
    Path,
    typer.Option(
        help="Folder of the stack: data, logs, secret, state.", show_default=True, parser=_folder, metavar="PATH"
    ),
]


def _sendable(key: str | None) -> str | None:
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise typer.BadParameter("the API key has characters that cannot be sent")
    return key


GatewayUrl = Annotated[
    str | None,
    typer.Option(
        envvar="ORCHESTRA_GATEWAY",
        help="Base URL of the gateway (env: ORCHESTRA_GATEWAY). Without: that of the stack on --data, "
        "else http://127.0.0.1:8080.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="ORCHESTRA_API_KEY", help="API key (better by env: ORCHESTRA_API_KEY).", callback=_sendable),
]
ModelName = Annotated[str | None, typer.Option("--model", help="Model to use. Without: the gateway's default.")]
ConversationId = Annotated[str | None, typer.Option("--conversation", help="Id of a conversation to continue.")]


def command(*words: str, data: Path = DEFAULT_DATA) -> str:
    """A command line that calls this very program again, from the present folder, for the same stack."""
    here = min(os.path.relpath(sys.argv[0]), sys.argv[0], key=len)
    program = "orchestra" if shutil.which("orchestra") else here
    there = () if data == DEFAULT_DATA else ("--data", str(data))
    return shlex.join((program, *words, *there))


def fail(message: str, status: int = 1) -> typer.Exit:
    """Print what went wrong on stderr; raise the result to end with this exit code."""
    echo(message, err=True)
    return typer.Exit(status)

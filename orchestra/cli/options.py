"""Options that several verbs share, and how a verb refers to another one."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from orchestra.cli.terminal import echo

DEFAULT_DATA = Path(".orchestra")
# What starts a worker, by hand and in an embedded stack.
WORKER_STARTER = "`orchestra worker`, or in the stack of `make up` with `orchestra scale workers 1`"


def _folder(name: str) -> Path:
    # `--data "$FOLDER"` with FOLDER unset; as a path it would mean the current folder.
    if not name:
        raise typer.BadParameter("the folder name is empty")
    return Path(name)


Data = Annotated[
    Path,
    typer.Option(
        help="Folder of the stack: its data, logs, secret and state.", show_default=True, parser=_folder, metavar="PATH"
    ),
]


def _sendable(key: str | None) -> str | None:
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise typer.BadParameter("the API key must be printable ASCII, without spaces around it")
    return key


GatewayUrl = Annotated[
    str | None,
    typer.Option(
        envvar="ORCHESTRA_GATEWAY",
        help="Base URL of the gateway (env: ORCHESTRA_GATEWAY). Default: that of the stack on --data, "
        "else http://127.0.0.1:8080.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="ORCHESTRA_API_KEY", help="API key (preferred: env ORCHESTRA_API_KEY).", callback=_sendable),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Model to use. Default: the gateway's.")]
ConversationId = Annotated[UUID | None, typer.Option("--conversation", help="Id of the conversation to continue.")]


def command(*words: str, data: Path = DEFAULT_DATA) -> str:
    """A command line that runs this program, from the current folder, on the same stack."""
    here = min(os.path.relpath(sys.argv[0]), sys.argv[0], key=len)
    program = "orchestra" if shutil.which("orchestra") else here
    there = () if data == DEFAULT_DATA else ("--data", str(data))
    return shlex.join((program, *words, *there))


def fail(message: str, status: int = 1) -> typer.Exit:
    """Print the error on stderr. Raise the result to exit with this code."""
    echo(message, err=True)
    return typer.Exit(status)

"""Options that several verbs share, and how the verbs speak of each other."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DATA = Path(".orchestra")
Data = Annotated[Path, typer.Option(help="Folder of the stack: data, logs, secret, state.", show_default=True)]
DEFAULT_GATEWAY = "http://127.0.0.1:8080"
GatewayUrl = Annotated[
    str, typer.Option(envvar="ORCHESTRA_GATEWAY", help="Base URL of the gateway; ORCHESTRA_GATEWAY says it too.")
]
Key = Annotated[str | None, typer.Option(envvar="ORCHESTRA_API_KEY", help="API key; better said by ORCHESTRA_API_KEY.")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Which model shall answer; the gateway's default without.")
]
ConversationId = Annotated[str | None, typer.Option("--conversation", help="Id of a conversation to go on with.")]


def command(*words: str, data: Path = DEFAULT_DATA) -> str:
    """A command line that calls this very program again, from the present folder, for the same stack."""
    here = min(os.path.relpath(sys.argv[0]), sys.argv[0], key=len)
    program = "orchestra" if shutil.which("orchestra") else here
    there = () if data == DEFAULT_DATA else ("--data", str(data))
    return shlex.join((program, *words, *there))


def fail(message: str) -> typer.Exit:
    """Print what went wrong on stderr; raise the result to end with exit code 1."""
    typer.echo(message, err=True)
    return typer.Exit(1)

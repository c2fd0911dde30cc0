"""``orchestra status``: what is running, where, and whether it is ready."""

import asyncio
import json
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.cli.terminal import Terminal, echo, hand_over
from orchestra.devstack.control import ask
from orchestra.devstack.errors import NotRunningError, RefusedError
from orchestra.devstack.folder import DataFolder

_OFF: dict[str, Any] = {"state": "stopped", "url": None, "pids": []}
_NOT_RUNNING: dict[str, Any] = {
    "state": "stopped",
    "gateway": _OFF,
    "tasks": {"state": "stopped", "url": None},
    "llm_service": _OFF,
    "workers": {"state": "stopped", "pids": []},
    "kafka": {"state": "stopped", "bootstrap": None, "pids": []},
    "database": _OFF,
    "model": _OFF,
    "env": {},
}


def status(
    *,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="For programs. `env` is all that another `orchestra gateway` or `worker` needs, including secrets.",
        ),
    ] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show what is running and where. Exit code 0 if everything is ready, else 1.

    Each part is checked now. A part that runs but does not answer is `silent`, as is a worker that has not renewed its
    lease for 15 s.
    """
    try:
        answer = asyncio.run(ask(DataFolder.at(data).socket, {"do": "status"}, lambda _: None))
    except RefusedError as error:
        raise fail(str(error)) from None
    except NotRunningError as error:
        if not as_json:
            raise fail(str(error)) from None
        answer = {"status": _NOT_RUNNING}
    if as_json:
        hand_over(json.dumps(answer["status"], indent=2))
    else:
        _print_table(answer)
        _print_unread(answer["status"])
    if answer["status"]["state"] != "ready":
        raise typer.Exit(1)


def _print_table(answer: dict[str, Any]) -> None:
    Terminal().print(_table(answer))


def _print_unread(status: dict[str, Any]) -> None:
    """What is accepted and read by no worker: no list has it. Nothing if the gateway does not tell this caller."""
    if status["gateway"]["state"] != "ready":
        return
    from orchestra.client import Client, ClientError

    with suppress(ClientError), Client(status["gateway"]["url"], retry_seconds=0) as client:
        if unread := client.queue.get().unread:
            hint = "" if status["workers"]["pids"] else "; start a worker: `orchestra scale workers 1`"
            echo(f"{unread:,} accepted, not read yet{hint}")


def _table(answer: dict[str, Any]) -> Table:
    table = Table("part", "state", "pid", "address", title=f"the stack is {answer['status']['state']}")
    for part in answer["parts"]:
        colour = "green" if part["state"] == "ready" else "yellow"
        table.add_row(part["name"], Text(part["state"], colour), str(part["pid"] or "-"), part["address"])
    return table

